package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// loopDevice makes a read-only block device of a part of a file until the test
// ends. size 0 is all there is.
func loopDevice(t *testing.T, file string, off, size int64) string {
	t.Helper()
	needLoop(t)
	args := []string{"--find", "--show", "--read-only", "--offset", strconv.FormatInt(off, 10)}
	if size > 0 {
		args = append(args, "--sizelimit", strconv.FormatInt(size, 10))
	}
	dev := strings.TrimSpace(tool(t, "losetup", append(args, file)...))
	t.Cleanup(func() {
		tool(t, "losetup", "--detach", dev)
		eventually(t, "detaching "+dev, func() error {
			if file, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(dev), "loop/backing_file")); err == nil {
				return fmt.Errorf("it still has the file %s", file)
			}
			return nil
		})
	})
	return dev
}

func needLoop(t *testing.T) {
	t.Helper()
	needRoot(t)
	needTool(t, "losetup")
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
}

// disk is a file system of its own in a file.
type disk struct {
	t    *testing.T
	file string
	dir  string // where it is mounted
}

// newDisk makes an ext4 file system, mounted until the test ends. It holds
// extended attributes of 64 KiB, device nodes and all else that a backup does.
func newDisk(t *testing.T, megabytes int64) *disk {
	t.Helper()
	needLoop(t)
	needTool(t, "mkfs.ext4")
	base := tempDir(t)
	d := &disk{t: t, file: filepath.Join(base, "disk"), dir: subdir(t, base, "on")}
	f, err := os.Create(d.file)
	must(t, err)
	must(t, f.Truncate(megabytes<<20))
	must(t, f.Close())
	tool(t, "mkfs.ext4", "-q", "-F", "-b", "4096", "-N", "16384", "-O", "ea_inode", "-E", "lazy_itable_init=0,nodiscard", d.file)
	d.mount()
	t.Cleanup(func() {
		if mountsAt(t, d.dir) > 0 {
			d.umount()
		}
	})
	return d
}

func (d *disk) mount() {
	d.t.Helper()
	tool(d.t, "mount", "-o", "loop,noatime", d.file, d.dir)
}

// umount unmounts the file system as an administrator does: it works only when
// nobody uses it.
func (d *disk) umount() {
	d.t.Helper()
	tool(d.t, "umount", d.dir)
}

// mountDevice mounts a device read-only until the test ends.
func mountDevice(t *testing.T, dev string) string {
	t.Helper()
	dir := tempDir(t)
	tool(t, "mount", "-t", "ext4", "-o", "ro,noload", dev, dir)
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}
