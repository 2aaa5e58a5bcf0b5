package pxar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestLookup(t *testing.T) {
	for _, n := range []int{0, 1, 2, 5, 100, 3000} {
		root := dir("")
		for i := range n {
			root.kids = append(root.kids, file(fmt.Sprintf("f%05d", i), ""))
		}
		b := (&encoder{}).archive(root)
		if got, errs := names(t, b); len(got) != n || errs != nil || !slices.IsSorted(got) {
			t.Errorf("%d children: %d names, %v", n, len(got), errs)
		}
		a, r := mustOpen(t, b)
		tab, err := a.ReadTable(r, a.Root())
		if err != nil || tab.Err() != nil {
			t.Fatal(err, tab.Err())
		}
		for _, name := range []string{"", ".", "missing", "f00000\x00", "a/b", strings.Repeat("n", 300)} {
			if _, err := tab.Lookup(r, name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Lookup(%q): %v, want not there", name, err)
			}
		}
		for _, i := range []int{-1, n} {
			if _, err := tab.Child(r, i); err == nil {
				t.Errorf("Child(%d) of %d", i, n)
			}
		}
	}
}

func TestUnorderedTable(t *testing.T) {
	e := encoder{table: func(_ *node, _ int64, s []slot) []slot {
		slices.Reverse(s)
		return s
	}}
	b := e.archive(dir("", file("a", ""), file("b", ""), file("c", ""), file("d", ""), file("e", "")))
	if got, errs := names(t, b); len(got) != 5 || errs != nil {
		t.Errorf("names %q, %v", got, errs)
	}
	a, r := mustOpen(t, b)
	tab, _ := a.ReadTable(r, a.Root())
	wantCorrupt(t, "Err", tab.Err())
	_, err := tab.Lookup(r, "missing")
	wantCorrupt(t, "Lookup of a name that may be there", err)
}

func TestDuplicateNames(t *testing.T) {
	for _, n := range []int{2, 3, 40} {
		root := dir("", file("0", ""))
		for range n {
			root.kids = append(root.kids, file("same", ""))
		}
		b := (&encoder{}).archive(root)
		got, errs := names(t, b)
		if !slices.Equal(got, []string{"0", "same"}) || len(errs) != n-1 {
			t.Errorf("names %q, %d errors, want %d", got, len(errs), n-1)
		}
		for _, err := range errs {
			wantCorrupt(t, "duplicate", err)
		}
		if e := mustGet(t, b, "same"); e.NamePos != root.kids[1].namePos {
			t.Errorf("same is at %d, want %d", e.NamePos, root.kids[1].namePos)
		}
	}
}

// TestSharedHash gives several children the hash of one: real collisions are
// out of reach, but the way to the right one is the same.
func TestSharedHash(t *testing.T) {
	for right := range 5 {
		root := dir("")
		for i := range 5 {
			root.kids = append(root.kids, file(string(rune('a'+i)), ""))
		}
		want := root.kids[right].name
		e := encoder{table: func(_ *node, _ int64, s []slot) []slot {
			for i := range s {
				s[i].hash = hashName([]byte(want))
			}
			return s
		}}
		got, errs := names(t, e.archive(root))
		if !slices.Equal(got, []string{want}) || len(errs) != 4 {
			t.Errorf("names %q, %d errors, want %s and 4", got, len(errs), want)
		}
	}
}

func TestMalformedTableItems(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(goodbye int64, s *slot) // of "b"
		table  bool                         // the table is not sound
	}{
		"no distance":         {func(_ int64, s *slot) { s.back = 0 }, true},
		"behind the table":    {func(_ int64, s *slot) { s.back = math.MaxUint64 }, true},
		"before the entry":    {func(g int64, s *slot) { s.back = uint64(g) + 1 }, true},
		"into the entry":      {func(g int64, s *slot) { s.back = uint64(g) - 10 }, true},
		"at another child":    {func(g int64, s *slot) { s.back = uint64(g) - 56 }, true},
		"between children":    {func(_ int64, s *slot) { s.back++ }, false},
		"end before it":       {func(_ int64, s *slot) { s.size = 0 }, false},
		"end in the next":     {func(_ int64, s *slot) { s.size += 2 }, false},
		"end behind the rest": {func(_ int64, s *slot) { s.size = math.MaxUint64 }, false},
		"end too early":       {func(_ int64, s *slot) { s.size -= 2 }, false},
		"another hash":        {func(_ int64, s *slot) { s.hash++ }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := encoder{table: func(n *node, goodbye int64, s []slot) []slot {
				for i := range s {
					if n.namePos == -1 && s[i].hash == hashName([]byte("b")) {
						tc.change(goodbye, &s[i])
					}
				}
				return s
			}}
			a, r := mustOpen(t, e.archive(dir("", file("a", "x"), dir("b", file("x", "")), file("c", "x"))))
			tab, err := a.ReadTable(r, a.Root())
			if err != nil {
				t.Fatal(err)
			}
			if tc.table {
				wantCorrupt(t, "Err", tab.Err())
			} else if tab.Err() != nil {
				t.Errorf("Err: %v", tab.Err())
			}
			if e, err := get(a, r, "c"); err != nil || e.Type() != TypeRegular {
				t.Errorf("sibling: %v", err)
			}
			e2, err := get(a, r, "b")
			if err == nil {
				_, err = a.ReadTable(r, e2.Dir)
			}
			if err == nil {
				t.Error("child of a malformed item can be read")
			}
		})
	}
}

func TestMalformedTails(t *testing.T) {
	for name, change := range map[string]func(*slot){
		"hash":             func(s *slot) { s.hash++ },
		"size zero":        func(s *slot) { s.size = 0 },
		"size too small":   func(s *slot) { s.size -= 24 },
		"size too large":   func(s *slot) { s.size += 24 },
		"size not whole":   func(s *slot) { s.size++ },
		"size huge":        func(s *slot) { s.size = math.MaxUint64 - 7 },
		"entry elsewhere":  func(s *slot) { s.back-- },
		"entry underflows": func(s *slot) { s.back = math.MaxUint64 },
	} {
		for _, dirName := range []string{"", "d"} {
			e := encoder{tail: func(n *node, s *slot) {
				if n.name == dirName {
					change(s)
				}
			}}
			b := e.archive(dir("", file("a", ""), dir("d", file("x", ""), file("y", ""))))
			r := bytes.NewReader(b)
			a, err := Open(r, int64(len(b)))
			if err == nil {
				_, err = get(a, r, "d/x")
			}
			wantCorrupt(t, name+" of the tail of "+dirName, err)
		}
	}
}

func TestChildrenMayNotOverlap(t *testing.T) {
	// The root lists what is inside "d" as well: the tree would be a graph.
	var inner *node
	e := encoder{table: func(n *node, goodbye int64, s []slot) []slot {
		if n.namePos == -1 {
			s = treeOrder(append(s, slot{hashName([]byte("x")), uint64(goodbye - inner.namePos), uint64(inner.end - inner.namePos)}))
		}
		return s
	}}
	inner = dir("x", file("y", ""))
	a, r := mustOpen(t, e.archive(dir("", dir("d", inner))))
	_, err := get(a, r, "d")
	wantCorrupt(t, "directory over another child", err)
	if _, err := get(a, r, "x"); err == nil {
		return // either of them is fine, not both
	}
}

func TestOpenRejects(t *testing.T) {
	good := (&encoder{split: true, prelude: "p"}).archive(sample())
	version := func(content []byte) []byte {
		return append(item(itemVersion, content), good[24:]...)
	}
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"too small":        good[:87],
		"cut":              good[:len(good)-1],
		"version 0":        version(nums(0)),
		"version 3":        version(nums(3)),
		"version of 16":    version(nums(2, 2)),
		"version of none":  version(nil),
		"huge prelude":     slices.Concat(item(itemVersion, nums(2)), item(itemPrelude, make([]byte, 1<<20+1)), good[24:]),
		"prelude too long": slices.Concat(item(itemVersion, nums(2)), sized(1<<40, item(itemPrelude)), good[24:]),
	} {
		_, err := Open(bytes.NewReader(b), int64(len(b)))
		wantCorrupt(t, name, err)
	}
	_, err := Open(bytes.NewReader(good), -1)
	wantCorrupt(t, "negative size", err)
	for name, root := range map[string][]byte{"no entry": item(itemFilename, make([]byte, 40)), "no directory": stat(0o100644)} {
		b := append(root, (&encoder{}).archive(dir(""))[56:]...)
		a, r := mustOpen(t, b)
		_, err := a.ReadRoot(r)
		wantCorrupt(t, name, err)
	}
}

func TestDepthIsBounded(t *testing.T) {
	root := dir("d", file("f", ""))
	for range maxDepth + 1 {
		root = dir("d", root)
	}
	a, r := mustOpen(t, (&encoder{}).archive(root))
	if _, err := get(a, r, strings.Repeat("d/", maxDepth)[:2*maxDepth-1]); err != nil {
		t.Errorf("%d levels: %v", maxDepth, err)
	}
	_, err := get(a, r, strings.Repeat("d/", maxDepth)+"d")
	wantCorrupt(t, "one level more", err)
	_, err = a.CountLinks(context.Background(), r)
	wantCorrupt(t, "CountLinks", err)
}

func TestPathIsBounded(t *testing.T) {
	name := strings.Repeat("n", 255)
	root := dir(name)
	for range 300 {
		root = dir(name, root)
	}
	a, r := mustOpen(t, (&encoder{}).archive(root))
	_, err := get(a, r, strings.Repeat(name+"/", 256)+name)
	wantCorrupt(t, "path of more than 64 KiB", err)
}

func TestZeroValues(t *testing.T) {
	a, r := mustOpen(t, (&encoder{}).archive(sample()))
	_, err := a.ReadTable(r, Dir{})
	wantCorrupt(t, "table", err)
	_, err = a.ReadEntry(r, Child{})
	wantCorrupt(t, "entry", err)
	_, err = new(Archive).ReadRoot(r)
	wantCorrupt(t, "root", err)
}

func TestVersionOneItemIsUnified(t *testing.T) {
	b := append(item(itemVersion, nums(1)), (&encoder{}).archive(dir("", file("a", "x")))...)
	a, r := mustOpen(t, b)
	if e, err := get(a, r, "a"); err != nil || a.Split() || e.Payload.Ref {
		t.Errorf("a = %+v, %v, split %v", e, err, a.Split())
	}
}

func TestDuplicateCheckNeedsTheOtherName(t *testing.T) {
	root := dir("", file("same", strings.Repeat("x", 2000)), file("same", ""))
	a, r := mustOpen(t, (&encoder{}).archive(root))
	tab, err := a.ReadTable(r, a.Root())
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	if _, err := tab.Child(brokenBefore{r, 100, gone}, 1); !errors.Is(err, gone) {
		t.Errorf("second child: %v, want %v", err, gone)
	}
}

// A client for Windows listed names that it could not open: with a length of 0,
// at the position of what it wrote next. What is stored there is not theirs.
func TestNamesThatWereNotStored(t *testing.T) {
	for what, kids := range map[string][]string{
		"none":                  {"a", "b"},
		"first":                 {"-x", "a", "b"},
		"between":               {"a", "-x", "b"},
		"several between":       {"a", "-x", "-y", "-z", "b"},
		"last":                  {"a", "b", "-x"},
		"everywhere":            {"-1", "a", "-2", "-3", "b", "-4", "-5"},
		"only":                  {"-x"},
		"only, several":         {"-x", "-y", "-z"},
		"name of another child": {"-b", "a", "b"},
	} {
		t.Run(what, func(t *testing.T) {
			var want []string
			sub, unread := dir("sub"), 0
			for _, k := range kids {
				if strings.HasPrefix(k, "-") {
					unread++
					continue
				}
				want = append(want, k)
				sub.kids = append(sub.kids, file(k, "content of "+k))
			}
			e := encoder{table: func(n *node, goodbye int64, s []slot) []slot {
				if n.name != "sub" {
					return s
				}
				return treeOrder(append(s, notStored(n, goodbye, kids)...))
			}}
			a, r := mustOpen(t, e.archive(dir("", file("0", ""), sub, file("z", ""))))
			entry, err := get(a, r, "sub")
			if err != nil {
				t.Fatal(err)
			}
			tab, err := a.ReadTable(r, entry.Dir)
			if err != nil || tab.Err() != nil || tab.Unread() != unread || tab.Len() != len(want) {
				t.Fatalf("%v, %v: %d children and %d names that were not stored, want %d and %d", err, tab.Err(), tab.Len(), tab.Unread(), len(want), unread)
			}
			for i, name := range want {
				if c, err := tab.Child(r, i); err != nil || c.Name != name {
					t.Errorf("child %d: %q, %v, want %q", i, c.Name, err, name)
				}
				if c, err := tab.Lookup(r, name); err != nil || c.NamePos != sub.kids[i].namePos {
					t.Errorf("Lookup(%q): at %d, %v, want %d", name, c.NamePos, err, sub.kids[i].namePos)
				}
			}
			for _, name := range []string{"x", "1", "missing"} {
				if _, err := tab.Lookup(r, name); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Lookup(%q): %v, want not there", name, err)
				}
			}
		})
	}
}

// notStored returns the items of the names in kids that begin with "-".
func notStored(n *node, goodbye int64, kids []string) (out []slot) {
	next := 0
	for _, k := range kids {
		name, absent := strings.CutPrefix(k, "-")
		if !absent {
			next++
			continue
		}
		at := goodbye
		if next < len(n.kids) {
			at = n.kids[next].namePos
		}
		out = append(out, slot{hash: hashName([]byte(name)), back: uint64(goodbye - at)})
	}
	return out
}

// An item without a length that is alone at its place may be damage.
func TestEmptyItemOfItsOwnIsDamage(t *testing.T) {
	e := encoder{table: func(_ *node, _ int64, s []slot) []slot {
		for i := range s {
			if s[i].hash == hashName([]byte("b")) {
				s[i].hash, s[i].size = s[i].hash+1, 0
			}
		}
		return s
	}}
	got, errs := names(t, e.archive(dir("", file("a", ""), file("b", ""), file("c", ""))))
	if !slices.Equal(got, []string{"a", "c"}) || len(errs) != 1 {
		t.Errorf("names %q, %v, want a and c, and an error", got, errs)
	}
}
