package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// collecting takes the lock that a garbage collection takes, as another process
// than those that are tested, and returns how to give it back.
func collecting(store string) (free func(), err error) {
	f, err := os.OpenFile(filepath.Join(store, ".lock"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// slowSource returns a SOURCE that takes hours to read.
func slowSource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Truncate(writeFile(t, filepath.Join(dir, "hole"), nil), 1<<40))
	return "slow.pxar:" + dir
}

func TestWritersWaitForAGarbageCollection(t *testing.T) {
	h := newHost(t)
	dir := memoryDir(t)
	store, conf := bareStore(t, dir), "a.conf:"+writeFile(t, filepath.Join(dir, "conf"), []byte("text"))
	free, err := collecting(store)
	must(t, err)
	before, _ := snapshotFiles(t, store)
	got := h.run("snapshot", "create", conf, store, "--id", "x", "--wait", "0s")
	if got.code != 3 {
		t.Errorf("got exit code %d, want 3", got.code)
	}
	got.says(t, "pbsfs: datastore ", ": a garbage collection is running\n")
	if after, _ := snapshotFiles(t, store); !slices.Equal(before, after) {
		t.Errorf("there was %q, and now %q", before, after)
	}
	said := filepath.Join(dir, "said")
	out, err := os.Create(said)
	must(t, err)
	defer out.Close()
	cmd := h.command("snapshot", "create", conf, store, "--id", "x", "--wait", "1h")
	cmd.Stderr = out
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	eventually(t, "telling that it waits", func() error {
		if text, err := os.ReadFile(said); !strings.Contains(string(text), "pbsfs: waiting: a garbage collection is running\n") {
			return unlike("it said %q, %v", text, err)
		}
		return nil
	})
	free()
	if err := cmd.Wait(); err != nil || len(h.snapshots(store)) != 1 {
		t.Errorf("after the garbage collection: %v, and there are %q", err, h.snapshots(store))
	}
}

// Whoever writes is counted, and keeps others away from what it writes to.
func TestWritersAreOperations(t *testing.T) {
	h := newHost(t)
	dir := memoryDir(t)
	store, conf := bareStore(t, dir), "a.conf:"+writeFile(t, filepath.Join(dir, "conf"), []byte("text"))
	h.run("datastore", "add", tank, store).want(t, 0)
	w := h.start("snapshot", "create", slowSource(t), tank, "--id", "x")
	var snapshot string
	eventually(t, "an unfinished snapshot", func() error {
		list, _ := filepath.Glob(filepath.Join(store, "host/x/*Z"))
		if len(list) == 0 {
			return unlike("there is none")
		}
		snapshot = list[0]
		return nil
	})
	eventually(t, "one write being counted", func() error { // it has read before
		s := h.status()
		if len(s.Processes) != 1 || s.Processes[0].PID != w.cmd.Process.Pid || s.Processes[0].Read != 0 || s.Processes[0].Write != 1 {
			return unlike("got %+v, want one write of process %d", s.Processes, w.cmd.Process.Pid)
		}
		return nil
	})
	if all := h.operations(); len(all) != 1 || all[0].PID != w.cmd.Process.Pid || all[0].Active.Write != 1 {
		t.Errorf("got the operations %+v", all)
	}
	if text := h.run("status", tank).stdout; !strings.Contains(text, fmt.Sprintf("process %d pbsfs: 0 read, 1 write", w.cmd.Process.Pid)) {
		t.Errorf("status: does not tell of the write: %s", text)
	}
	for _, mode := range []string{"read-only", "offline"} {
		refused := h.run("maintenance", "set", tank, mode, "--wait", "0s")
		refused.want(t, 3)
		refused.says(t, fmt.Sprintf("process %d pbsfs: 0 read, 1 write", w.cmd.Process.Pid))
	}
	if _, err := collecting(store); !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
		t.Errorf("a garbage collection beginning: got %v, want %v", err, unix.EAGAIN)
	}
	for _, at := range []string{snapshot, filepath.Dir(snapshot)} {
		_, err := flocked(at, unix.LOCK_SH)
		wantErrno(t, "a shared lock of "+at, err, unix.EWOULDBLOCK)
	}
	busy := h.run("snapshot", "create", conf, tank, "--id", "x", "--wait", "0s")
	if busy.code != 3 {
		t.Errorf("the same group: got exit code %d, want 3", busy.code)
	}
	busy.says(t, "host/x: somebody else writes to the backup group\n")
	h.create(conf, tank, "--id", "y")
	must(t, w.cmd.Process.Signal(syscall.SIGTERM))
	w.end(1)
	h.run("maintenance", "set", tank, "read-only", "--wait", "0s").want(t, 0)
	if free, err := collecting(store); err == nil {
		free()
	} else {
		t.Errorf("a garbage collection after it: %v", err)
	}
}

// A mount beside the writer shows the snapshot soon, and not before it is whole.
func TestSnapshotsAppearWhole(t *testing.T) {
	k := newKilled(t)
	for i := range 5 {
		id := fmt.Sprintf("a%d", i)
		w := k.h.start(append(k.args, "--id", id)...)
		var names []string
		eventually(t, "the snapshot appearing", func() error {
			names, _ = filepath.Glob(k.m.path("host", id, "*Z"))
			if len(names) == 0 {
				return unlike("there is none")
			}
			return nil
		})
		for _, a := range k.want {
			reportDifferences(t, a.name, compare(filepath.Join(names[0], a.name), a))
		}
		w.end(0)
		k.forget()
	}
	if lines := k.m.logLines("level=ERROR"); len(lines) > 0 {
		t.Errorf("the mount complains: %q", lines)
	}
}
