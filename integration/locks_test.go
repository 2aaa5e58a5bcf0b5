package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unlocked is nil when nobody has a lock of the file, shared or not.
func unlocked(path string) error {
	free, err := flocked(path, unix.LOCK_EX)
	if err == nil {
		free()
	}
	return err
}

// sharedOnly is nil when somebody has a shared lock of the file.
func sharedOnly(path string) error {
	if err := unlocked(path); !errors.Is(err, unix.EWOULDBLOCK) {
		return unlike("an exclusive lock of %s: got %v, want %v", path, err, unix.EWOULDBLOCK)
	}
	free, err := flocked(path, unix.LOCK_SH)
	if err != nil {
		return fmt.Errorf("a shared lock of %s: %w", path, err)
	}
	free()
	return nil
}

// lockFiles are where a server has the locks of snapshots, below its run
// directory.
var lockFiles = map[string]string{
	alpha:                   `locks/tank/host-alpha-2023\x2d11\x2d15T22\x3a13\x3a27Z`,
	vm100:                   `locks/tank/vm-100-2023\x2d11\x2d14T22\x3a30\x3a00Z`,
	filepath.Dir(images[1]): `locks/tank/prod/vm-102-2023\x2d11\x2d14T23\x3a24\x3a02Z`,
	"ns/prod/ns/db/host/beta/2023-11-15T13:39:15Z": `locks/tank/prod:db/host-beta-2023\x2d11\x2d15T13\x3a39\x3a15Z`,
}

// A snapshot that is being read cannot be removed: neither by an older server,
// which locks its directory, nor by a newer one, which locks a file.
func TestSnapshotsAreLockedWhileTheyAreRead(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	h, _, _ := newServerHost(t, store)
	m := h.mount(store)
	for snapshot, name := range lockFiles {
		dir, file := filepath.Join(store, snapshot), filepath.Join(h.dir, "run", name)
		must(t, unlocked(dir))
		f, err := os.Open(m.path(snapshot, "index.json"))
		must(t, err)
		for _, path := range []string{dir, file} {
			if err := sharedOnly(path); err != nil {
				t.Errorf("%s is being read: %v", snapshot, err)
			}
		}
		var st unix.Stat_t
		must(t, lstat(file, &st))
		if st.Uid != nobody || st.Gid != nobody || st.Mode&0o7777 != 0o660 {
			t.Errorf("%s: got owner %d:%d and mode %o, want those of the server", file, st.Uid, st.Gid, st.Mode&0o7777)
		}
		for at := filepath.Dir(file); at != filepath.Join(h.dir, "run"); at = filepath.Dir(at) {
			must(t, lstat(at, &st))
			if st.Uid != nobody || st.Gid != nobody {
				t.Errorf("%s: got owner %d:%d, want those of the server", at, st.Uid, st.Gid)
			}
		}
		if s := h.status(); len(s.Locked) != 1 || s.Locked[0].Snapshot != snapshot || s.Locked[0].Mountpoint != m.dir || s.Locked[0].Since.IsZero() {
			t.Errorf("status: got the locked snapshots %+v, want %s", s.Locked, snapshot)
		}
		must(t, f.Close())
		for _, path := range []string{dir, file} {
			eventually(t, "the lock going with the last handle", func() error { return unlocked(path) })
		}
	}
}

// The lock stays until the last handle of the snapshot is closed, and other
// snapshots are not locked.
func TestSnapshotLockGoesWithLastHandle(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	m := newTank(t, store)
	var open []*os.File
	for _, path := range []string{alpha, alpha + "/index.json", alpha + "/etc.pxar"} {
		f, err := os.Open(m.path(path))
		must(t, err)
		open = append(open, f)
	}
	other, err := os.Open(m.path(conf))
	must(t, err)
	for _, f := range open {
		if err := sharedOnly(filepath.Join(store, alpha)); err != nil {
			t.Errorf("with %s open: %v", f.Name(), err)
		}
		must(t, f.Close())
	}
	eventually(t, "the lock going with the last handle", func() error { return unlocked(filepath.Join(store, alpha)) })
	if err := sharedOnly(filepath.Join(store, vm100)); err != nil {
		t.Error(err)
	}
	must(t, other.Close())
}

// A snapshot that the server is about to change cannot be opened, until it is
// done.
func TestSnapshotLockedByServer(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	h, _, _ := newServerHost(t, store)
	m := h.mount(store)
	must(t, opens(m.path(conf)))
	file := filepath.Join(h.dir, "run", lockFiles[vm100])
	for _, path := range []string{filepath.Join(store, vm100), file} {
		var free func()
		eventually(t, "the lock being free", func() (err error) {
			free, err = flocked(path, unix.LOCK_EX)
			return err
		})
		for _, name := range []string{conf, vm100} {
			_, err := os.Open(m.path(name))
			wantErrno(t, "opening "+name+" while "+path+" is locked", err, unix.EBUSY)
		}
		if err := opens(m.path(alpha, "index.json")); err != nil {
			t.Errorf("another snapshot: %v", err)
		}
		if _, err := os.Lstat(m.path(conf)); err != nil {
			t.Errorf("stat of what was seen: %v", err)
		}
		free()
		if err := opens(m.path(conf)); err != nil {
			t.Errorf("after the lock of %s was released: %v", path, err)
		}
	}
}

// The lock of the whole datastore is never taken: garbage could not be
// collected while something is mounted.
func TestStoreIsNotLocked(t *testing.T) {
	needRoot(t)
	m := newTank(t, copyFixture(t, "ds-basic"))
	f, err := os.Open(m.path(diskImage))
	must(t, err)
	_, err = f.Read(make([]byte, 4096))
	must(t, err)
	lock := filepath.Join(m.store, ".lock")
	var st unix.Stat_t
	must(t, lstat(lock, &st))
	locks, err := os.ReadFile("/proc/locks")
	must(t, err)
	if held := fmt.Sprintf(":%d ", st.Ino); strings.Contains(string(locks), held) {
		t.Errorf("%s is locked:\n%s", lock, locks)
	}
	if m.process.noLocks(t, filesOf(t, m.store)) == nil {
		t.Error("the serving process has no lock at all: then this test cannot fail")
	}
	// As the server's garbage collection takes it.
	fd, err := open(lock, unix.O_RDWR)
	must(t, err)
	whole := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &whole); err != nil {
		t.Errorf("locking %s: %v", lock, err)
	}
	must(t, unix.Close(fd))
	must(t, f.Close())
}

// What a command reads without a mount is locked as an open file of one is.
func TestSnapshotsAreLockedWhileCommandsReadThem(t *testing.T) {
	h := newHost(t)
	dir := memoryDir(t)
	store := bareStore(t, dir)
	name := h.create("disk.img:"+writeFile(t, filepath.Join(dir, "image"), noise(1, 1<<20)), store, "--id", "x")
	path := filepath.Join(store, name)
	must(t, unlocked(path))
	cat := h.start("cat", store, name+"/disk.img") // more than a pipe has room for
	_, err := cat.stdout.ReadByte()
	must(t, err)
	if err := sharedOnly(path); err != nil {
		t.Errorf("%s is being read: %v", name, err)
	}
	_, err = cat.stdout.WriteTo(io.Discard)
	must(t, err)
	cat.end(0)
	must(t, unlocked(path))
	free, err := flocked(path, unix.LOCK_EX)
	must(t, err)
	h.run("cat", store, name+"/disk.img").says(t, "locked")
	h.run("ls", store, name).says(t, "locked")
	h.run("ls", store, filepath.Dir(name)).want(t, 0)
	free()
}
