package imagetest

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/image"
)

// Lack is what a format does not have.
type Lack uint

const (
	LackOwners       Lack = 1 << iota // owner, group, and permissions
	LackSymlinks                      // symbolic links
	LackHardlinks                     // more than one name of a file
	LackSpecial                       // devices, fifos, sockets
	LackXattrs                        // user.*, trusted.*, security.*
	LackACLs                          // POSIX ACLs
	LackHoles                         // holes, and what makes files longer than the image
	LackUnwritten                     // fallocate
	LackRawNames                      // names that are not UTF-8, or that Windows does not allow
	LackInodeNumbers                  // numbers that are the same as in the mount
	LackNlink                         // a link count
	LackBlocks                        // st_blocks as the mount has it
	LackDirSizes                      // sizes of directories
)

// Format says how an image is made and mounted.
type Format struct {
	Type  string   // for mount -t
	Mkfs  []string // the path of the image is added
	Size  int64
	Mount string // options, with commas
	// MountWith is a program that mounts instead of mount(8): it gets "-o" and options, the
	// image and the directory.
	MountWith []string
	Lacks     Lack
}

// Image is a file with a file system.
type Image struct {
	Format
	Path string
}

// OpenFunc is the Open of a decoder.
type OpenFunc func(r io.ReaderAt, size int64) (image.FileSystem, error)

// New makes an empty file system. The test is skipped where that is not possible.
func New(t testing.TB, f Format) *Image {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting images needs root")
	}
	if _, err := exec.LookPath(f.Mkfs[0]); err != nil {
		t.Skipf("no %s: %v", f.Mkfs[0], err)
	}
	im := &Image{f, filepath.Join(t.TempDir(), "image")}
	if err := os.WriteFile(im.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(im.Path, f.Size); err != nil {
		t.Fatal(err)
	}
	run(t, append(append([]string{}, f.Mkfs...), im.Path)...)
	return im
}

func run(t testing.TB, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// Update mounts the image and calls fn with the directory. Everything is in the image when
// it returns.
func (im *Image) Update(t testing.TB, fn func(dir string)) {
	t.Helper()
	im.mounted(t, "rw", fn)
}

// View mounts the image read-only and calls fn with the directory.
func (im *Image) View(t testing.TB, fn func(dir string)) {
	t.Helper()
	im.mounted(t, "ro", fn)
}

func (im *Image) mounted(t testing.TB, options string, fn func(dir string)) {
	t.Helper()
	dir := t.TempDir()
	if im.Mount != "" {
		options += "," + im.Mount
	}
	// A device that can be written to, also for "ro": a mount may have to replay a log.
	device, err := exec.Command("losetup", "-f", "--show", im.Path).Output()
	if err != nil {
		t.Skipf("no loop device: %v", err)
	}
	loop := strings.TrimSpace(string(device))
	defer run(t, "losetup", "-d", loop)
	command := []string{"mount", "-t", im.Type, "-o", options, loop, dir}
	if im.MountWith != nil {
		command = append(append([]string{}, im.MountWith...), "-o", options, loop, dir)
	}
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		for _, why := range []string{"unknown filesystem type", "executable file not found"} {
			if strings.Contains(string(out)+err.Error(), why) {
				t.Skipf("%s: %v: %s", strings.Join(command, " "), err, out)
			}
		}
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	defer Unmount(t, dir) // also when fn calls t.FailNow
	fn(dir)
	run(t, "sync", "-f", dir)
}

// unmountTime bounds how long a mount may be busy.
const unmountTime = time.Minute

// Unmount takes a mount away. Whoever looks through the files that processes have open
// makes it busy for a moment: it waits for the end of that.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	for deadline := time.Now().Add(unmountTime); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Unmount(dir, 0)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			t.Fatalf("unmounting %s: %v", dir, err)
		}
	}
}

// Copy returns a copy of the image.
func (im *Image) Copy(t testing.TB) *Image {
	t.Helper()
	c := &Image{im.Format, filepath.Join(t.TempDir(), "image")}
	run(t, "cp", "--sparse=always", im.Path, c.Path)
	return c
}

// Dirty changes the image as fn does, and returns a copy that was made while it was still
// mounted: what the file system had written to its log is not yet in its place. fn has to
// bring about that the log is written, with fsync(2).
func (im *Image) Dirty(t testing.TB, fn func(dir string)) *Image {
	t.Helper()
	var c *Image
	im.Update(t, func(dir string) {
		fn(dir)
		c = im.Copy(t)
	})
	return c
}

// Open opens the file for the time of the test.
func (im *Image) Open(t testing.TB) (*os.File, int64) {
	t.Helper()
	f, err := os.Open(im.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	return f, size
}

// Compare mounts a copy of the image and compares what a decoder shows of the image with it:
// a mount may change an image, even one that is read-only.
func (im *Image) Compare(t testing.TB, open OpenFunc) {
	t.Helper()
	f, size := im.Open(t)
	fsys, err := open(f, size)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	im.Copy(t).View(t, func(dir string) { CompareTree(t, fsys, f, dir, im.Lacks) })
}

// Sync brings everything below dir to the log of its file system.
func Sync(t testing.TB, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		t.Fatal(err)
	}
}
