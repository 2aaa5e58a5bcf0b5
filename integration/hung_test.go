package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mute mounts a file system of another kind that never answers, until the test ends.
func mute(t *testing.T, dir string) string {
	t.Helper()
	needRoot(t)
	needFUSE(t)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Mount("mute", dir, "fuse.mute", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)))
	t.Cleanup(func() {
		must(t, unix.Close(fd)) // whoever waits is told so
		must(t, unix.Unmount(dir, unix.MNT_DETACH))
	})
	return dir
}

// No command hangs because a file system that the configuration names does, or a
// tree whose process does not answer; the datastore that is well is read and set.
func TestNothingHangsBesideWhatHangs(t *testing.T) {
	needRoot(t)
	m := newTank(t, copyFixture(t, "ds-basic"))
	h, elsewhere := m.host, newHost(t)
	stopped := elsewhere.mount(copyFixture(t, "ds-basic"))
	dir := tempDir(t)
	dead := mute(t, subdir(t, dir, "dead"))
	must(t, os.Symlink(dead+"/x", dir+"/link"))
	places := []string{
		dead, dead + "/a/b", dir + "/link/../y", stopped.path(vm100), m.path(vm100), m.path(), dir + "/link",
	}
	config := h.config()
	for i, at := range places {
		config += fmt.Sprintf("\ndatastore: hung%d\n\tpath %s\n", i, at)
	}
	stopped.process.signal(t, syscall.SIGSTOP)
	defer stopped.process.signal(t, syscall.SIGCONT)
	replace(t, h.configFile(), config)

	must(t, opens(m.path(conf)))
	other := copyFixture(t, "ds-basic")
	again := h.unmounted(other)
	for _, got := range h.atOnce([][]string{
		{"status"},
		{"status", tank, "--json"},
		{"datastore", "list"},
		{"ls", tank},
		{"cat", tank, conf},
		{"maintenance", "show", tank},
		{"status", "hung1"},
		{"maintenance", "show", "hung3"},
		{"datastore", "remove", "hung2"},
		{"datastore", "add", "another", other},
		{"mount", other, again.dir, "--log", again.log},
		{"maintenance", "set", "hung4", "offline"},
	}) {
		got.want(t, 0)
	}
	again.process = again.findServer()
	h.bounded("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
	h.bounded("maintenance", "clear", tank).want(t, 0)
	must(t, opens(m.path(conf)))
	h.refuseWhatHangs(other, dead, stopped.path("host"))
	for _, got := range h.atOnce([][]string{{"unmount", tank}, {"unmount", again.dir}}) {
		got.want(t, 0)
	}
	m.gone()
}

// atOnce runs commands side by side, and fails the test if one does not end.
func (h *host) atOnce(lines [][]string) []result {
	h.t.Helper()
	results := make([]result, len(lines))
	var all sync.WaitGroup
	for i, args := range lines {
		all.Go(func() { results[i] = h.run(args...) })
	}
	done := make(chan struct{})
	go func() { defer close(done); all.Wait() }()
	select {
	case <-done:
	case <-time.After(2 * endsWithin):
		h.t.Fatalf("not all of these have ended: %q", lines)
	}
	return results
}

// refuseWhatHangs names places that hang on command lines.
func (h *host) refuseWhatHangs(store string, hung ...string) {
	t := h.t
	t.Helper()
	var lines [][]string
	for _, dir := range hung {
		lines = append(lines, linesThatHang(t, store, filepath.Join(dir, "x"))...)
	}
	for i, got := range h.atOnce(lines) {
		if got.code == 0 || got.code == 2 || strings.Count(strings.TrimSpace(got.stderr), "\n") > 0 {
			t.Errorf("pbsfs %q: got exit code %d and %q", lines[i], got.code, got.stderr)
		}
	}
}

func linesThatHang(t *testing.T, store, in string) [][]string {
	return [][]string{
		{"mount", in, tempDir(t)},
		{"mount", store, in},
		{"mount", store, tempDir(t), "--keyfile", in},
		{"mount", store, tempDir(t), "--log", in},
		{"status", in},
		{"datastore", "add", "new", in},
		{"datastore", "add", "new", in, "--create"},
		{"snapshot", "create", "a.pxar:" + in, store, "--id", "x"},
		{"snapshot", "create", "a.conf:" + in, store, "--id", "x"},
		{"snapshot", "create", "a.conf:/etc/hostname", in, "--init", "--id", "x"},
		{"ls", in},
		{"cat", in, "x"},
		{"demo", in},
		{"maintenance", "set", in, "offline"},
		{"unmount", in},
		{"key", "show", in},
	}
}
