package tree_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// aTree is a tree with a directory beside the one that is compared.
func aTree(beside string, dir *storetest.Node) *storetest.Node {
	return storetest.Dir("", storetest.Dir("before", storetest.File("file", beside)), dir)
}

// Two directories are known to be alike only if everything below them is the same,
// wherever they lie in their archives.
func TestAlikeDirectories(t *testing.T) {
	const long = "content that is so long that it lies in more than one chunk of a small archive, and a few words more, so that it does: one, two, three, four, five, six, seven, eight, nine, ten, eleven, and twelve"
	dir := func(data string) *storetest.Node {
		return storetest.Dir("dir", storetest.Dir("sub", storetest.File("a", data)), storetest.Symlink("link", "a"))
	}
	later := dir(long)
	later.Kids[0].Kids[0].Sec = 7
	linked := func(beside string) *storetest.Node {
		file := storetest.File("file", beside)
		return storetest.Dir("", storetest.Dir("before", file), storetest.Dir("dir", storetest.Link("hard", file)))
	}
	const no = false
	for name, c := range map[string]struct {
		a, b           *storetest.Node
		unified, split bool // whether such archives are known to be alike
	}{
		"the same archive":           {aTree("x", dir(long)), aTree("x", dir(long)), true, true},
		"another content before it":  {aTree("x", dir(long)), aTree("y", dir(long)), no, no}, // in one chunk with it
		"another content in it":      {aTree("x", dir(long)), aTree("x", dir(long[1:]+"!")), no, no},
		"another size in it":         {aTree("x", dir(long)), aTree("x", dir(long[1:])), no, no},
		"another time in it":         {aTree("x", dir(long)), aTree("x", later), no, no},
		"a hard link to other files": {linked("x"), linked("y"), no, no},
		"a hard link to one file":    {linked("x"), linked("x"), no, true},
	} {
		for _, split := range []bool{false, true} {
			s := storetest.New(t)
			var dirs []string
			for i, root := range []*storetest.Node{c.a, c.b} {
				sn := s.Snapshot("host/alpha", []string{noon, "2023-11-15T12:00:00Z"}[i])
				dirs = append(dirs, sn.Dir+"/root.pxar/dir")
				if split {
					sn.Split("root", root)
				} else {
					sn.Pxar("root.pxar.didx", root)
					sn.Catalog("root.pxar.didx", root)
				}
				sn.Finish()
			}
			v := open(t, s)
			got, err := tree.Alike(t.Context(), v.r, v.walk(dirs[0]), v.r, v.walk(dirs[1]))
			if want := split && c.split || !split && c.unified; got != want || err != nil {
				t.Errorf("%s, split %t: alike %t, %v, want %t", name, split, got, err, want)
			}
		}
	}
}

// Without a catalog nobody knows where hard links lead, and nothing is known to be alike.
func TestAlikeWithoutACatalog(t *testing.T) {
	s := storetest.New(t)
	root := aTree("x", storetest.Dir("dir", storetest.File("a", "x")))
	for _, at := range []string{noon, "2023-11-15T12:00:00Z"} {
		sn := s.Snapshot("host/alpha", at)
		sn.Pxar("root.pxar.didx", root)
		sn.Finish()
	}
	v := open(t, s)
	a, b := v.walk("host/alpha/"+noon+"/root.pxar/dir"), v.walk("host/alpha/2023-11-15T12:00:00Z/root.pxar/dir")
	if got, err := tree.Alike(t.Context(), v.r, a, v.r, b); got || err != nil {
		t.Errorf("alike %t, %v, want false", got, err)
	}
}

// Holds keep no more snapshots locked than they may, and forget those that are gone.
func TestHoldsAreBounded(t *testing.T) {
	s := storetest.New(t)
	var all []name.Snapshot
	for i := range 7 {
		if i > 0 { // there is none of the first name
			s.Snapshot("host/alpha", fmt.Sprintf("2023-11-1%dT12:00:00Z", i)).Finish()
		}
		group, err := name.NewGroup(name.Namespace{}, name.Host, "alpha")
		if err != nil {
			t.Fatal(err)
		}
		at, err := name.ParseTime(fmt.Sprintf("2023-11-1%dT12:00:00Z", i))
		if err != nil {
			t.Fatal(err)
		}
		snap, err := name.NewSnapshot(group, at)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, snap)
	}
	ref, err := store.Open(t.Context(), store.Options{Name: "tank", Path: s.Dir, Host: storetest.Host(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	holds, err := tree.NewHolds(t.Context(), ref, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, snap := range all[1:] {
		if err := holds.Use(t.Context(), snap, func(r *store.Reader) error {
			_, err := store.LoadSnapshot(t.Context(), r, snap)
			return err
		}); err != nil {
			t.Errorf("%s: %v", snap, err)
		}
		if n := ref.Operations().Read; n != 1 {
			t.Errorf("%d operations are active, want 1", n)
		}
	}
	for deadline := time.Now().Add(time.Minute); len(ref.Locked()) > 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("locked: %v, want 2 at most", ref.Locked())
		}
	}
	for range 2 {
		if err := holds.Use(t.Context(), all[0], func(*store.Reader) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a snapshot that is gone: %v, want %v", err, fs.ErrNotExist)
		}
	}
	holds.Close()
	if n := ref.Operations().Read; n != 0 {
		t.Errorf("%d operations are active after Close, want none", n)
	}
	if err := ref.Close(); err != nil {
		t.Error(err)
	}
}
