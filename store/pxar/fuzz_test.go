package pxar

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"
)

// FuzzArchive walks whatever opens, and checks what holds for any bytes: what
// is listed is found, no object has two places, and the counts end.
func FuzzArchive(f *testing.F) {
	f.Add([]byte{})
	f.Add(unhex(f, goldenUnified))
	f.Add(unhex(f, goldenVoid))
	f.Add((&encoder{}).archive(everything()))
	for _, split := range []bool{false, true} {
		f.Add((&encoder{split: split, prelude: "{}"}).archive(sample()))
		root, _, _ := linked()
		f.Add((&encoder{split: split}).archive(root))
	}
	f.Fuzz(walkArchive)
}

// walkArchive is what has to hold for any bytes.
func walkArchive(t *testing.T, b []byte) {
	r := bytes.NewReader(b)
	a, err := Open(r, int64(len(b)))
	if err != nil {
		wantCorrupt(t, "Open", err)
		return
	}
	w := walker{t: t, a: a, b: b, seen: map[int64]bool{}}
	if e, err := a.ReadRoot(r); err == nil {
		w.dir(e.Dir, nil)
	} else {
		wantCorrupt(t, "ReadRoot", err)
	}
	if _, err := a.CountLinks(context.Background(), r); err != nil {
		wantCorrupt(t, "CountLinks", err)
	}
}

type walker struct {
	t    *testing.T
	a    *Archive
	b    []byte
	seen map[int64]bool
}

// metadata writes down a directory, and compares it with itself: wrong bytes are no other
// error.
func (w *walker) metadata(r *bytes.Reader, d Dir) {
	if err := w.a.WriteMetadata(context.Background(), r, d, io.Discard); err != nil {
		wantCorrupt(w.t, "WriteMetadata", err)
	}
	p := Part{Archive: w.a, Source: r, Dir: d}
	if _, err := Alike(context.Background(), p, p, func(p, q Payload) (bool, error) { return p == q, nil }); err != nil {
		w.t.Errorf("directory at %d beside itself: %v", d.entry, err)
	}
}

func (w *walker) dir(d Dir, path []string) {
	r := bytes.NewReader(w.b)
	w.metadata(r, d)
	tab, err := w.a.ReadTable(r, d)
	if err != nil {
		wantCorrupt(w.t, "ReadTable", err)
		return
	}
	for i := range tab.Len() {
		c, err := tab.Child(r, i)
		if err != nil {
			wantCorrupt(w.t, "Child", err)
			continue
		}
		if l, err := tab.Lookup(r, c.Name); err != nil || l != c {
			w.t.Fatalf("Lookup(%q) = %+v, %v, want %+v", c.Name, l, err, c)
		}
		w.child(c, append(path[:len(path):len(path)], c.Name))
	}
	if _, err := tab.Lookup(r, "not there"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		wantCorrupt(w.t, "Lookup", err)
	}
}

func (w *walker) child(c Child, path []string) {
	r := bytes.NewReader(w.b)
	if w.seen[c.NamePos] {
		w.t.Fatalf("%q at %d is there twice", path, c.NamePos)
	}
	w.seen[c.NamePos] = true
	if p, err := w.a.PathOf(r, c.NamePos, tablesOf(w.a, r)); err == nil && !equal(p, path) {
		w.t.Fatalf("PathOf(%d) = %q, want %q", c.NamePos, p, path)
	} else if err != nil {
		w.t.Fatalf("PathOf(%d) = %v, want %q", c.NamePos, err, path)
	}
	e, err := w.a.ReadEntry(r, c)
	if err != nil {
		wantCorrupt(w.t, "ReadEntry", err)
		return
	}
	pos, ok, err := w.a.LinkTarget(r, path, tablesOf(w.a, r))
	if err != nil || ok != e.Link || ok && pos != e.NamePos {
		w.t.Fatalf("LinkTarget(%q) = %d, %v, %v, want %+v", path, pos, ok, err, e)
	}
	for _, at := range e.Attributes() {
		if at.Name == "" || at.Value == nil {
			w.t.Fatalf("attribute %+v", at)
		}
	}
	if p := e.Payload; !p.Ref && (p.Off < 0 || p.Size < 0 || p.Off > int64(len(w.b))-p.Size) {
		w.t.Fatalf("payload %+v of %d bytes", p, len(w.b))
	}
	if e.Type() == TypeDir {
		w.dir(e.Dir, path)
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// FuzzEntry puts arbitrary items behind a name, where the fuzzer need not get
// the tables right, too.
func FuzzEntry(f *testing.F) {
	f.Add(append(stat(0o100644), item(itemPayload, []byte("x"))...), false)
	f.Add(append(stat(0o120777), item(itemSymlink, []byte("x\x00"))...), true)
	f.Add(append(stat(0o100644), item(itemPayloadRef, nums(16, 1))...), true)
	f.Add(append(stat(0o020600), item(itemDevice, nums(1, 2))...), false)
	f.Add(append(stat(0o010600), xattrItem("user.a", "b")...), false)
	f.Add(item(itemHardlink, nums(93), []byte("a\x00")), false)
	f.Add(bytes.Join([][]byte{
		stat(0o40755), item(itemACLUser, nums(1, 2)), item(itemACLGroupObj, nums(1)), item(itemACLDefault, nums(1, 2, 3, absent)),
		item(itemACLDefaultGroup, nums(1, 1)), item(itemFCaps, []byte("c")), item(itemQuotaProject, nums(1)),
		item(itemGoodbye, nums(tailHash, 56, 40)),
	}, nil), false)
	f.Fuzz(func(t *testing.T, items []byte, split bool) {
		n := raw("x", items)
		n.raw = append([]byte{}, items...)
		b := (&encoder{split: split}).archive(dir("", file("a", "hi\n"), n, file("y", "")))
		a, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		w := walker{t: t, a: a, b: b, seen: map[int64]bool{}}
		w.dir(a.Root(), nil)
		if !w.seen[n.namePos] {
			t.Errorf("child with %x is not there", items)
		}
	})
}

// everything is a tree with each kind of object and attribute.
func everything() *node {
	f := file("f", "x")
	f.attrs = [][]byte{xattrItem("user.a", "b"), item(itemACLUser, nums(1, 2)), item(itemFCaps, []byte("c")), item(itemQuotaProject, nums(1))}
	d := dir("d", linkTo("l", f), file("same", ""), file("same", ""))
	d.attrs = [][]byte{item(itemACLGroupObj, nums(1)), item(itemACLDefault, nums(1, 2, 3, absent)), item(itemACLDefaultGroup, nums(1, 1))}
	return dir("", f, d, dir("e", dir("g")), special("p", TypeFIFO), special("c", TypeCharDevice), symlink("s", "t"))
}

// TestEveryDamagedByte changes each byte of small archives in turn.
func TestEveryDamagedByte(t *testing.T) {
	for _, split := range []bool{false, true} {
		good := (&encoder{split: split, prelude: "{}"}).archive(everything())
		for i := range good {
			for _, change := range []byte{1 << (i % 8), 0xff} {
				b := bytes.Clone(good)
				b[i] ^= change
				walkArchive(t, b)
			}
			walkArchive(t, good[:i])
			walkArchive(t, good[i:])
		}
	}
}
