package pxar

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

// linked is a tree with hard links across directories.
func linked() (root, a, b *node) {
	a, b = file("a", "content"), file("b", "")
	root = dir("", dir("one", a, linkTo("a2", a), dir("deep", b)), dir("two", linkTo("a3", a), linkTo("b2", b), file("plain", "")))
	return root, a, b
}

func TestLinks(t *testing.T) {
	for _, split := range []bool{false, true} {
		root, fa, fb := linked()
		ar, r := mustOpen(t, (&encoder{split: split}).archive(root))
		got, err := ar.CountLinks(context.Background(), r)
		if want := map[int64]int{fa.namePos: 2, fb.namePos: 1}; err != nil || !maps.Equal(got, want) {
			t.Errorf("links %v, %v, want %v", got, err, want)
		}
		for path, want := range map[string]int64{
			"one/a2": fa.namePos, "two/a3": fa.namePos, "two/b2": fb.namePos,
			"one/a": 0, "one": 0, "missing": 0, "one/missing/x": 0, "one/a/x": 0, "one/a2/x": 0, "": 0,
		} {
			pos, ok, err := ar.LinkTarget(r, strings.Split(path, "/"), tablesOf(ar, r))
			if pos != want || ok != (want != 0) || err != nil {
				t.Errorf("LinkTarget(%q) = %d, %v, %v, want %d", path, pos, ok, err, want)
			}
		}
		if _, ok, err := ar.LinkTarget(r, nil, tablesOf(ar, r)); ok || err != nil {
			t.Errorf("LinkTarget of the root: %v, %v", ok, err)
		}
		e, err := get(ar, r, "two/b2")
		if err != nil || !e.Link || e.NamePos != fb.namePos {
			t.Errorf("two/b2 = %+v, %v", e, err)
		}
	}
}

func TestPathOf(t *testing.T) {
	for _, split := range []bool{false, true} {
		root, a, b := linked()
		ar, r := mustOpen(t, (&encoder{split: split}).archive(root))
		for pos, want := range map[int64]string{
			0: "", a.namePos: "one/a", b.namePos: "one/deep/b",
			root.kids[1].kids[0].namePos: "two/a3", root.kids[1].namePos: "two",
		} {
			got, err := ar.PathOf(r, pos, tablesOf(ar, r))
			if err != nil || strings.Join(got, "/") != want {
				t.Errorf("PathOf(%d) = %q, %v, want %s", pos, got, err, want)
			}
		}
		for _, pos := range []int64{-1, 1, a.namePos + 1, a.pos, a.end - 1, root.kids[0].pos, ar.Size() - 1, ar.Size(), 1 << 62} {
			got, err := ar.PathOf(r, pos, tablesOf(ar, r))
			if err == nil {
				t.Errorf("PathOf(%d) = %q", pos, got)
			}
		}
	}
}

// TestPathOfDoesNotEnterFiles has a file whose content ends like a directory.
func TestPathOfDoesNotEnterFiles(t *testing.T) {
	fake := (&encoder{}).archive(dir("", file("x", "")))[56:]
	n := file("f", string(fake))
	e := encoder{}
	b := e.archive(dir("", n))
	copy(b[n.end-16:], nums(uint64(n.end-64-n.pos))) // the tail now points to the file's ENTRY
	ar, r := mustOpen(t, b)
	_, err := ar.PathOf(r, n.pos+56+16, tablesOf(ar, r))
	wantCorrupt(t, "name in the content of a file", err)
}

func TestCountLinksGoesOnAfterWrongBytes(t *testing.T) {
	f := file("a", "x")
	root := dir("", f, file("bad/name", ""), raw("bad", item(1)), raw("baddir", stat(0o40755)), linkTo("z", f),
		raw("zz", item(itemHardlink, nums(0), []byte("\x00"))))
	ar, r := mustOpen(t, (&encoder{}).archive(root))
	got, err := ar.CountLinks(context.Background(), r)
	wantCorrupt(t, "CountLinks", err)
	if !maps.Equal(got, map[int64]int{f.namePos: 1}) {
		t.Errorf("links %v, want one to %d", got, f.namePos)
	}
}

func TestCountLinksRejectsLinksWithoutName(t *testing.T) {
	root := dir("", file("a", "x"), raw("b", stat(0o100644), item(itemHardlink, nums(50), []byte("\x00"))))
	ar, r := mustOpen(t, (&encoder{split: true}).archive(root))
	_, err := ar.CountLinks(context.Background(), r)
	wantCorrupt(t, "CountLinks", err)
}

func TestCountLinksEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, split := range []bool{false, true} {
		root, _, _ := linked()
		b := (&encoder{split: split}).archive(root)
		ar, r := mustOpen(t, b)
		if _, err := ar.CountLinks(ctx, r); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		gone := errors.New("gone")
		if _, err := ar.CountLinks(context.Background(), brokenAt{r, 200, gone}); !errors.Is(err, gone) {
			t.Errorf("broken source: %v", err)
		}
	}
}

// BenchmarkListing reads every name and entry of a large directory.
func BenchmarkListing(b *testing.B) {
	root := dir("")
	for i := range 10000 {
		root.kids = append(root.kids, file("file"+string(rune(0x4e00+i)), "content"))
	}
	ar, r := mustOpen(b, (&encoder{split: true}).archive(root))
	b.ReportAllocs()
	for b.Loop() {
		tab, err := ar.ReadTable(r, ar.Root())
		if err != nil {
			b.Fatal(err)
		}
		for i := range tab.Len() {
			c, err := tab.Child(r, i)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := ar.ReadEntry(r, c); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10000, "ns/entry")
}

// BenchmarkLookup searches a large directory for one name.
func BenchmarkLookup(b *testing.B) {
	root := dir("")
	for i := range 10000 {
		root.kids = append(root.kids, file("file"+string(rune(0x4e00+i)), "content"))
	}
	ar, r := mustOpen(b, (&encoder{split: true}).archive(root))
	tab, err := ar.ReadTable(r, ar.Root())
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := tab.Lookup(r, root.kids[i%len(root.kids)].name); err != nil {
			b.Fatal(err)
		}
	}
}

func TestChildrenKeepArchiveOrder(t *testing.T) {
	root := dir("", file("z", ""), file("m", ""), file("a", ""))
	if got, _ := names(t, (&encoder{}).archive(root)); !slices.Equal(got, []string{"z", "m", "a"}) {
		t.Errorf("order %q, want that of the archive", got)
	}
}
