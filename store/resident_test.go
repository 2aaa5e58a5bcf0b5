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
	f := openFarDirs(t)
	dir, err := f.a.Lookup(t.Context(), f.r, f.root, "dir-03")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := f.a.Remembered(dir.Dir, "content"); !errors.Is(err, store.ErrNotInMemory) {
		t.Errorf("before anything was read: %+v, %v", e, err)
	}
	want, err := f.a.Lookup(t.Context(), f.r, dir.Dir, "content")
	if err != nil {
		t.Fatal(err)
	}
	f.removeAll()
	if e, err := f.a.Remembered(dir.Dir, "content"); err != nil || e.NamePos != want.NamePos || e.Payload != want.Payload {
		t.Errorf("remembered: %+v, %v, want what was read: %+v", e, err, want)
	}
	if e, err := f.a.Remembered(dir.Dir, "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that is missing: %+v, %v", e, err)
	}
	if e, err := f.a.Remembered(f.root, "dir-06"); !errors.Is(err, store.ErrNotInMemory) {
		t.Errorf("what was not read: %+v, %v", e, err)
	}
}
