package store_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/pbsfs/pbsfs/store"
)

// What is remembered needs no right, and is only what was read; that a name is missing is
// known from the table alone.
func TestRememberedIsWhatWasRead(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	chunks := sn.Pxar("root.pxar.didx", farDirs(8))
	sn.Finish()
	r := p.reader()
	s := p.load(r, sn.Dir)
	a, err := s.Archive(t.Context(), r, p.line(s, "root.pxar.didx"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := a.Root(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := a.Lookup(t.Context(), r, root.Dir, "dir-03")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := a.Remembered(dir.Dir, "content"); !errors.Is(err, store.ErrNotInMemory) {
		t.Errorf("before anything was read: %+v, %v", e, err)
	}
	want, err := a.Lookup(t.Context(), r, dir.Dir, "content")
	if err != nil {
		t.Fatal(err)
	}
	p.removeAll(chunks)
	if e, err := a.Remembered(dir.Dir, "content"); err != nil || e.NamePos != want.NamePos || e.Payload != want.Payload {
		t.Errorf("remembered: %+v, %v, want what was read: %+v", e, err, want)
	}
	if e, err := a.Remembered(dir.Dir, "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that is missing: %+v, %v", e, err)
	}
	if e, err := a.Remembered(root.Dir, "dir-06"); !errors.Is(err, store.ErrNotInMemory) {
		t.Errorf("what was not read: %+v, %v", e, err)
	}
}
