package tree_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// largeFiles is an archive with a directory "big" of some files that take several
// chunks each.
func largeFiles() *storetest.Node {
	var kids []*storetest.Node
	for i := range 20 {
		name := fmt.Sprintf("file-%02d", i)
		kids = append(kids, storetest.File(name, strings.Repeat("content of "+name+" ", 100)))
	}
	return storetest.Dir("", storetest.Dir("big", kids...), storetest.Symlink("link", "big"))
}

// largeNames are the names in "big".
func largeNames() (names []string) {
	for _, k := range largeFiles().Kids[0].Kids {
		names = append(names, k.Name)
	}
	return names
}

// removeFiles removes all chunks from the content of the first file of "big" to
// that of the last but those that the entries of kept lie in: their names,
// attributes and contents.
func removeFiles(t *testing.T, s *storetest.Store, kept ...string) {
	t.Helper()
	archive, _ := storetest.Archive(largeFiles(), false)
	find := func(text string) int {
		at := bytes.Index(archive, []byte(text))
		if at < 0 {
			t.Fatalf("no %q in the archive", text)
		}
		return at
	}
	const pastName = 200 // entry of a file, header of its content
	needed := func(begin, end int) bool {
		for _, k := range kept {
			if find(k+"\x00")-16 < end && begin < find(k+"\x00")+len(k)+1+pastName {
				return true
			}
		}
		return false
	}
	first := find("file-00\x00") // "big" and its attributes lie before
	table := find(string(binary.LittleEndian.AppendUint64(nil, 0x2fec4fa642d5731d)))
	begin, removed := 0, 0
	for _, p := range storetest.Pieces(archive) {
		end := begin + len(p)
		if begin > first && end <= table && !needed(begin, end) {
			s.Remove(storetest.ChunkFile(s.Chunk(p, nil)))
			removed++
		}
		begin = end
	}
	if removed < 50 {
		t.Fatalf("%d chunks removed", removed)
	}
}

// A directory of large files is listed though none of the chunks that its files
// lie in are there.
func TestListingReadsNoContent(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Pxar("root.pxar.didx", largeFiles())
	sn.Catalog("root.pxar.didx", largeFiles())
	sn.Finish()
	removeFiles(t, s, "file-07")
	v := open(t, s)
	big := v.walk(sn.Dir + "/root.pxar/big")
	l, err := big.List(t.Context(), v.r)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range l.Len() {
		e, err := l.At(t.Context(), v.r, i)
		if err != nil || e.Err != nil || e.Type != unix.S_IFREG {
			t.Errorf("entry %d: %+v, %v, want a file", i, e, err)
		}
		names = append(names, e.Name)
		switch child, err := big.Lookup(t.Context(), v.r, e.Name); e.Name {
		case "file-00", "file-19": // parts of them are there
		case "file-07":
			if err != nil || child.ID() != e.ID {
				t.Errorf("%s: looked up: %v, or another identity", e.Name, err)
			}
		default:
			if !errors.Is(err, store.ErrCorrupt) || e.Node != nil {
				t.Errorf("%s: looked up: %v, want corrupt data", e.Name, err)
			}
		}
	}
	if want := largeNames(); !slices.Equal(names, want) || l.Err() != nil {
		t.Errorf("%q, %v, want %q", names, l.Err(), want)
	}
}

// catalogOf returns what lists a changed tree as the archive of largeFiles.
func catalogOf(change func(big *storetest.Node)) func(*storetest.Store, *storetest.Snapshot) {
	return func(_ *storetest.Store, sn *storetest.Snapshot) {
		root := largeFiles()
		change(root.Kids[0])
		sn.Catalog("root.pxar.didx", root)
	}
}

// A catalog that does not have the archive's names adds none and hides none.
func TestCatalogsThatAreNotBelieved(t *testing.T) {
	for what, add := range map[string]func(*storetest.Store, *storetest.Snapshot){
		"none": func(*storetest.Store, *storetest.Snapshot) {},
		"noise": func(_ *storetest.Store, sn *storetest.Snapshot) {
			sn.Dynamic("catalog.pcat1.didx", []byte("this is no catalog"))
		},
		"its own parent": func(_ *storetest.Store, sn *storetest.Snapshot) {
			block := "\x12\x01\x64\x0eroot.pxar.didx\x00" // a directory 0 bytes before its parent
			sn.Dynamic("catalog.pcat1.didx", []byte("\x91\xfd\x60\xf9\xc4\x67\x58\xd5"+block+"\x08\x00\x00\x00\x00\x00\x00\x00"))
		},
		"another archive": func(_ *storetest.Store, sn *storetest.Snapshot) { sn.Catalog("etc.pxar.didx", largeFiles()) },
		"a name more": catalogOf(func(big *storetest.Node) {
			big.Kids = append(big.Kids, storetest.File("more", ""))
		}),
		"a name less":  catalogOf(func(big *storetest.Node) { big.Kids = big.Kids[1:] }),
		"another name": catalogOf(func(big *storetest.Node) { big.Kids[3] = storetest.File("other", "") }),
		"a name twice": catalogOf(func(big *storetest.Node) { big.Kids[3] = big.Kids[4] }),
		"no directory": catalogOf(func(big *storetest.Node) { *big = *storetest.File("big", "") }),
		"chunk missing": func(s *storetest.Store, sn *storetest.Snapshot) {
			s.Remove(storetest.ChunkFile(sn.Catalog("root.pxar.didx", largeFiles())[0]))
		},
		"another index": func(_ *storetest.Store, sn *storetest.Snapshot) {
			sn.Catalog("root.pxar.didx", largeFiles())
			sn.Lines[len(sn.Lines)-1].Size++
		},
	} {
		s := storetest.New(t)
		sn := s.Snapshot("host/alpha", noon)
		sn.Pxar("root.pxar.didx", largeFiles())
		add(s, sn)
		sn.Finish()
		if got, err := open(t, s).list(sn.Dir + "/root.pxar/big"); err != nil || !slices.Equal(got, largeNames()) {
			t.Errorf("%s: %q, %v, want the names of the archive", what, got, err)
		}
		removeFiles(t, s)
		if got, err := open(t, s).list(sn.Dir + "/root.pxar/big"); !errors.Is(err, store.ErrCorrupt) || len(got) > 5 {
			t.Errorf("%s, without the files: %q, %v, want corrupt data", what, got, err)
		}
	}
}

// Of a kind that the catalog has wrong, a lookup knows better.
func TestTypesAreTheArchives(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Pxar("root.pxar.didx", largeFiles())
	catalogOf(func(big *storetest.Node) {
		big.Kids[3] = storetest.Dir("file-03")
		big.Kids[4] = storetest.Link("file-04", big.Kids[5])
	})(s, sn)
	sn.Finish()
	v := open(t, s)
	big := v.walk(sn.Dir + "/root.pxar/big")
	for i, want := range map[int]uint32{3: unix.S_IFDIR, 4: unix.S_IFREG, 5: unix.S_IFREG} {
		l, err := big.List(t.Context(), v.r)
		if err != nil {
			t.Fatal(err)
		}
		e, err := l.At(t.Context(), v.r, i)
		if err != nil || e.Err != nil || e.Type != want {
			t.Errorf("%d: %+v, %v, want type %o", i, e, err, want)
		}
		child, err := big.Lookup(t.Context(), v.r, e.Name)
		if err != nil || child.Type() != unix.S_IFREG || child.ID() != e.ID {
			t.Errorf("%s: looked up: %v, or not the file", e.Name, err)
		}
	}
}

// What the catalog lists has the identities and types that lookups give; hard
// links and what lies below directories too.
func TestCataloguedEntriesAreThoseLookedUp(t *testing.T) {
	first := storetest.File("first", strings.Repeat("1", 1000))
	root := storetest.Dir("",
		first, storetest.Symlink("symlink", "x"), storetest.Device("dev"), storetest.Dir("empty"),
		storetest.Dir("d", storetest.Dir("e", storetest.File("big", strings.Repeat("2", 3000)), storetest.Link("again", first), storetest.File("c", "3"))),
		storetest.Link("here", first),
		storetest.File("last", strings.Repeat("4", 3000)),
	)
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Pxar("root.pxar.didx", root)
	sn.Catalog("root.pxar.didx", root)
	sn.Finish()
	v := open(t, s)
	for path, want := range map[string][]string{
		"": {"d", "dev", "empty", "first", "here", "last", "symlink"}, "/d/e": {"again", "big", "c"}, "/d": {"e"}, "/empty": nil,
	} {
		if got, err := v.list(sn.Dir + "/root.pxar" + path); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
}

// A hard link that cannot be read is listed all the same.
func TestUnreadableHardLinkIsListed(t *testing.T) {
	root := func() *storetest.Node {
		r := largeFiles()
		big := r.Kids[0]
		big.Kids[10] = storetest.Link(big.Kids[10].Name, big.Kids[0])
		return r
	}
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	digests := sn.Pxar("root.pxar.didx", root())
	sn.Catalog("root.pxar.didx", root())
	sn.Finish()
	archive, _ := storetest.Archive(root(), false)
	at := bytes.Index(archive, []byte("file-10\x00"))
	lost := digests[at/len(storetest.Pieces(archive)[0])]
	s.Remove(storetest.ChunkFile(lost))
	v := open(t, s)
	var e tree.Entry
	l, err := v.walk(sn.Dir+"/root.pxar/big").List(t.Context(), v.r)
	if err == nil {
		e, err = l.At(t.Context(), v.r, 10)
	}
	if err != nil || e.Err != nil || e.Name != "file-10" || e.Type != unix.S_IFREG || e.ID == (tree.ID{}) {
		t.Errorf("%+v, %v, want the link", e, err)
	}
}

// What is remembered of an entry is what a lookup returns; of hard links nothing is.
func TestRememberedEntriesAreThoseOfALookup(t *testing.T) {
	for _, split := range []bool{false, true} {
		first := storetest.File("first", "content").With("user.note", "n")
		root := storetest.Dir("", storetest.Dir("dir", first, storetest.Link("again", first), storetest.Symlink("link", "first"), storetest.Dir("sub")))
		s := storetest.New(t)
		sn := s.Snapshot("host/alpha", noon)
		if split {
			sn.Split("root", root)
		} else {
			sn.Pxar("root.pxar.didx", root)
		}
		sn.Finish()
		v := open(t, s)
		dir := v.walk(sn.Dir + "/root.pxar/dir")
		for _, k := range root.Kids[0].Kids {
			want, err := dir.Lookup(t.Context(), v.r, k.Name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := dir.Remembered(k.Name)
			switch {
			case k.Name == "again":
				if !errors.Is(err, store.ErrNotInMemory) {
					t.Errorf("a hard link: %v, %v", got, err)
				}
			case err != nil || !reflect.DeepEqual(got, want):
				t.Errorf("%s: %+v, %v, want %+v", k.Name, got, err, want)
			}
		}
	}
}
