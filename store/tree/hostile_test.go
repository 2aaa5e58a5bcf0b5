package tree_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// hostile is an archive that somebody has made up. Its checksums and digests are right.
type hostile struct {
	what string
	// make returns the streams, or writes the snapshot itself and returns none.
	make func(sn *storetest.Snapshot) (archive, payload []byte)
	// names are what the top of the archive lists, and complete says that this is all.
	names    string
	complete bool
	// broken are paths below the top that cannot be read or entered, and whole are those of
	// files that say "fine".
	broken, whole []string
}

// pieces of archives are as long as chunks are, so that large ones have few.
const largePiece = 1 << 20

// write writes the snapshot.
func (h hostile) write(sn *storetest.Snapshot) {
	archive, payload := h.make(sn)
	if archive == nil {
		sn.Finish()
		return
	}
	file := "root.pxar.didx"
	if payload != nil {
		file = "root.mpxar.didx"
		sn.Dynamic("root.ppxar.didx", slices.Collect(slices.Chunk(payload, largePiece))...)
	}
	sn.Dynamic(file, slices.Collect(slices.Chunk(archive, largePiece))...)
	sn.Finish()
}

// changed makes an archive of a tree, changes its items, and writes it.
func changed(split bool, root *storetest.Node, change func(f *storetest.Forgery)) func(*storetest.Snapshot) ([]byte, []byte) {
	return func(*storetest.Snapshot) ([]byte, []byte) {
		archive, payload := storetest.Archive(root, split)
		f := storetest.Forge(archive)
		change(f)
		if !split {
			payload = nil
		}
		return f.Bytes(), payload
	}
}

func plain(root *storetest.Node) func(*storetest.Snapshot) ([]byte, []byte) {
	return changed(false, root, func(*storetest.Forgery) {})
}

// named returns the number of the item that is a name.
func named(f *storetest.Forgery, name string) int {
	return slices.IndexFunc(f.Items, func(it storetest.Item) bool {
		return it.Type == storetest.TypeFilename && string(it.Content) == name+"\x00"
	})
}

// table returns the table that ends a directory: the n-th of the archive.
func table(f *storetest.Forgery, n int) *storetest.Item {
	for i := range f.Items {
		if f.Items[i].Type == storetest.TypeGoodbye {
			if n == 0 {
				return &f.Items[i]
			}
			n--
		}
	}
	panic(fmt.Sprint("no table ", n))
}

func fine(name string) *storetest.Node { return storetest.File(name, "fine") }

// archives are made up, all with a file called good beside what is wrong.
func archives() []hostile {
	all := []hostile{}
	for _, n := range []string{"..", ".", "", "/", "a/b", "../../etc/passwd", "/etc/passwd", "a\x00b", strings.Repeat("n", 256), strings.Repeat("n", 4096), strings.Repeat("n", 100_000)} {
		all = append(all, hostile{
			what: fmt.Sprintf("a name %.20q of %d bytes", n, len(n)), make: plain(storetest.Dir("", fine("good"), storetest.File(n, "x"))), names: "good", whole: []string{"good"},
		})
	}
	all = append(all, cycles()...)
	all = append(all, links()...)
	all = append(all, sizes()...)
	return append(all, many()...)
}

// cycles are directories that lead back to themselves, or nowhere.
func cycles() []hostile {
	two := func() *storetest.Node {
		return storetest.Dir("", storetest.Dir("a", fine("x")), storetest.Dir("b", fine("y")), fine("good"))
	}
	return []hostile{
		{what: "a directory that lists itself", names: "a b good", whole: []string{"good", "b/y"}, complete: true, broken: []string{"a"}, make: changed(false, two(), func(f *storetest.Forgery) {
			table(f, 0).Slots[0].To, table(f, 0).Slots[0].End = named(f, "a"), named(f, "b")
		})},
		{what: "a directory that lists the top", names: "a b good", whole: []string{"good"}, complete: true, broken: []string{"a"}, make: changed(false, two(), func(f *storetest.Forgery) {
			table(f, 0).Slots[0].To, table(f, 0).Slots[0].End = 0, len(f.Items)
		})},
		{what: "two directories that list each other", names: "a b good", whole: []string{"good"}, complete: true, broken: []string{"a", "b"}, make: changed(false, two(), func(f *storetest.Forgery) {
			table(f, 0).Slots[0].To, table(f, 0).Slots[0].End = named(f, "b"), named(f, "good")
			table(f, 1).Slots[0].To, table(f, 1).Slots[0].End = named(f, "a"), named(f, "b")
		})},
		{what: "one child ten thousand times", broken: []string{""}, make: changed(false, two(), func(f *storetest.Forgery) {
			top := table(f, 2)
			top.Slots = append(slices.Repeat(top.Slots[:1], 10_000), top.Slots...)
		})},
		{what: "two children of one name", names: "a good", whole: []string{"good"}, make: plain(storetest.Dir("", storetest.Symlink("a", "/etc"), storetest.Dir("a", fine("passwd")), fine("good")))},
		{what: "a table that is not in order", names: "a b good", whole: []string{"good"}, make: changed(false, two(), func(f *storetest.Forgery) {
			top := table(f, 2)
			top.AsIs = true
			slices.SortFunc(top.Slots[:3], func(a, b storetest.Slot) int { return a.To - b.To })
		})},
		{what: "directories 100,000 deep", names: "d good", whole: []string{"good"}, complete: true, make: func(*storetest.Snapshot) ([]byte, []byte) { return nested(100_000), nil }},
	}
}

// nested returns an archive with a directory in a directory in a directory.
func nested(depth int) []byte {
	f := &storetest.Forgery{}
	dir := storetest.Forge(must(storetest.Archive(storetest.Dir(""), false))).Items[0]
	name := storetest.Item{Type: storetest.TypeFilename, Content: []byte("d\x00")}
	f.Items = append(f.Items, dir)
	for range depth {
		f.Items = append(f.Items, name, dir)
	}
	for level := depth; level >= 0; level-- {
		entry := 2 * level
		slots := []storetest.Slot{{To: entry}}
		if level < depth {
			slots = append([]storetest.Slot{{To: entry + 1, End: len(f.Items)}}, slots...)
		}
		if level == 0 { // with a file behind what is deep
			file := storetest.Forge(must(storetest.Archive(storetest.Dir("", fine("good")), false))).Items[1:4]
			slots = append([]storetest.Slot{{To: len(f.Items), End: len(f.Items) + 3}}, slots...)
			f.Items = append(f.Items, file...)
		}
		f.Items = append(f.Items, storetest.Item{Type: storetest.TypeGoodbye, Slots: slots})
	}
	return f.Bytes()
}

func must(archive, _ []byte) []byte { return archive }

// links are hard links to what is no file before them.
func links() []hostile {
	tree := func() *storetest.Node {
		f := fine("good")
		return storetest.Dir("", storetest.Dir("a", fine("x")), f, storetest.Link("l1", f), storetest.Link("l2", f))
	}
	to := func(what string, change func(f *storetest.Forgery, l1, l2 *storetest.Item), broken ...string) hostile {
		return hostile{what: what, names: "a good l1 l2", complete: broken == nil, broken: broken, whole: []string{"good", "a/x"}, make: changed(false, tree(), func(f *storetest.Forgery) {
			change(f, &f.Items[named(f, "l1")+1], &f.Items[named(f, "l2")+1])
		})}
	}
	far := func(n uint64) func(*storetest.Forgery, *storetest.Item, *storetest.Item) {
		return func(_ *storetest.Forgery, l1, _ *storetest.Item) {
			l1.Link = false
			binary.LittleEndian.PutUint64(l1.Content, n)
		}
	}
	return []hostile{
		to("a hard link to itself", func(f *storetest.Forgery, l1, _ *storetest.Item) { l1.To = named(f, "l1") }, "l1"),
		to("a hard link to a hard link", func(f *storetest.Forgery, _, l2 *storetest.Item) { l2.To = named(f, "l1") }, "l2"),
		to("hard links to each other", func(f *storetest.Forgery, l1, l2 *storetest.Item) { l1.To, l2.To = named(f, "l2"), named(f, "l1") }, "l1", "l2"),
		to("a hard link to a directory", func(f *storetest.Forgery, l1, _ *storetest.Item) { l1.To = named(f, "a") }, "l1"),
		to("a hard link to the top", func(_ *storetest.Forgery, l1, _ *storetest.Item) { l1.To = 0 }, "l1"),
		to("a hard link to before the archive", far(1<<40), "l1"),
		to("a hard link 2^64-1 bytes back", far(math.MaxUint64), "l1"),
		to("a hard link that leads forward", far(math.MaxUint64-100), "l1"),
		to("a hard link out of the archive by its path", func(_ *storetest.Forgery, l1, l2 *storetest.Item) {
			l1.Content = append(l1.Content[:8:8], "../../../etc/passwd\x00"...)
			l2.Content = append(l2.Content[:8:8], "/etc/shadow\x00"...)
		}),
	}
}

// sizes are contents that are longer than anything, or lie elsewhere.
func sizes() (out []hostile) {
	tree := func() *storetest.Node { return storetest.Dir("", storetest.File("f", "content"), fine("good")) }
	for _, n := range []uint64{1 << 63, math.MaxUint64, math.MaxUint64 - 15, math.MaxInt64, 1 << 40} {
		out = append(out, hostile{what: fmt.Sprintf("a content of %d bytes", n), names: "f good", broken: []string{"f"}, whole: []string{"good"}, make: changed(false, tree(), func(f *storetest.Forgery) {
			f.Items[3].Size = n
		})})
		out = append(out, hostile{what: fmt.Sprintf("a reference to %d bytes", n), names: "f good", complete: n == 1<<40, broken: []string{"f"}, whole: []string{"good"}, make: changed(true, tree(), func(f *storetest.Forgery) {
			binary.LittleEndian.PutUint64(f.Items[named(f, "f")+2].Content[8:], n)
		})})
		out = append(out, hostile{what: fmt.Sprintf("a reference to offset %d", n), names: "f good", complete: n == 1<<40, broken: []string{"f"}, whole: []string{"good"}, make: changed(true, tree(), func(f *storetest.Forgery) {
			binary.LittleEndian.PutUint64(f.Items[named(f, "f")+2].Content, n)
		})})
	}
	return append(out,
		hostile{what: "two references to one content", names: "f good", complete: true, whole: []string{"f", "good"}, make: changed(true, tree(), func(f *storetest.Forgery) {
			copy(f.Items[named(f, "f")+2].Content, f.Items[named(f, "good")+2].Content)
		})},
		hostile{what: "a reference into the middle of a content", names: "f good", complete: true, broken: []string{"f"}, whole: []string{"good"}, make: changed(true, tree(), func(f *storetest.Forgery) {
			binary.LittleEndian.PutUint64(f.Items[named(f, "f")+2].Content, 20)
		})},
		hostile{what: "a child that reaches into the next one", names: "f good", broken: []string{"f"}, whole: []string{"good"}, make: changed(false, tree(), func(f *storetest.Forgery) {
			for i := range table(f, 0).Slots {
				if s := &table(f, 0).Slots[i]; s.To == named(f, "f") {
					s.End = len(f.Items) - 1
				}
			}
		})},
		hostile{what: "an item of an unknown type", names: "f good", broken: []string{"f"}, whole: []string{"good"}, make: changed(false, tree(), func(f *storetest.Forgery) { f.Items[3].Type = 0x1234 })},
		hostile{what: "a type of file that is none", names: "f good", broken: []string{"f"}, whole: []string{"good"}, make: changed(false, tree(), func(f *storetest.Forgery) {
			binary.LittleEndian.PutUint64(f.Items[2].Content, 0o070644)
		})},
	)
}

// many are entries with more than they may have.
func many() []hostile {
	with := func(n int, it storetest.Item) func(*storetest.Snapshot) ([]byte, []byte) {
		return changed(false, storetest.Dir("", storetest.File("f", "content"), fine("good")), func(f *storetest.Forgery) {
			f.Items = slices.Insert(f.Items, 3, slices.Repeat([]storetest.Item{it}, n)...)
			for i := range table(f, 0).Slots { // what is behind has moved
				s := &table(f, 0).Slots[i]
				if s.To > 3 {
					s.To += n
				}
				if s.End > 3 {
					s.End += n
				}
			}
		})
	}
	return []hostile{
		{what: "100,000 attributes", names: "f good", broken: []string{"f"}, whole: []string{"good"}, make: with(100_000, storetest.Item{Type: storetest.TypeXattr, Content: []byte("user.a\x00b")})},
		{what: "attributes of 20 MiB", names: "f good", broken: []string{"f"}, whole: []string{"good"}, make: with(320, storetest.Item{Type: storetest.TypeXattr, Content: append([]byte("user.a\x00"), make([]byte, 65_000)...)})},
		{what: "an ACL of 100,000 users", names: "f good", broken: []string{"f"}, whole: []string{"good"}, make: with(100_000, storetest.Item{Type: storetest.TypeACLUser, Content: make([]byte, 16)})},
	}
}

// TestHostileArchives makes archives up: what is sound in them can be read, what is not gives an
// error about damage, a listing that leaves something out says so, and nothing takes long or much
// memory.
func TestHostileArchives(t *testing.T) {
	for _, h := range archives() {
		t.Run(h.what, func(t *testing.T) {
			s := storetest.InMemory(t)
			sn := s.Snapshot("host/a", noon)
			h.write(sn)
			v := open(t, s)
			survey(t, v, sn.Dir, true, 512<<20)
			h.check(v, sn.Dir+"/root.pxar")
		})
	}
}

// check compares what is listed and read with what is wanted.
func (h hostile) check(v *view, top string) {
	v.t.Helper()
	names, damage := v.list(top)
	if got := strings.Join(names, " "); got != h.names {
		v.t.Errorf("lists %.100q, want %q", got, h.names)
	}
	if (damage == nil) != h.complete {
		v.t.Errorf("the listing ends with %v, want one that is complete: %v", damage, h.complete)
	}
	for _, p := range h.whole {
		if got := v.read(top + "/" + p); got != "fine" {
			v.t.Errorf("%s says %q", p, got)
		}
	}
	for _, p := range h.broken {
		if err := v.use(top + "/" + p); !errors.Is(err, store.ErrCorrupt) {
			v.t.Errorf("%s: %v, want damage", p, err)
		}
	}
}

// use looks a path up, and lists or reads what is there.
func (v *view) use(path string) error {
	n, err := v.Walk(v.t.Context(), v.r, path, false)
	if err != nil {
		return err
	}
	if n.IsDir() {
		return tree.Visit(v.t.Context(), v.r, n, func(tree.Entry) error { return nil })
	}
	f, err := n.Open(v.t.Context(), v.r)
	if err != nil {
		return err
	}
	_, err = f.ReadAt(v.t.Context(), v.r, make([]byte, 1), 0)
	return err
}
