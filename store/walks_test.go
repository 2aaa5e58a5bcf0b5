package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// farDirs is an archive of directories between which there is more content than a reader
// of the stream would skip.
func farDirs(n int) *storetest.Node {
	root := storetest.Dir("")
	for i := range n {
		content := strings.Repeat(fmt.Sprintf("content %d ", i), 400)
		root.Kids = append(root.Kids, storetest.Dir(dirName(i), storetest.File("content", content)), storetest.File(dirName(i)+" and after", content))
	}
	return root
}

func dirName(i int) string { return fmt.Sprintf("dir-%02d", i) }

// far is such an archive, open.
type far struct {
	*place
	r      *store.Reader
	a      *store.Archive
	root   pxar.Dir
	chunks []name.Digest
}

func openFarDirs(t *testing.T) *far {
	t.Helper()
	f := &far{place: newPlace(t)}
	sn := f.Snapshot(alpha, noon)
	f.chunks = sn.Pxar("root.pxar.didx", farDirs(8))
	sn.Finish()
	f.r = f.reader()
	s := f.load(f.r, sn.Dir)
	var err error
	if f.a, err = s.Archive(t.Context(), f.r, f.line(s, "root.pxar.didx")); err != nil {
		t.Fatal(err)
	}
	root, err := f.a.Root(t.Context(), f.r)
	if err != nil {
		t.Fatal(err)
	}
	f.root = root.Dir
	return f
}

// removeAll removes the chunks, of which some are the same.
func (f *far) removeAll() {
	gone := make(map[name.Digest]bool)
	for _, d := range f.chunks {
		if !gone[d] {
			f.Remove(storetest.ChunkFile(d))
		}
		gone[d] = true
	}
}

// visit comes to a directory, as a program does that goes from one to the next, and
// returns those of its children that are directories.
func (f *far) visit(dir pxar.Dir) (dirs []pxar.Dir) {
	f.t.Helper()
	table, err := f.a.Table(f.t.Context(), f.r, dir)
	if err != nil {
		f.t.Fatal(err)
	}
	v := f.a.Visit(table)
	for n := 0; ; n++ {
		i, ok := table.Only(dirName(n))
		if !ok {
			break
		}
		_, e, err := f.a.Child(f.t.Context(), f.r, table, i)
		if err != nil {
			f.t.Fatal(err)
		}
		dirs = append(dirs, e.Dir)
		v.Below(i)
	}
	v.Ahead(f.t.Context(), f.r)
	store.WaitForLoads(f.ref)
	return dirs
}

func TestWalkHasItsNextDirectoriesLoaded(t *testing.T) {
	for _, c := range []struct {
		name    string
		visited []int // of the directories below the top, after the top
		next    int
		loaded  bool
	}{
		{"not at the top", nil, 0, false},
		{"after two", []int{0, 1}, 2, true},
		{"after some", []int{0, 1, 2}, 3, true},
		{"but some are left out", []int{0, 1, 3}, 4, true},
		{"not after a jump back", []int{5, 0}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := openFarDirs(t)
			dirs := f.visit(f.root)
			for _, i := range c.visited {
				f.visit(dirs[i])
			}
			f.removeAll()
			_, err := f.a.Table(t.Context(), f.r, dirs[c.next])
			if loaded := err == nil; loaded != c.loaded || err != nil && !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("the table of the next directory is in memory: %v, want %v (%v)", loaded, c.loaded, err)
			}
		})
	}
}
