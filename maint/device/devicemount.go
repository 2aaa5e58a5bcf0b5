package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/device/superblock"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/text"
)

// The reasons why a device is not mounted.
var (
	// ErrInUse says that the device is in use in a way that excludes a read-only mount:
	// it is mounted for writing in another namespace, or is a part of another device.
	ErrInUse = errors.New("device is in use")
	// ErrEncrypted says that the contents of the device are encrypted.
	ErrEncrypted = errors.New("device is encrypted")
	// ErrNoFilesystem says that the device has no file system to mount.
	ErrNoFilesystem = errors.New("no file system")
	// ErrUnclean says that the file system was not unmounted after it was last written
	// to, and cannot be mounted as it is.
	ErrUnclean = errors.New("file system was not unmounted cleanly")
)

// readOnlyOptions say how a type of file system is mounted without writing a byte, not
// even by replay of the journal. A type that is not listed is not mounted, because its
// safety was not checked.
type readOnlyOptions struct {
	driver string
	flag   string // an option beside ro
	key    string // an option with a value
	value  string
}

func readOnlyFor(fstype string) (readOnlyOptions, bool) {
	switch fstype {
	case "ext2", "ext3", "ext4":
		return readOnlyOptions{driver: "ext4", flag: "noload"}, true
	case "xfs":
		return readOnlyOptions{driver: "xfs", flag: "norecovery"}, true
	case "btrfs":
		return readOnlyOptions{driver: "btrfs", key: "rescue", value: "nologreplay"}, true
	case "vfat", "exfat", "squashfs", "erofs", "iso9660":
		return readOnlyOptions{driver: fstype}, true
	}
	return readOnlyOptions{}, false
}

// mountAttributes are the attributes of every mount that we make of a device.
const mountAttributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// detachedMount is the file system of a device, mounted read-only where no process sees
// it. It ends with its descriptor, even if this process is killed. The owner must close
// it.
type detachedMount struct{ fd int }

func (m detachedMount) close() { unix.Close(m.fd) }

// mountDetached mounts the file system of a device without changing the device.
func mountDetached(d Device) (detachedMount, error) {
	how, err := d.mountable()
	if err != nil {
		return detachedMount{}, err
	}
	source := d.Path
	if d.Orphans {
		// On a writable device the kernel would clean up these files.
		loop, err := readOnlyLoop(d.Path)
		if err != nil {
			return detachedMount{}, fmt.Errorf("device %s: keeping the kernel from cleaning it up: %w", d.Path, err)
		}
		defer loop.Close()
		source = loop.Name()
	}
	fd, err := mountNew(how, source)
	if err != nil {
		return detachedMount{}, d.unmountable(err)
	}
	return detachedMount{fd}, nil
}

// mountable returns how the device is mounted, or why it is not.
func (d Device) mountable() (readOnlyOptions, error) {
	switch {
	case d.Err != nil:
		return readOnlyOptions{}, fmt.Errorf("device %s cannot be read: %w", d.Path, d.Err)
	case d.Use == superblock.Encrypted:
		return readOnlyOptions{}, fmt.Errorf("%s: %w (%s): open it first, then name the opened device", d.Path, ErrEncrypted, strings.TrimPrefix(d.Type, "crypto_"))
	case d.Use == superblock.Nothing:
		return readOnlyOptions{}, fmt.Errorf("%s: %w on it that is known; a partition of it may have one", d.Path, ErrNoFilesystem)
	case d.Use != superblock.Filesystem:
		return readOnlyOptions{}, fmt.Errorf("%s: %w: it is a %s (%s)", d.Path, ErrNoFilesystem, d.Use, d.Type)
	}
	how, ok := readOnlyFor(d.Type)
	if !ok {
		return how, fmt.Errorf("%s: file systems of type %s cannot be mounted without being changed", d.Path, d.Type)
	}
	return how, nil
}

// unmountable explains the kernel's refusal to mount the device.
func (d Device) unmountable(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("device %s: only root may mount it: %w", d.Path, os.ErrPermission)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%s: %w: mounted elsewhere for writing, or part of another device", d.Path, ErrInUse)
	case errors.Is(err, unix.ENODEV) && !slices.Contains(kernelTypes(), d.Type):
		return fmt.Errorf("%s: the running kernel does not know file systems of type %s", d.Path, d.Type)
	case d.Unclean:
		return fmt.Errorf("%s: %w, and cannot be read without recovery: mount it once for writing where that is safe: %w", d.Path, ErrUnclean, err)
	}
	return fmt.Errorf("%s cannot be mounted read-only (%s): %w", d.Path, d.Type, err)
}

// mountNew makes the mount. The error includes the kernel's own message.
func mountNew(how readOnlyOptions, source string) (int, error) {
	return mountAs(how, source, true, mountAttributes)
}

func mountAs(how readOnlyOptions, source string, readOnly bool, attributes int) (int, error) {
	fs, err := unix.Fsopen(how.driver, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	steps := []func() error{
		func() error { return unix.FsconfigSetString(fs, "source", source) },
		func() error {
			if !readOnly {
				return nil
			}
			return unix.FsconfigSetFlag(fs, "ro")
		},
		func() error {
			if how.flag == "" {
				return nil
			}
			return unix.FsconfigSetFlag(fs, how.flag)
		},
		func() error {
			if how.key == "" {
				return nil
			}
			return unix.FsconfigSetString(fs, how.key, how.value)
		},
		func() error { return unix.FsconfigCreate(fs) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return -1, kernelWords(fs, err)
		}
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return -1, kernelWords(fs, err)
	}
	return fd, nil
}

// kernelWords adds the kernel's message about a file system that it cannot mount.
func kernelWords(fs int, err error) error {
	var said []string
	buf := make([]byte, 1024)
	for range 16 {
		n, rerr := unix.Read(fs, buf)
		if rerr != nil || n <= 0 {
			break
		}
		_, words, ok := strings.Cut(string(buf[:n]), " ") // after "e", "w" or "i"
		if ok {
			said = append(said, text.Printable(strings.TrimSpace(words)))
		}
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(said, "; "))
}

// readOnlyLoop makes a loop device that shows a device read-only and disappears with
// its last user. The caller must close the loop device once it is mounted.
func readOnlyLoop(device string) (*os.File, error) {
	backing, err := os.OpenFile(device, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	const tries = 16
	for range tries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("finding a free loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		err = configureLoop(loop, backing)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // otherwise another process has taken the loop device first
			return nil, err
		}
	}
	return nil, errors.New("no loop device is free")
}

// configureLoop makes a loop device show the open device, and keeps that device open.
func configureLoop(loop, backing *os.File) error {
	config := unix.LoopConfig{Fd: uint32(backing.Fd())}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	copy(config.Info.File_name[:len(config.Info.File_name)-1], backing.Name())
	if err := unix.IoctlLoopConfigure(int(loop.Fd()), &config); err != nil {
		return fmt.Errorf("setting up %s: %w", loop.Name(), err)
	}
	return nil
}

// beneath keeps a path on a device from leading anywhere else.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// openBelow opens a directory of a device by its path below the top.
func openBelow(dir int, rel string) (int, error) {
	rel = strings.Trim(rel, "/")
	if rel == "" {
		rel = "."
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOATIME, Resolve: beneath}
	for {
		fd, err := unix.Openat2(dir, rel, &how)
		switch {
		case errors.Is(err, unix.EPERM) && how.Flags&unix.O_NOATIME != 0:
			how.Flags &^= unix.O_NOATIME // the directory does not belong to us
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN):
			return fd, err
		}
	}
}

// MountDevice mounts the directory rel of a device at point, read-only and without
// changing the device. An empty rel means the top. After an error nothing is left
// mounted.
func MountDevice(d Device, rel, point string) error {
	m, err := mountDetached(d)
	if err != nil {
		return err
	}
	defer m.close()
	if strings.Trim(rel, "/") == "" {
		return moveMount(m.fd, point)
	}
	part, err := partOf(m.fd, rel)
	switch {
	case err == nil:
		defer unix.Close(part)
		return moveMount(part, point)
	case errors.Is(err, unix.EINVAL):
		return mountPart(m.fd, d, rel, point)
	}
	return fmt.Errorf("device %s: directory %q: %w", d.Path, rel, err)
}

// mountPart is for kernels before 6.15, which can take a part only of a mount that is
// attached somewhere. So the whole is attached for a moment at the place of the part.
func mountPart(whole int, d Device, rel, point string) error {
	if err := moveMount(whole, point); err != nil {
		return err
	}
	part, err := partOf(whole, rel)
	// Lazily, because whole is still open.
	if err := errors.Join(err, unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)); err != nil {
		return fmt.Errorf("device %s: directory %q: %w", d.Path, rel, err)
	}
	defer unix.Close(part)
	return moveMount(part, point)
}

// partOf makes a separate, detached mount of a directory.
func partOf(mount int, rel string) (int, error) {
	dir, err := openBelow(mount, rel)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return unix.OpenTree(dir, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
}

func moveMount(fd int, point string) error {
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, point, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting on %s: %w", point, err)
	}
	return nil
}

// UnmountAt takes away the mount at a place. The error matches EBUSY if a process uses
// the mount.
func UnmountAt(point string) error {
	m, err := mounts.FindMount(point)
	if err != nil {
		return err
	}
	return mounts.UnmountOnly(m, false)
}

// AwaitFree waits, for a short time, until the kernel would let a process open the
// device of an unmounted mount exclusively. The error is ErrInUse if the device is
// still in use then.
func AwaitFree(ctx context.Context, m mounts.Mount) error {
	if !strings.HasPrefix(m.Source, "/dev/") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, freeTimeout)
	defer cancel()
	for {
		fd, err := unix.Open(m.Source, unix.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			return unix.Close(fd)
		}
		if !errors.Is(err, unix.EBUSY) {
			return nil // the device is no longer there, or has no medium
		}
		select {
		case <-time.After(freePoll):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", m.Source, ErrInUse)
		}
	}
}

const (
	// freeTimeout bounds how long the kernel may take to release a device.
	freeTimeout = 2 * time.Second
	freePoll    = 20 * time.Millisecond
)

// MountAgain restores a mount that was unmounted while it was still in use.
func MountAgain(m mounts.Mount) error {
	readOnly := mounts.HasOption(m.SuperOptions, "ro")
	how := readOnlyOptions{driver: m.FSType}
	if readOnly {
		if known, ok := readOnlyFor(m.FSType); ok {
			how = known
		}
	}
	fd, err := mountAs(how, m.Source, readOnly, m.Attributes())
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if m.Top() == "/" {
		return moveMount(fd, m.Point)
	}
	part, err := partOf(fd, m.Top())
	if err != nil {
		return err
	}
	defer unix.Close(part)
	return moveMount(part, m.Point)
}

// UUIDUnder returns the UUID in the superblock of the device under a path, "" if it
// cannot be read. It may differ from the UUID that the kernel reports: the kernel gives
// a btrfs file system another one while a second disk with the same UUID is present.
func UUIDUnder(path string) string {
	on, ok := mounts.MountUnder(path)
	if !ok || !strings.HasPrefix(on.Source, "/dev/") {
		return ""
	}
	source := on.Source
	if below := on.LoopOver(); strings.HasPrefix(below, "/dev/") { // which cannot be read where it is hidden
		source = below
	}
	d, err := DeviceAt(source)
	if err != nil {
		return ""
	}
	return d.UUID
}
