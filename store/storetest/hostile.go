package storetest

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Hostile is an archive that somebody has made up: "root.pxar". Its checksums and digests are
// right.
type Hostile struct {
	What string
	// Names are what the top of the archive lists, and Complete says that this is all.
	Names    string
	Complete bool
	// Broken are paths below the top that cannot be read or entered, and Whole are those of
	// files that say "fine".
	Broken, Whole []string

	make func() (archive, payload []byte)
}

// pieces of archives are as long as chunks are, so that large ones have few.
const largePiece = 1 << 20

// Write adds the archive to a snapshot.
func (h Hostile) Write(sn *Snapshot) {
	sn.s.t.Helper()
	archive, payload := h.make()
	file := "root.pxar.didx"
	if payload != nil {
		file = "root.mpxar.didx"
		sn.Dynamic("root.ppxar.didx", slices.Collect(slices.Chunk(payload, largePiece))...)
	}
	sn.Dynamic(file, slices.Collect(slices.Chunk(archive, largePiece))...)
}

// changed makes an archive of a tree, changes its items, and writes it.
func changed(split bool, root *Node, change func(f *Forgery)) func() ([]byte, []byte) {
	return func() ([]byte, []byte) {
		archive, payload := Archive(root, split)
		f := Forge(archive)
		change(f)
		if !split {
			payload = nil
		}
		return f.Bytes(), payload
	}
}

func plain(root *Node) func() ([]byte, []byte) {
	return changed(false, root, func(*Forgery) {})
}

// named returns the number of the item that is a name.
func named(f *Forgery, name string) int {
	return slices.IndexFunc(f.Items, func(it Item) bool {
		return it.Type == TypeFilename && string(it.Content) == name+"\x00"
	})
}

// table returns the table that ends a directory: the n-th of the archive.
func table(f *Forgery, n int) *Item {
	for i := range f.Items {
		if f.Items[i].Type == TypeGoodbye {
			if n == 0 {
				return &f.Items[i]
			}
			n--
		}
	}
	panic(fmt.Sprint("no table ", n))
}

func fine(name string) *Node { return File(name, "fine") }

// HostileArchives returns archives, all with a file called good beside what is wrong.
func HostileArchives() []Hostile {
	all := []Hostile{}
	for _, n := range []string{"..", ".", "", "/", "a/b", "../../etc/passwd", "/etc/passwd", "a\x00b", strings.Repeat("n", 256), strings.Repeat("n", 4096), strings.Repeat("n", 100_000)} {
		all = append(all, Hostile{
			What: fmt.Sprintf("a name %.20q of %d bytes", n, len(n)), make: plain(Dir("", fine("good"), File(n, "x"))), Names: "good", Whole: []string{"good"},
		})
	}
	all = append(all, cycles()...)
	all = append(all, links()...)
	all = append(all, sizes()...)
	return append(all, many()...)
}

// cycles are directories that lead back to themselves, or nowhere.
func cycles() []Hostile {
	two := func() *Node {
		return Dir("", Dir("a", fine("x")), Dir("b", fine("y")), fine("good"))
	}
	return []Hostile{
		{What: "a directory that lists itself", Names: "a b good", Whole: []string{"good", "b/y"}, Complete: true, Broken: []string{"a"}, make: changed(false, two(), func(f *Forgery) {
			table(f, 0).Slots[0].To, table(f, 0).Slots[0].End = named(f, "a"), named(f, "b")
		})},
		{What: "a directory that lists the top", Names: "a b good", Whole: []string{"good"}, Complete: true, Broken: []string{"a"}, make: changed(false, two(), func(f *Forgery) {
			table(f, 0).Slots[0].To, table(f, 0).Slots[0].End = 0, len(f.Items)
		})},
		{What: "two directories that list each other", Names: "a b good", Whole: []string{"good"}, Complete: true, Broken: []string{"a", "b"}, make: changed(false, two(), func(f *Forgery) {
			table(f, 0).Slots[0].To, table(f, 0).Slots[0].End = named(f, "b"), named(f, "good")
			table(f, 1).Slots[0].To, table(f, 1).Slots[0].End = named(f, "a"), named(f, "b")
		})},
		{What: "one child ten thousand times", Broken: []string{""}, make: changed(false, two(), func(f *Forgery) {
			top := table(f, 2)
			top.Slots = append(slices.Repeat(top.Slots[:1], 10_000), top.Slots...)
		})},
		{What: "two children of one name", Names: "a good", Whole: []string{"good"}, make: plain(Dir("", Symlink("a", "/etc"), Dir("a", fine("passwd")), fine("good")))},
		{What: "a table that is not in order", Names: "a b good", Whole: []string{"good"}, make: changed(false, two(), func(f *Forgery) {
			top := table(f, 2)
			top.AsIs = true
			slices.SortFunc(top.Slots[:3], func(a, b Slot) int { return a.To - b.To })
		})},
		{What: "directories 100,000 deep", Names: "d good", Whole: []string{"good"}, Complete: true, make: func() ([]byte, []byte) { return nested(100_000), nil }},
	}
}

// nested returns an archive with a directory in a directory in a directory.
func nested(depth int) []byte {
	f := &Forgery{}
	dir := Forge(must(Archive(Dir(""), false))).Items[0]
	name := Item{Type: TypeFilename, Content: []byte("d\x00")}
	f.Items = append(f.Items, dir)
	for range depth {
		f.Items = append(f.Items, name, dir)
	}
	for level := depth; level >= 0; level-- {
		entry := 2 * level
		slots := []Slot{{To: entry}}
		if level < depth {
			slots = append([]Slot{{To: entry + 1, End: len(f.Items)}}, slots...)
		}
		if level == 0 { // with a file behind what is deep
			file := Forge(must(Archive(Dir("", fine("good")), false))).Items[1:4]
			slots = append([]Slot{{To: len(f.Items), End: len(f.Items) + 3}}, slots...)
			f.Items = append(f.Items, file...)
		}
		f.Items = append(f.Items, Item{Type: TypeGoodbye, Slots: slots})
	}
	return f.Bytes()
}

func must(archive, _ []byte) []byte { return archive }

// links are hard links to what is no file before them.
func links() []Hostile {
	tree := func() *Node {
		f := fine("good")
		return Dir("", Dir("a", fine("x")), f, Link("l1", f), Link("l2", f))
	}
	to := func(what string, change func(f *Forgery, l1, l2 *Item), broken ...string) Hostile {
		return Hostile{What: what, Names: "a good l1 l2", Complete: broken == nil, Broken: broken, Whole: []string{"good", "a/x"}, make: changed(false, tree(), func(f *Forgery) {
			change(f, &f.Items[named(f, "l1")+1], &f.Items[named(f, "l2")+1])
		})}
	}
	far := func(n uint64) func(*Forgery, *Item, *Item) {
		return func(_ *Forgery, l1, _ *Item) {
			l1.Link = false
			binary.LittleEndian.PutUint64(l1.Content, n)
		}
	}
	return []Hostile{
		to("a hard link to itself", func(f *Forgery, l1, _ *Item) { l1.To = named(f, "l1") }, "l1"),
		to("a hard link to a hard link", func(f *Forgery, _, l2 *Item) { l2.To = named(f, "l1") }, "l2"),
		to("hard links to each other", func(f *Forgery, l1, l2 *Item) { l1.To, l2.To = named(f, "l2"), named(f, "l1") }, "l1", "l2"),
		to("a hard link to a directory", func(f *Forgery, l1, _ *Item) { l1.To = named(f, "a") }, "l1"),
		to("a hard link to the top", func(_ *Forgery, l1, _ *Item) { l1.To = 0 }, "l1"),
		to("a hard link to before the archive", far(1<<40), "l1"),
		to("a hard link 2^64-1 bytes back", far(math.MaxUint64), "l1"),
		to("a hard link that leads forward", far(math.MaxUint64-100), "l1"),
		to("a hard link out of the archive by its path", func(_ *Forgery, l1, l2 *Item) {
			l1.Content = append(l1.Content[:8:8], "../../../etc/passwd\x00"...)
			l2.Content = append(l2.Content[:8:8], "/etc/shadow\x00"...)
		}),
	}
}

// sizes are contents that are longer than anything, or lie elsewhere.
func sizes() (out []Hostile) {
	tree := func() *Node { return Dir("", File("f", "content"), fine("good")) }
	for _, n := range []uint64{1 << 63, math.MaxUint64, math.MaxUint64 - 15, math.MaxInt64, 1 << 40} {
		out = append(out, Hostile{What: fmt.Sprintf("a content of %d bytes", n), Names: "f good", Broken: []string{"f"}, Whole: []string{"good"}, make: changed(false, tree(), func(f *Forgery) {
			f.Items[3].Size = n
		})})
		out = append(out, Hostile{What: fmt.Sprintf("a reference to %d bytes", n), Names: "f good", Complete: n == 1<<40, Broken: []string{"f"}, Whole: []string{"good"}, make: changed(true, tree(), func(f *Forgery) {
			binary.LittleEndian.PutUint64(f.Items[named(f, "f")+2].Content[8:], n)
		})})
		out = append(out, Hostile{What: fmt.Sprintf("a reference to offset %d", n), Names: "f good", Complete: n == 1<<40, Broken: []string{"f"}, Whole: []string{"good"}, make: changed(true, tree(), func(f *Forgery) {
			binary.LittleEndian.PutUint64(f.Items[named(f, "f")+2].Content, n)
		})})
	}
	return append(out,
		Hostile{What: "two references to one content", Names: "f good", Complete: true, Whole: []string{"f", "good"}, make: changed(true, tree(), func(f *Forgery) {
			copy(f.Items[named(f, "f")+2].Content, f.Items[named(f, "good")+2].Content)
		})},
		Hostile{What: "a reference into the middle of a content", Names: "f good", Complete: true, Broken: []string{"f"}, Whole: []string{"good"}, make: changed(true, tree(), func(f *Forgery) {
			binary.LittleEndian.PutUint64(f.Items[named(f, "f")+2].Content, 20)
		})},
		Hostile{What: "a child that reaches into the next one", Names: "f good", Broken: []string{"f"}, Whole: []string{"good"}, make: changed(false, tree(), func(f *Forgery) {
			for i := range table(f, 0).Slots {
				if s := &table(f, 0).Slots[i]; s.To == named(f, "f") {
					s.End = len(f.Items) - 1
				}
			}
		})},
		Hostile{What: "an item of an unknown type", Names: "f good", Broken: []string{"f"}, Whole: []string{"good"}, make: changed(false, tree(), func(f *Forgery) { f.Items[3].Type = 0x1234 })},
		Hostile{What: "a type of file that is none", Names: "f good", Broken: []string{"f"}, Whole: []string{"good"}, make: changed(false, tree(), func(f *Forgery) {
			binary.LittleEndian.PutUint64(f.Items[2].Content, 0o070644)
		})},
	)
}

// many are entries with more than they may have.
func many() []Hostile {
	with := func(n int, it Item) func() ([]byte, []byte) {
		return changed(false, Dir("", File("f", "content"), fine("good")), func(f *Forgery) {
			f.Items = slices.Insert(f.Items, 3, slices.Repeat([]Item{it}, n)...)
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
	return []Hostile{
		{What: "100,000 attributes", Names: "f good", Broken: []string{"f"}, Whole: []string{"good"}, make: with(100_000, Item{Type: TypeXattr, Content: []byte("user.a\x00b")})},
		{What: "attributes of 20 MiB", Names: "f good", Broken: []string{"f"}, Whole: []string{"good"}, make: with(320, Item{Type: TypeXattr, Content: append([]byte("user.a\x00"), make([]byte, 65_000)...)})},
		{What: "an ACL of 100,000 users", Names: "f good", Broken: []string{"f"}, Whole: []string{"good"}, make: with(100_000, Item{Type: TypeACLUser, Content: make([]byte, 16)})},
	}
}
