package reach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mute mounts a file system on dir that never answers, until the test ends.
func mute(t *testing.T, dir, kind string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	if err := unix.Mount("mute", dir, kind, unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		unix.Close(fd)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fd) // whoever waits is told so
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	})
}

func makeDirs(t *testing.T, top string, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.MkdirAll(filepath.Join(top, n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	top := t.TempDir()
	makeDirs(t, top, "a/b/c", "d", "tree")
	mute(t, filepath.Join(top, "tree"), TreeType)
	link(t, "a/b", filepath.Join(top, "link"))
	link(t, "../link/c", filepath.Join(top, "d", "nested"))
	link(t, filepath.Join(top, "d"), filepath.Join(top, "absolute"))
	link(t, "loop", filepath.Join(top, "loop"))
	link(t, "tree/host", filepath.Join(top, "into"))
	t.Chdir(filepath.Join(top, "a"))
	for _, c := range []struct {
		path, want string
		tree       bool
		err        error
	}{
		{path: top, want: ""},
		{path: top + "//a/./b/", want: "a/b"},
		{path: top + "/link", want: "a/b"},
		{path: top + "/link/..", want: "a"},
		{path: top + "/absolute/nested", want: "a/b/c"},
		{path: top + "/absolute/nested/../../../d", want: "d"},
		{path: "b/c", want: "a/b/c"},
		{path: "../link/", want: "a/b"},
		{path: ".", want: "a"},
		{path: top + "/missing/x", want: "missing/x", err: unix.ENOENT},
		{path: top + "/loop", want: "loop", err: unix.ELOOP},
		{path: top + "/tree", want: "tree", tree: true},
		{path: top + "/tree/", want: "tree", tree: true},
		{path: top + "/tree/host/x", want: "tree/host/x", tree: true},
		{path: top + "/tree/host/../..", want: ""},
		{path: top + "/tree/../a", want: "a"},
		{path: top + "/into/x", want: "tree/host/x", tree: true},
		{path: "/proc/self/root" + top + "/link", want: "a/b"},
	} {
		got, err := Resolve(context.Background(), c.path)
		if want := filepath.Join(top, c.want); got.Path != want || got.Tree != c.tree || !errors.Is(err, c.err) {
			t.Errorf("%s: leads to %+v, %v; want %s, %v", c.path, got, err, want, c.err)
		}
		if c.err == nil && !c.tree && (!got.IsDir() || !os.SameFile(statOf(t, got.Path), statOf(t, filepath.Join(top, c.want)))) {
			t.Errorf("%s: leads to %+v, which is something else", c.path, got)
		}
		if c.tree && got.Top != filepath.Join(top, "tree") {
			t.Errorf("%s: leads into the tree %s", c.path, got.Top)
		}
	}
}

func statOf(t *testing.T, path string) os.FileInfo {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// A file system that hangs costs the time it is given and no more; nothing is
// asked of a tree of pbsfs.
func TestResolveEnds(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	makeDirs(t, top, "hung", "tree")
	mute(t, filepath.Join(top, "hung"), "fuse.other")
	mute(t, filepath.Join(top, "tree"), TreeType)
	if got, err := Resolve(context.Background(), top+"/hung/x/../y"); !errors.Is(err, ErrHangs) || got.Path != top+"/hung/y" {
		t.Errorf("a path that hangs: %+v, %v", got, err)
	}
	if got, err := Resolve(context.Background(), top+"/hung/../tree/x"); err == nil && got.Path != top+"/tree/x" {
		t.Errorf("a path out of what hangs: %+v, %v", got, err)
	}
}

func TestResolveEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan struct{})
	defer close(end)
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := Try(ctx, func() (int, error) { <-end; return 0, nil })
	if !errors.Is(err, context.Canceled) && !errors.Is(err, ErrHangs) {
		t.Errorf("ended with %v", err)
	}
}

// hanger finds at once, unless the path begins with "hang".
type hanger struct {
	calls   atomic.Int32
	release chan struct{}
	mount   uint64
}

func (h *hanger) find(path string, entering func(uint64)) (string, error) {
	h.calls.Add(1)
	entering(h.mount)
	if strings.HasPrefix(path, "hang") {
		<-h.release
	}
	return "found " + path, nil
}

func someMount(t *testing.T) uint64 {
	t.Helper()
	place, err := Follow("/")
	if err != nil {
		t.Fatal(err)
	}
	return place.Mount
}

func TestPathThatHangsIsNotWaitedForAgain(t *testing.T) {
	t.Parallel()
	h := &hanger{release: make(chan struct{}), mount: someMount(t)}
	m := NewMemory(h.find)
	ctx := context.Background()
	if _, _, ok := m.Known("hang"); ok {
		t.Error("known without a look")
	}
	m.Look(ctx, "hang", "a")
	for range 1000 { // a wait for each would take half an hour
		m.Look(ctx, "hang", "hang")
		m.Changed()
	}
	if _, err, ok := m.Known("hang"); !ok || !errors.Is(err, ErrHangs) {
		t.Errorf("known: %v, %v", ok, err)
	}
	if n := h.calls.Load(); n != 2 {
		t.Errorf("%d looks at two paths", n)
	}
	m.Look(ctx, "a") // the mounts have changed
	if got, err, ok := m.Known("a"); got != "found a" || err != nil || !ok {
		t.Errorf("known: %q, %v, %v", got, err, ok)
	}
	close(h.release)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		m.Look(ctx, "hang")
		if got, err, ok := m.Known("hang"); got == "found hang" && err == nil && ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the path answers again, and nobody sees it")
		}
	}
}

// A path that led to a mount that has gone leads elsewhere now.
func TestPathIsLookedAtAgainWhenItsMountHasGone(t *testing.T) {
	t.Parallel()
	h := &hanger{release: make(chan struct{}), mount: 1 << 40}
	defer close(h.release)
	m := NewMemory(h.find)
	m.Look(context.Background(), "hang")
	m.Changed()
	m.Look(context.Background(), "hang")
	if n := h.calls.Load(); n != 2 {
		t.Errorf("%d looks, want one for each mount", n)
	}
}
