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

// A Proxmox Backup Server mounts a removable datastore by its UUID as soon as the
// device is plugged in. It would also mount a device that we have mounted read-only,
// but only read-only as well, because the kernel has one file system for both mounts.
// The server's backups would then fail until the device is mounted anew. So we hold the
// device: a read-only loop device opens it exclusively, and we mount the loop device.
// The UUID would then lead to the loop device, so the loop device has no file in /dev
// while it shows the device. The hold ends with the mount, even if this process is
// killed.

// ErrNotHeld says that other programs cannot be kept from mounting a device.
var ErrNotHeld = errors.New("the device cannot be held")

// MountHeld mounts the whole of a device at point, as [MountDevice] does, and keeps
// other programs from mounting it meanwhile. After the unmount, the caller must call
// [EndHolds]. The error matches ErrInUse if another program has the device already, and
// ErrNotHeld if the device could be mounted only without being held.
func MountHeld(d Device, point string) error {
	how, err := d.mountable()
	if err != nil {
		return err
	}
	if d.Type == "btrfs" { // the kernel knows btrfs only by its device's file
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

// Held reports whether the mount at point shows a device that no other program can
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
	// firstHidden is the number of the first hidden loop device. It is high because
	// other programs take the lowest free number.
	firstHidden = 512
	lastHidden  = 1023
)

// hiddenLoop makes a separate loop device over a device, without a file in /dev.
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

// mountNode mounts a loop device without a file in /dev. It creates a file for that
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

// endHold removes a loop device, unless it shows something. After an unmount the kernel
// needs a moment to release it.
func endHold(n int) error {
	if _, err := os.Lstat(fmt.Sprintf("/dev/loop%d", n)); !errors.Is(err, os.ErrNotExist) {
		return nil // belongs to another program
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
