package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// noneBelow is nil when none of the paths lies in or below a directory.
func noneBelow(paths []string, dir string) error {
	for _, p := range paths {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return fmt.Errorf("%s is in use", p)
		}
	}
	return nil
}

// uses returns what the process has open, mapped, or as a working directory.
func (p process) uses(t *testing.T) []string {
	t.Helper()
	out := p.descriptors(t)
	for _, link := range []string{"cwd", "root"} {
		to, err := os.Readlink(p.proc(link))
		must(t, err)
		out = append(out, to)
	}
	maps, err := os.ReadFile(p.proc("maps"))
	must(t, err)
	for line := range strings.Lines(string(maps)) {
		if i := strings.IndexByte(line, '/'); i >= 0 {
			out = append(out, strings.TrimSuffix(line[i:], "\n"))
		}
	}
	return out
}

// filesOf returns the device and inode of all that a datastore consists of, as
// /proc/locks has them.
func filesOf(t *testing.T, store string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	must(t, filepath.WalkDir(store, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		err = lstat(p, &st)
		out[fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)] = p
		return err
	}))
	return out
}

// noLocks is nil when the process holds no lock on one of the files.
func (p process) noLocks(t *testing.T, files map[string]string) error {
	t.Helper()
	locks, err := os.ReadFile("/proc/locks")
	must(t, err)
	for line := range strings.Lines(string(locks)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[4] != fmt.Sprint(p.pid) {
			continue
		}
		if path, ok := files[fields[5]]; ok {
			return fmt.Errorf("%s is locked", path)
		}
	}
	return nil
}

// idle waits until the process has nothing of the datastore open.
func (m *mount) idle(files map[string]string) {
	m.t.Helper()
	eventually(m.t, "the mount being idle", func() error {
		if err := noneBelow(m.process.uses(m.t), m.store); err != nil {
			return err
		}
		return m.process.noLocks(m.t, files)
	})
}

func TestIdleMountHoldsNothing(t *testing.T) {
	needRoot(t)
	m := mountAt(t, fixture(t, "ds-basic"))
	files := filesOf(t, m.store)
	m.idle(files)

	f, err := os.Open(m.path(diskImage))
	must(t, err)
	_, err = f.Read(make([]byte, 4096))
	must(t, err)
	if noneBelow(m.process.uses(t), m.store) == nil {
		t.Error("nothing of the datastore is open while a file is: then this test cannot fail")
	}
	must(t, f.Close())
	m.idle(files)

	for _, a := range truth(t, "ds-basic") {
		reportDifferences(t, a.name, compare(m.path(a.name), a))
	}
	m.idle(files)
}

// The file system of an idle datastore can be unmounted, and when it is back
// the same mount goes on.
func TestFileSystemUnmountedUnderIdleMount(t *testing.T) {
	d := newDisk(t, 256)
	store := filepath.Join(d.dir, "store")
	tool(t, "cp", "-a", fixture(t, "ds-basic"), store)
	m := mountAt(t, store)
	want := truthOf(t, "ds-basic", alpha+"/etc.pxar")
	reportDifferences(t, want.name, compare(m.path(want.name), want))
	_, err := os.Lstat(m.path(diskImage))
	must(t, err)
	var own, shown unix.Statfs_t
	must(t, statfs(store, &own))
	must(t, statfs(m.dir, &shown))
	if own.Bfree != shown.Bfree || own.Bavail != shown.Bavail || own.Ffree != shown.Ffree {
		t.Errorf("statfs: got %+v, want the figures of %+v", shown, own)
	}
	m.idle(nil)
	d.umount() // fails when anything is in use

	for _, path := range []string{"host/never-seen", "ns/prod/host/small-bravo", alpha + "/root.pxar/never-seen"} {
		_, err = os.Lstat(m.path(path))
		wantErrno(t, "a name never seen, without the disk: "+path, err, unix.ENOMEDIUM)
	}
	for _, path := range []string{"host", "host/alpha", alpha, want.name} {
		if _, err := os.Lstat(m.path(path)); err != nil {
			t.Errorf("a name that was seen, without the disk: %v", err)
		}
	}
	if _, err := os.Lstat(m.path(diskImage)); err != nil {
		t.Errorf("an image that was seen, without the disk: %v", err)
	}
	_, err = os.ReadFile(m.path(diskImage))
	wantErrno(t, "reading an image, without the disk", err, unix.ENOMEDIUM)
	if got := new(unix.Statfs_t); statfs(m.dir, got) != nil || got.Blocks != shown.Blocks {
		t.Errorf("statfs without the disk: got %+v, want the last figures %+v", got, shown)
	}

	d.mount()
	eventually(t, "the datastore being back", func() error {
		_, err := os.Lstat(m.path("ns/prod/host/small-bravo"))
		return err
	})
	reportDifferences(t, want.name, compare(m.path(want.name), want))
	m.unmount()
}
