package maint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

func TestSnapshotLockFileIsWhereANewPBSLooks(t *testing.T) {
	long := "host/" + strings.Repeat("-", 100) + "/2024-06-05T14:24:36Z"
	for _, c := range []struct {
		ns         []string
		path, want string
	}{
		{nil, "vm/100", "vm-100"},
		{nil, "host/my-pc/2024-06-05T14:24:36Z", `host-my\x2dpc-2024\x2d06\x2d05T14\x3a24\x3a36Z`},
		{[]string{"a", "b"}, "ct/1/2024-06-05T14:24:36Z", `a:b/ct-1-2024\x2d06\x2d05T14\x3a24\x3a36Z`},
	} {
		if got := snapshotLockFile("/locks", "store", c.ns, c.path); got != "/locks/store/"+c.want {
			t.Errorf("lock file of %v %s = %s, want /locks/store/%s", c.ns, c.path, got, c.want)
		}
	}
	got := snapshotLockFile("/locks", "store", nil, long)
	name := filepath.Base(got)
	if filepath.Dir(got) != "/locks/store/hashed" || len(name) != 80+3+80+1+64 || name[80:83] != "..." {
		t.Errorf("lock file of a long name = %s, want hashed/<80>...<80>-<sha256>", got)
	}
}

// pbsHost is a host that looks like one with a PBS, in a directory of its own.
func pbsHost(t *testing.T) hosts.Host {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"etc", "run"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc", "authkey.key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := hosts.NewHost(hosts.HostOptions{ConfigDir: filepath.Join(dir, "etc"), RunDir: filepath.Join(dir, "run"), UID: os.Geteuid()})
	if err != nil {
		t.Fatal(err)
	}
	if !h.IsPBS() {
		t.Fatal("not recognised as a host with PBS")
	}
	return h
}

func TestSnapshotLockIsSharedAndKeepsOutAnExclusiveOne(t *testing.T) {
	h := pbsHost(t)
	const path = "host/x/2024-06-05T14:24:36Z"
	a, err := LockSnapshot(h, []string{"store"}, nil, path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LockSnapshot(h, []string{"store"}, nil, path)
	if err != nil {
		t.Fatalf("second shared lock: %v", err)
	}
	file := snapshotLockFile(h.LocksDir(), "store", nil, path)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("exclusive lock beside a shared one: %v, want EWOULDBLOCK", err)
	}
	a.Release()
	b.Release()
	b.Release() // again: nothing happens
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("exclusive lock after Release: %v", err)
	}
	if _, err := LockSnapshot(h, []string{"store"}, nil, path); !errors.Is(err, statefile.ErrLocked) {
		t.Errorf("shared lock beside an exclusive one: %v, want ErrLocked", err)
	}
}

func TestSnapshotLockFileThatWasRemovedIsNotTrusted(t *testing.T) {
	h := pbsHost(t)
	const path = "vm/1/2024-06-05T14:24:36Z"
	l, err := LockSnapshot(h, []string{"store"}, nil, path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	file := snapshotLockFile(h.LocksDir(), "store", nil, path)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	again, err := LockSnapshot(h, []string{"store"}, nil, path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Release()
	if !statefile.SameFile(again.files[0], file) {
		t.Error("lock is on a file that is no longer there")
	}
}
