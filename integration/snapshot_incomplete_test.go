package integration

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What is there and cannot be read is left out, is told, and is to be seen by
// the exit code; the snapshot has the rest.
func TestIncompleteSnapshotFails(t *testing.T) {
	h := newUserHost(t)
	dir := memoryDir(t)
	src := subdir(t, dir, "src")
	must(t, os.Chmod(dir, 0o777))
	writeFile(t, filepath.Join(src, "a"), []byte("a"))
	create := func(id string) result {
		return h.run("snapshot", "create", "a.pxar:"+src, filepath.Join(dir, "store"), "--init", "--id", id)
	}
	create("whole").want(t, 0)
	must(t, os.Chmod(writeFile(t, filepath.Join(src, "b"), []byte("b")), 0o600))
	must(t, os.Chmod(subdir(t, src, "c"), 0o700))
	got := create("part")
	if got.code != 1 {
		t.Errorf("exit code %d, want 1; stderr: %s", got.code, got.stderr)
	}
	got.says(t, "left out", "stored empty", "2 things are missing")
	name := strings.TrimSpace(got.stdout)
	if list := h.run("ls", filepath.Join(dir, "store"), name+"/a.pxar"); list.stdout != "a\nc\n" {
		t.Errorf("in the snapshot is %q, stderr: %s", list.stdout, list.stderr)
	}
}

// A file server that has a lease on a file for its client gives it back when it
// is asked, and is waited for.
func TestLeasedSources(t *testing.T) {
	h := newHost(t)
	dir := memoryDir(t)
	store, src := bareStore(t, dir), subdir(t, dir, "src")
	broken := make(chan os.Signal, 16)
	signal.Notify(broken, syscall.SIGIO)
	defer signal.Stop(broken)
	var files []*os.File
	for _, name := range []string{"file", "image", "conf"} {
		f, err := os.Create(filepath.Join(src, name))
		must(t, err)
		defer f.Close()
		_, err = f.WriteString(name)
		must(t, err)
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
			t.Skipf("no leases here: %v", err)
		}
		files = append(files, f)
	}
	done := make(chan result)
	go func() {
		done <- h.run("snapshot", "create", "a.img:"+src+"/image", "a.conf:"+src+"/conf", "a.pxar:"+src, store, "--id", "x")
	}()
	var got result
	for ended := false; !ended; {
		select {
		case <-broken:
			giveBack(files)
		case got = <-done:
			ended = true
		}
	}
	got.want(t, 0)
	name := strings.TrimSpace(got.stdout)
	for path, want := range map[string]string{"a.img": "image", "a.conf": "conf", "a.pxar/file": "file", "a.pxar/image": "image"} {
		if text := h.run("cat", store, fmt.Sprintf("%s/%s", name, path)); text.stdout != want {
			t.Errorf("%s: got %q, want %q; stderr: %s", path, text.stdout, want, text.stderr)
		}
	}
}

// giveBack gives back the leases that somebody else waits for.
func giveBack(files []*os.File) {
	for _, f := range files {
		if kind, err := unix.FcntlInt(f.Fd(), unix.F_GETLEASE, 0); err == nil && kind != unix.F_WRLCK {
			_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		}
	}
}

// Whoever is to be told the snapshot's name and was not must not think that all is well.
func TestNameOfASnapshotThatCannotBePrinted(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer full.Close()
	h := newHost(t)
	store := filepath.Join(t.TempDir(), "store")
	cmd := h.command("snapshot", "create", "a.pxar:"+subdir(t, t.TempDir(), "src"), store, "--init", "--id", "x")
	cmd.Stdout = full
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("got %v, want exit code 1", err)
	}
	if got := h.run("ls", store, "host/x"); !strings.Contains(got.stdout, "latest") {
		t.Errorf("the snapshot is not there: %q", got.stdout)
	}
}
