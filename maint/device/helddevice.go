package device

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/mounts"
)

// A Proxmox Backup Server mounts a removable datastore as soon as it is plugged in,
// by its UUID. A device that we have mounted read-only it would mount, too, but
// read-only as well, for the kernel has one file system for both: and its backups
// would fail until somebody mounts it again. So the device is held: opened
// exclusively by a read-only loop device, which is what we mount. The UUID would
// lead to the loop device then, so that has no file in /dev as long as it shows the
// device. The hold ends with the mount, whatever becomes of this process.

// ErrNotHeld says that a device cannot be kept from being mounted by others.
var ErrNotHeld = errors.New("the device cannot be held")

// MountHeld mounts the whole of a device at point, as [MountDevice] does, so that
// nobody else can mount it meanwhile. After the unmount, [EndHolds] has to be
// called. The error matches ErrInUse where somebody has the device already, and
// ErrNotHeld where it could be mounted without being held.
func MountHeld(d Device, point string) error {
	how, err := d.mountable()
	if err != nil {
		return err
	}
	if d.Type == "btrfs" { // which is known by the file of its device alone
		return fmt.Errorf("%s: %w", d.Path, ErrNotHeld)
	}
	backing, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s: %w", d.Path, ErrInUse)
	}
	if err != nil {
		return err
	}
	defer backing.Close()
	loop, err := hiddenLoop(backing)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w: %w", d.Path, ErrNotHeld, err), EndHolds())
	}
	fd, err := mountNode(how, loop)
	loop.Close()
	if err != nil {
		return errors.Join(d.unmountable(err), EndHolds())
	}
	defer unix.Close(fd)
	return moveMount(fd, point)
}

// Held reports whether what is mounted at point is a device that nobody else can
// mount.
func Held(point string) bool {
	m, err := mounts.FindMount(point)
	if err != nil || m.LoopOver() == "" {
		return false
	}
	dir, err := filepath.EvalSymlinks(mounts.SysDevice(unix.Mkdev(m.Major, m.Minor)))
	if err != nil {
		return false
	}
	_, err = os.Lstat(filepath.Join("/dev", filepath.Base(dir)))
	return errors.Is(err, os.ErrNotExist)
}

const (
	// firstHidden is the number of the first loop device that is made to be
	// hidden: others take the lowest that is free.
	firstHidden = 512
	lastHidden  = 1023
)

// hiddenLoop makes a loop device of its own over a device, without a file.
func hiddenLoop(backing *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for n := firstHidden; n <= lastHidden; n++ {
		err := unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_ADD, n)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("making a loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(os.Remove(loop.Name()), configureLoop(loop, backing)); err != nil {
			return nil, errors.Join(err, loop.Close())
		}
		return loop, nil
	}
	return nil, errors.New("too many loop devices")
}

// mountNode mounts a loop device that has no file, by one that is there for that
// moment.
func mountNode(how readOnlyOptions, loop *os.File) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(loop.Fd()), &st); err != nil {
		return -1, err
	}
	node := filepath.Join("/dev", ".pbsfs-"+filepath.Base(loop.Name()))
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(st.Rdev)); err != nil {
		return -1, &os.PathError{Op: "mknod", Path: node, Err: err}
	}
	fd, err := mountNew(how, node)
	return fd, errors.Join(err, os.Remove(node))
}

// EndHolds removes the loop devices that showed held devices and no longer do.
func EndHolds() error {
	dirs, err := filepath.Glob(filepath.Join(mounts.SysBlock, "loop*"))
	if err != nil {
		return err
	}
	var errs error
	for _, dir := range dirs {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "loop"))
		if err == nil && n >= firstHidden && n <= lastHidden {
			errs = errors.Join(errs, endHold(n))
		}
	}
	return errs
}

// endHold removes a loop device, unless it shows something. What was just unmounted
// takes the kernel a moment.
func endHold(n int) error {
	if _, err := os.Lstat(fmt.Sprintf("/dev/loop%d", n)); !errors.Is(err, os.ErrNotExist) {
		return nil // somebody else's
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	const tries = 50
	for range tries {
		if err = unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_REMOVE, n); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(freePoll)
	}
	if err == nil || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENODEV) {
		return nil // gone, or it shows another device
	}
	return fmt.Errorf("removing loop device %d: %w", n, err)
}
