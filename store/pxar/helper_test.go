package pxar

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// unhex decodes hex digits, ignoring white space.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustOpen(t testing.TB, b []byte) (*Archive, io.ReaderAt) {
	t.Helper()
	r := bytes.NewReader(b)
	a, err := Open(r, int64(len(b)))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return a, r
}

// get reads the entry with that path, "" for the root.
func get(a *Archive, r io.ReaderAt, path string) (*Entry, error) {
	e, err := a.ReadRoot(r)
	if path == "" {
		return e, err
	}
	for name := range strings.SplitSeq(path, "/") {
		if err != nil {
			return nil, err
		}
		tab, err2 := a.ReadTable(r, e.Dir)
		if err2 != nil {
			return nil, err2
		}
		c, err2 := tab.Lookup(r, name)
		if err2 != nil {
			return nil, err2
		}
		e, err = a.ReadEntry(r, c)
	}
	return e, err
}

func mustGet(t testing.TB, b []byte, path string) *Entry {
	t.Helper()
	a, r := mustOpen(t, b)
	e, err := get(a, r, path)
	if err != nil {
		t.Fatalf("%q: %v", path, err)
	}
	return e
}

// names lists the root: the names that can be read, and the errors otherwise.
func names(t testing.TB, b []byte) (got []string, errs []error) {
	t.Helper()
	a, r := mustOpen(t, b)
	tab, err := a.ReadTable(r, a.Root())
	if err != nil {
		t.Fatalf("ReadTable: %v", err)
	}
	for i := range tab.Len() {
		c, err := tab.Child(r, i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		got = append(got, c.Name)
		if l, err := tab.Lookup(r, c.Name); err != nil || l != c {
			t.Errorf("Lookup(%q) = %+v, %v, want %+v", c.Name, l, err, c)
		}
	}
	return got, errs
}

func wantCorrupt(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, corrupt.Err) {
		t.Errorf("%s: error %v, want one about corrupt data", what, err)
	}
}

// brokenAt fails reads that touch positions from off on.
type brokenAt struct {
	r   io.ReaderAt
	off int64
	err error
}

func (b brokenAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.off {
		return 0, b.err
	}
	return b.r.ReadAt(p, off)
}

// brokenBefore fails reads that begin before off.
type brokenBefore struct {
	r   io.ReaderAt
	off int64
	err error
}

func (b brokenBefore) ReadAt(p []byte, off int64) (int, error) {
	if off < b.off {
		return 0, b.err
	}
	return b.r.ReadAt(p, off)
}

// tablesOf reads tables anew each time.
func tablesOf(a *Archive, r io.ReaderAt) Tables {
	return func(d Dir) (*Table, error) { return a.ReadTable(r, d) }
}
