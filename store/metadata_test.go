package store_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// bigTree has directories of many sizes, hard links, and files that take several
// chunks, or none of their own.
func bigTree() *storetest.Node {
	first := storetest.File("first", "linked content")
	kids := []*storetest.Node{first}
	for i := range 12 {
		var files []*storetest.Node
		for j := range i {
			f := storetest.File(fmt.Sprintf("file-%02d", j), strings.Repeat("content ", i*j*7))
			if j%3 == 0 {
				f.With("user.note", strings.Repeat("n", 10*i))
			}
			files = append(files, f)
		}
		sub := storetest.Dir("sub", storetest.Symlink("l", "../elsewhere"), storetest.Link("again", first))
		kids = append(kids, storetest.Dir(fmt.Sprintf("dir-%02d", i), append(files, sub)...))
	}
	return storetest.Dir("", kids...)
}

// walkArchive returns a line for each entry of an archive.
func walkArchive(t *testing.T, right store.CanRead, a *store.Archive) (lines []string, err error) {
	t.Helper()
	root, err := a.Root(t.Context(), right)
	if err != nil {
		return nil, err
	}
	var walk func(path string, dir pxar.Dir) error
	walk = func(path string, dir pxar.Dir) error {
		table, err := a.Table(t.Context(), right, dir)
		if err != nil {
			return err
		}
		for i := range table.Len() {
			child, e, err := a.Child(t.Context(), right, table, i)
			if err != nil {
				return err
			}
			same, err := a.Lookup(t.Context(), right, dir, child)
			if err != nil || same.NamePos != e.NamePos {
				return fmt.Errorf("%s: looked up: %+v, %w", child, same, err)
			}
			links, err := a.LinkCount(t.Context(), right, e.NamePos)
			if err != nil {
				return err
			}
			names, err := a.PathOf(t.Context(), right, e.NamePos)
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("%s/%s %o %d %v %q %v %v %v", path, child, e.Mode, links, e.Payload, e.Target, e.Attributes(), names, e.Link))
			if e.Type() == pxar.TypeDir {
				if err := walk(path+"/"+child, e.Dir); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return lines, walk("", root.Dir)
}

// openArchive opens the datastore once more with a metadata cache, and its
// archive.
func (p *place) walkWith(dir string, encrypted bool, snapshot string, key *storetest.Key) (lines []string, err error) {
	p.t.Helper()
	opts := store.Options{Name: testName, Path: p.Dir, Host: p.host, MetadataDir: dir, CacheEncrypted: encrypted}
	if key != nil {
		opts.Keys = append(opts.Keys, key.Key)
	}
	ref, err := store.Open(p.t.Context(), opts)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		if err := ref.Close(); err != nil { // which writes
			p.t.Error(err)
		}
	}()
	err = ref.View(p.t.Context(), func(r *store.Reader) error {
		s, err := store.LoadSnapshot(p.t.Context(), r, p.snapshotName(snapshot))
		if err != nil {
			return err
		}
		f, err := name.ParseFile("root.pxar.didx")
		if err != nil {
			return err
		}
		line, _ := s.Manifest().Lookup(f)
		a, err := s.Archive(p.t.Context(), r, line)
		if err != nil {
			return err
		}
		lines, err = walkArchive(p.t.(*testing.T), r, a)
		return err
	})
	return lines, err
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, filepath.Join(dir, e.Name()))
	}
	return out
}

// What was walked once is walked again without a single chunk, by another
// process as well.
func TestMetadataOutlivesTheProcess(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Pxar("root.pxar.didx", bigTree())
	sn.Finish()
	want, err := p.walkWith("", false, sn.Dir, nil)
	if err != nil || len(want) < 80 {
		t.Fatalf("%d lines, %v", len(want), err)
	}
	dir := filepath.Join(t.TempDir(), "cache")
	for range 2 { // the second one finds some of it, and changes nothing
		if got, err := p.walkWith(dir, false, sn.Dir, nil); err != nil || !slices.Equal(got, want) {
			t.Fatalf("with a cache, the first time: %v, or other lines", err)
		}
	}
	if n := len(files(t, dir)); n != 1 {
		t.Fatalf("%d files in the cache, want 1", n)
	}
	if err := os.Rename(filepath.Join(p.Dir, ".chunks"), filepath.Join(p.Dir, "away")); err != nil {
		t.Fatal(err)
	}
	p.Mkdir(".chunks")
	if got, err := p.walkWith(dir, false, sn.Dir, nil); err != nil || !slices.Equal(got, want) {
		t.Errorf("without chunks: %v, or other lines", err)
	}
	if _, err := p.walkWith("", false, sn.Dir, nil); err == nil {
		t.Error("walked without chunks and without a cache")
	}
	// A damaged cache is none, and what is there helps.
	p.Remove(".chunks")
	if err := os.Rename(filepath.Join(p.Dir, "away"), filepath.Join(p.Dir, ".chunks")); err != nil {
		t.Fatal(err)
	}
	path := files(t, dir)[0]
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(good); i += 1 + len(good)/40 {
		bad := slices.Clone(good)
		bad[i] ^= 0x10
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := p.walkWith(dir, false, sn.Dir, nil); err != nil || !slices.Equal(got, want) {
			t.Fatalf("byte %d of the cache is wrong: %v, or other lines", i, err)
		}
	}
}

func TestMetadataOfEncryptedArchivesStaysInMemory(t *testing.T) {
	key := storetest.NewKey(t, 1)
	p := newPlace(t, key)
	sn := p.Snapshot(alpha, noon)
	sn.Key = key
	sn.Pxar("root.pxar.didx", bigTree())
	sn.Finish()
	dir := filepath.Join(t.TempDir(), "cache")
	want, err := p.walkWith(dir, false, sn.Dir, key)
	if err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("written: %v", left)
	}
	if got, err := p.walkWith(dir, true, sn.Dir, key); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, or other lines", err)
	}
	if n := len(files(t, dir)); n != 1 {
		t.Errorf("%d files when it was asked for, want 1", n)
	}
	// The key is needed all the same.
	if _, err := p.walkWith(dir, true, sn.Dir, nil); !errors.Is(err, store.ErrKeyNeeded) {
		t.Errorf("without the key: %v, want ErrKeyNeeded", err)
	}
}
