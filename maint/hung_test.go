package maint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
)

// muteMount mounts a file system that never answers, until the test ends.
func muteMount(t *testing.T, dir string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("mute", dir, "fuse.mute", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(fd)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fd) // whoever waits is told so
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Many datastores on a server that is dead, and links into it: one that is well is
// read and set all the same, and waits once for all of them together.
func TestDatastoresThatHangHinderNobody(t *testing.T) {
	p := newPlace(t)
	hung := muteMount(t, filepath.Join(p.dir, "hung"))
	store := makeStore(t, filepath.Join(p.dir, "store"))
	var config strings.Builder
	fmt.Fprintf(&config, "datastore: tank\n\tpath %s\n", store)
	const many = 50
	for i := range many {
		link := symlink(t, fmt.Sprintf("%s/%d", hung, i), filepath.Join(p.dir, fmt.Sprint("link", i)))
		fmt.Fprintf(&config, "\ndatastore: hung%d\n\tpath %s/%d/x\n\ndatastore: link%d\n\tpath %s\n", i, hung, i, i, link)
	}
	p.writeConfig(t, config.String())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // each alone would take longer
	defer cancel()
	ops := p.operations(t, func(o *Options) { o.Path = store })
	before := runtime.NumGoroutine()
	for range 20 {
		g, err := ops.Begin(ctx, cfg.Read)
		if err != nil {
			t.Fatalf("Begin: %v", err)
		}
		if err := SetMode(ctx, p.host, testStore, cfg.Offline, SetOptions{}); !errors.Is(err, ErrConflict) {
			t.Fatalf("offline under an open handle: %v", err)
		}
		g.Release()
		if err := SetMode(ctx, p.host, testStore, cfg.Offline, SetOptions{Wait: time.Minute}); err != nil {
			t.Fatalf("offline: %v", err)
		}
		if _, err := ops.Begin(ctx, cfg.Read); !errors.Is(err, cfg.ErrOffline) {
			t.Fatalf("Begin in offline: %v", err)
		}
		if err := ClearMode(ctx, p.host, testStore, SetOptions{}); err != nil {
			t.Fatalf("clear: %v", err)
		}
	}
	if n := runtime.NumGoroutine() - before; n > 2*many {
		t.Errorf("%d goroutines more", n)
	}
	if ctx.Err() != nil {
		t.Error("it took a minute")
	}
	// What hangs counts by its name.
	if err := SetMode(t.Context(), p.host, "hung7", cfg.ReadOnly, SetOptions{}); err != nil {
		t.Errorf("a mode of one that hangs: %v", err)
	}
	if mode, err := ReadMode(p.host, "hung7"); err != nil || mode.Type != cfg.ReadOnly {
		t.Errorf("its mode: %v, %v", mode, err)
	}
	if mode, err := ReadMode(p.host, testStore); err != nil || mode.Type != cfg.None {
		t.Errorf("the mode of the other: %v, %v", mode, err)
	}
}
