package maint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// makeStore makes what tells a datastore from others.
func makeStore(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, ".chunks"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func bindMount(t *testing.T, from, to string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(to, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return to
}

func symlink(t *testing.T, to, at string) string {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
	return at
}

// waysTo are paths to the datastore in top/srv/store.
func waysTo(t *testing.T, top string) map[string]string {
	store := makeStore(t, filepath.Join(top, "srv/store"))
	symlink(t, "srv", filepath.Join(top, "link"))
	t.Chdir(top)
	return map[string]string{
		"its own path":          store,
		"a trailing slash":      store + "/",
		"a link":                symlink(t, store, filepath.Join(top, "direct")),
		"a link and ..":         filepath.Join(top, "link") + "/store/../../link/store",
		"a bind mount":          bindMount(t, store, filepath.Join(top, "bound")),
		"a bind mount above":    bindMount(t, filepath.Dir(store), filepath.Join(top, "above")) + "/store",
		"a relative path":       "srv/store",
		"two more names for it": symlink(t, "direct", filepath.Join(top, "again")),
	}
}

// Whatever path leads to a datastore, and whichever its entry has: its operations
// are counted under the entry's name, and its mode binds.
func TestOneDatastoreByManyPaths(t *testing.T) {
	p := newPlace(t)
	ways := waysTo(t, p.dir)
	entry := func(path, mode string) string {
		text := "datastore: tank\n\tpath " + path + "\n"
		if mode != "" {
			text += "\tmaintenance-mode " + mode + "\n"
		}
		return text
	}
	for name, path := range ways {
		if !filepath.IsAbs(path) {
			continue // an entry has none like that
		}
		for other, at := range ways {
			t.Run(name+", "+other, func(t *testing.T) {
				p.writeConfig(t, "")
				ops := p.operations(t, func(o *Options) { o.Store, o.Path = "other-name", at })
				first := begin(t, ops, cfg.Read)
				p.writeConfig(t, entry(path, ""))
				second := begin(t, ops, cfg.Read) // after the entry was made
				if err := SetMode(t.Context(), p.host, testStore, cfg.Offline, SetOptions{}); !errors.Is(err, ErrConflict) {
					t.Fatalf("offline under open handles: %v", err)
				}
				first.Release()
				second.Release()
				p.setMode(t, cfg.Offline, SetOptions{Wait: time.Minute})
				if _, err := ops.Begin(t.Context(), cfg.Read); !errors.Is(err, cfg.ErrOffline) {
					t.Errorf("Begin in offline, set while it served: %v", err)
				}
				late := p.operations(t, func(o *Options) { o.Store, o.Path = "late", at })
				if _, err := late.Begin(t.Context(), cfg.Read); !errors.Is(err, cfg.ErrOffline) {
					t.Errorf("Begin in offline, set before: %v", err)
				}
				p.clearMode(t)
				g := begin(t, late, cfg.Read)
				if got := p.sum(t); got.Read != 1 {
					t.Errorf("counted: %v", got)
				}
				g.Release()
			})
		}
	}
}

func TestTwoDatastoresStayTwo(t *testing.T) {
	p := newPlace(t)
	one, two := makeStore(t, filepath.Join(p.dir, "one/store")), makeStore(t, filepath.Join(p.dir, "two/store"))
	p.writeConfig(t, "datastore: one\n\tpath "+one+"\n\ndatastore: two\n\tpath "+two+"\n\tmaintenance-mode offline\n")
	ops := p.operations(t, func(o *Options) { o.Store, o.Path = "one", one })
	begin(t, ops, cfg.Write)
	unlisted := p.operations(t, func(o *Options) {
		o.Store, o.Path = "store-00000000", makeStore(t, filepath.Join(p.dir, "three/store"))
	})
	begin(t, unlisted, cfg.Read)
	if sum, err := Sum(p.host, "two"); err != nil || sum != (opsfile.Counts{}) {
		t.Errorf("counted for the other one: %v, %v", sum, err)
	}
	if sum, err := Sum(p.host, "one"); err != nil || sum != (opsfile.Counts{Write: 1}) {
		t.Errorf("counted: %v, %v", sum, err)
	}
	if mode, err := ReadMode(p.host, "one"); err != nil || mode.Type != cfg.None {
		t.Errorf("mode: %v, %v", mode, err)
	}
}

// An entry of another name has the mode.
func TestModeSaysWhoseItIs(t *testing.T) {
	p := newPlace(t)
	store := makeStore(t, filepath.Join(p.dir, "store"))
	symlink(t, "store", filepath.Join(p.dir, "link"))
	p.writeConfig(t, "datastore: one\n\tpath "+store+"\n\ndatastore: two\n\tpath "+p.dir+"/link\n\tmaintenance-mode offline,message=\"why\"\n")
	want := cfg.Mode{Type: cfg.Offline, Message: "why", Via: "two"}
	if mode, err := ReadMode(p.host, "one"); err != nil || mode != want {
		t.Errorf("got %+v, %v, want %+v", mode, err, want)
	}
	want.Via = ""
	if mode, err := ReadMode(p.host, "two"); err != nil || mode != want {
		t.Errorf("got %+v, %v, want %+v", mode, err, want)
	}
}

// A datastore whose entry has gone, or is another one's now, refuses what is new: an
// offline does not end by itself, and nobody would count what is done.
func TestEntryThatHasGoneRefuses(t *testing.T) {
	p := newPlace(t)
	store, other := makeStore(t, filepath.Join(p.dir, "store")), makeStore(t, filepath.Join(p.dir, "other"))
	listed := "datastore: tank\n\tpath " + store + "\n"
	for name, gone := range map[string]string{
		"removed":            "",
		"its name was taken": "datastore: tank\n\tpath " + other + "\n",
	} {
		for _, by := range []string{"tank", "store-00000000"} {
			t.Run(name+", mounted as "+by, func(t *testing.T) {
				p.writeConfig(t, listed)
				ops := p.operations(t, func(o *Options) { o.Store, o.Path = by, store })
				g := begin(t, ops, cfg.Read)
				p.writeConfig(t, gone)
				if _, err := ops.Begin(t.Context(), cfg.Read); !errors.Is(err, cfg.ErrOffline) {
					t.Errorf("Begin beside another: %v", err)
				}
				g.Release()
				eventually(t, "it is idle", func() bool { return p.anyCount(t) == (opsfile.Counts{}) })
				if _, err := ops.Begin(t.Context(), cfg.Read); !errors.Is(err, cfg.ErrOffline) {
					t.Errorf("Begin after all: %v", err)
				}
				p.writeConfig(t, "datastore: lake\n\tpath "+store+"\n")
				g = begin(t, ops, cfg.Read)
				if sum, err := Sum(p.host, "lake"); err != nil || sum.Read != 1 {
					t.Errorf("counted under the new name: %v, %v", sum, err)
				}
				g.Release()
			})
		}
	}
}

// anyCount adds up all operations files.
func (p place) anyCount(t *testing.T) (sum opsfile.Counts) {
	t.Helper()
	for _, name := range procfs.NamesIn(p.host.OperationsDir()) {
		if !strings.HasSuffix(name, ".lock") {
			for _, e := range p.entries(t, name) {
				sum = sum.And(e.Counts)
			}
		}
	}
	return sum
}

// entries is what an operations file says.
func (p place) entries(t *testing.T, store string) []opsfile.Entry {
	t.Helper()
	entries, err := opsfile.Read(p.host.OperationsFile(store))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// What is open gets the names that are added meanwhile, without anybody opening.
func TestOpenOperationsGetNewNames(t *testing.T) {
	p := newPlace(t)
	store := makeStore(t, filepath.Join(p.dir, "store"))
	p.writeConfig(t, "")
	ops := p.operations(t, func(o *Options) { o.Store, o.Path, o.Changed = "store-00000000", store, func(cfg.Mode) {} })
	begin(t, ops, cfg.Read)
	p.writeConfig(t, "datastore: lake\n\tpath "+store+"\n")
	eventually(t, "it is counted by its new name", func() bool { return len(p.entries(t, "lake")) == 1 })
}

// A mount that is made, or taken away, makes an entry's place another one.
func TestNamesFollowTheMounts(t *testing.T) {
	p := newPlace(t)
	store, at := makeStore(t, filepath.Join(p.dir, "store")), filepath.Join(p.dir, "at")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	p.writeConfig(t, "datastore: tank\n\tpath "+at+"\n")
	ops := p.operations(t, func(o *Options) { o.Store, o.Path, o.DropCaches = "store-00000000", store, func() {} })
	g := begin(t, ops, cfg.Read)
	bindMount(t, store, at)
	if err := SetMode(t.Context(), p.host, testStore, cfg.Offline, SetOptions{}); !errors.Is(err, ErrConflict) {
		t.Errorf("offline under an open handle: %v", err)
	}
	eventually(t, "it is counted by its new name", func() bool { return len(p.entries(t, testStore)) == 1 })
	g.Release()
	p.setMode(t, cfg.Offline, SetOptions{Wait: time.Minute})
	if _, err := ops.Begin(t.Context(), cfg.Read); !errors.Is(err, cfg.ErrOffline) {
		t.Errorf("Begin in offline: %v", err)
	}
}
