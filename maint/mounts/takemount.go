package mounts

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/text"
)

// The kernel unmounts what a path leads to, so the topmost mount there, which may
// belong to another program and hold its data. It cannot unmount by number. But it can
// unmount in two steps (MNT_EXPIRE): the first step marks the mount, and the second one
// takes it away if it was not used meanwhile. Between the steps the mount table tells
// which mount is marked.

// markTries is how often we try to mark a mount that other programs keep looking at.
const markTries = 16

// UnmountOnly takes away one mount, identified by its number, and nothing else. A mount
// that was made upon it since stays, at the same place. An error that matches EBUSY
// says that a program uses the mount; then nothing has changed. With lazily, the mount
// is taken away even from programs that use it. Only root can do that.
func UnmountOnly(m Mount, lazily bool) error {
	now, way, err := reachMount(m)
	if err != nil {
		return err
	}
	upon, err := putAside(now, way)
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", text.Printable(now.Point), err)
	}
	if lazily {
		err = way.detach(now)
	} else {
		err = way.take(now)
	}
	if err := errors.Join(err, upon.putBack(way)); err != nil {
		return fmt.Errorf("unmounting %s: %w", text.Printable(now.Point), err)
	}
	return nil
}

// Unused asks the kernel whether one mount could be taken away now. If other mounts lie
// upon the whole of it, the kernel cannot be asked, and the answer is nil. An error
// that matches EBUSY says that a program uses the mount.
func Unused(m Mount) error {
	now, way, err := reachMount(m)
	if err != nil {
		return err
	}
	if way.covered {
		return nil
	}
	if err := way.try(now); err != nil {
		return fmt.Errorf("unmounting %s: %w", text.Printable(now.Point), err)
	}
	return nil
}

// approach is a path by which the kernel finds the topmost mount at a mount's point.
type approach struct {
	path    string
	flags   int  // for unmounting
	covered bool // something lies upon the mount
}

// reachMount finds a mount in the table of this process, and a path to its point.
func reachMount(m Mount) (Mount, approach, error) {
	table, err := Mounts()
	if err != nil {
		return m, approach{}, err
	}
	now, ok := table.Find(m)
	if !ok || now.Point != m.Point { // otherwise another mount may have got its numbers
		return m, approach{}, fmt.Errorf("%s: %w", text.Printable(m.Point), ErrNotMounted)
	}
	r := approach{path: now.Point, flags: unix.UMOUNT_NOFOLLOW, covered: len(table.Upon(now)) > 0}
	by, hidden := table.Hides(now)
	if !hidden {
		return now, r, nil
	}
	if path, ok := heldPoint(now); ok {
		r.path, r.flags = path, 0
		return now, r, nil
	}
	return now, r, &HiddenError{Mount: now, By: by}
}

// HiddenError says that a mount cannot be reached, because another one lies upon a
// directory above it.
type HiddenError struct{ Mount, By Mount }

// Error names both mounts.
func (e *HiddenError) Error() string {
	return fmt.Sprintf("%s is hidden by what is mounted on %s (%s); unmount that first",
		text.Printable(e.Mount.Point), text.Printable(e.By.Point), text.Printable(e.By.FSType))
}

// heldPoint finds a descriptor that refers to the directory below a mount. The process
// that serves the mount, or any other process, may have it. The descriptor leads there
// even if something is mounted upon the directories above.
func heldPoint(m Mount) (path string, ok bool) {
	pids, err := procfs.NumericDirs("/proc")
	if err != nil {
		return "", false
	}
	for _, pid := range pids {
		fds, err := procfs.NumericDirs(procfs.ProcPath(pid, "fd"))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			path := procfs.ProcPath(pid, "fd/"+strconv.Itoa(fd))
			if to, err := os.Readlink(path); err != nil || to != m.Point {
				continue
			}
			if id, ok := mountID(procfs.ProcPath(pid, "fdinfo/"+strconv.Itoa(fd))); ok && id == m.Parent {
				return path, true
			}
		}
	}
	return "", false
}

// on returns nil if the mount is the topmost one at the place.
func (r approach) on(m Mount) error {
	table, err := Mounts()
	if err != nil {
		return err
	}
	now, ok := table.Find(m)
	if !ok {
		return ErrNotMounted
	}
	if upon := table.Upon(now); len(upon) > 0 {
		return fmt.Errorf("%s was mounted upon it meanwhile: %w", text.Printable(upon[0].FSType), unix.EBUSY)
	}
	if _, hidden := table.Hides(now); now.Point != m.Point || now.Parent != m.Parent || hidden && r.flags&unix.UMOUNT_NOFOLLOW != 0 {
		return fmt.Errorf("it was moved meanwhile: %w", unix.EBUSY)
	}
	return nil
}

// try does the first of the two steps, and undoes it.
func (r approach) try(m Mount) error {
	if err := errors.Join(r.unmark(), r.on(m)); err != nil {
		return err
	}
	err := unix.Unmount(r.path, r.flags|unix.MNT_EXPIRE)
	if err == nil {
		return nil // another command has just marked it, and takes it away
	}
	if !errors.Is(err, unix.EAGAIN) {
		return err
	}
	return r.unmark()
}

// unmark makes the kernel remove a mark. Any use of the mount removes it.
func (r approach) unmark() error {
	flags := unix.O_PATH | unix.O_CLOEXEC
	if r.flags&unix.UMOUNT_NOFOLLOW != 0 {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Open(r.path, flags, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// take unmounts the mount if it is the topmost one.
func (r approach) take(m Mount) error {
	for range markTries {
		if err := r.on(m); err != nil {
			return err
		}
		err := unix.Unmount(r.path, r.flags|unix.MNT_EXPIRE)
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	return unix.EBUSY // other programs look at it all the time
}

// detach unmounts the mount lazily if it is the topmost one.
func (r approach) detach(m Mount) error {
	if err := r.on(m); err != nil {
		return err
	}
	return unix.Unmount(r.path, r.flags|unix.MNT_DETACH)
}

// asideMounts are mounts that were moved away from another one for a moment.
type asideMounts struct {
	dir   string // the place they were moved to, in a mount of our own
	moved []int  // their descriptors, the highest mount first
}

// asideRoots are the directories in which that place may be made.
var asideRoots = []string{"/run", "/tmp", "/"}

// putAside moves the mounts that lie upon a mount to a place that no other namespace
// hears of, each with all mounts inside it. Programs keep the files that they have open
// there.
func putAside(m Mount, r approach) (*asideMounts, error) {
	a := &asideMounts{}
	table, err := Mounts()
	if err != nil {
		return nil, err
	}
	upon := table.Upon(m)
	if len(upon) == 0 {
		return a, nil
	}
	if m.Peers > 0 {
		return nil, fmt.Errorf("%s is mounted upon it, and cannot be moved aside because the mount is a shared one; unmount that first: %w",
			text.Printable(upon[len(upon)-1].FSType), unix.EBUSY)
	}
	if err := a.makePlace(table, m); err != nil {
		return nil, err
	}
	for i := len(upon) - 1; i >= 0; i-- {
		if err := a.move(upon[i], r); err != nil {
			return nil, errors.Join(err, a.putBack(r))
		}
	}
	return a, nil
}

// makePlace mounts a small file system to which mounts can be moved for a moment.
func (a *asideMounts) makePlace(table MountTable, m Mount) error {
	var errs error
	for _, root := range asideRoots {
		if met := table.Way(root); Below(root, m.Point) || len(met) == 0 {
			continue // the mounts that are moved lie upon it
		}
		dir, err := os.MkdirTemp(root, ".pbsfs-")
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		if err := unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,mode=700"); err != nil {
			errs = errors.Join(errs, fmt.Errorf("mounting on %s: %w", dir, err), os.Remove(dir))
			continue
		}
		a.dir = dir
		if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
			return errors.Join(err, a.end())
		}
		return nil
	}
	return errs
}

// move moves the topmost mount to a directory of its own.
func (a *asideMounts) move(top Mount, r approach) error {
	fd, err := unix.Open(r.path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if id, ok := mountIDOf(fd); !ok || id != top.ID {
		unix.Close(fd)
		return fmt.Errorf("something was mounted upon it meanwhile: %w", unix.EBUSY)
	}
	at := a.dir + "/" + strconv.Itoa(len(a.moved))
	if err := os.Mkdir(at, 0o700); err != nil {
		unix.Close(fd)
		return err
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		unix.Close(fd)
		return fmt.Errorf("moving aside what is mounted upon it (%s): %w", text.Printable(top.FSType), err)
	}
	a.moved = append(a.moved, fd)
	return nil
}

// putBack moves all mounts back to where they were.
func (a *asideMounts) putBack(r approach) error {
	var errs error
	for i := len(a.moved) - 1; i >= 0; i-- {
		err := unix.MoveMount(a.moved[i], "", unix.AT_FDCWD, r.path, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS)
		unix.Close(a.moved[i])
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("what was mounted upon it is on %s/%d now: %w", a.dir, i, err))
		}
	}
	if errs != nil || a.dir == "" {
		return errs
	}
	a.moved = nil
	return a.end()
}

// end removes the place, which is empty.
func (a *asideMounts) end() error {
	if err := unix.Unmount(a.dir, unix.UMOUNT_NOFOLLOW); err != nil {
		return err
	}
	return os.Remove(a.dir)
}

// mountIDOf returns the number of the mount to which a descriptor of this process
// refers.
func mountIDOf(fd int) (int, bool) {
	return mountID("/proc/self/fdinfo/" + strconv.Itoa(fd))
}

// MakePrivate stops propagation between a mount and its copies in other namespaces, so
// that mounts upon it do not appear upon the copies and can be moved aside. The mount
// must be the topmost one at its point.
func MakePrivate(m Mount) error {
	fd, err := unix.Open(m.Point, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if id, ok := mountIDOf(fd); !ok || id != m.ID {
		return fmt.Errorf("%s: %w", text.Printable(m.Point), ErrNotMounted)
	}
	return unix.Mount("", "/proc/self/fd/"+strconv.Itoa(fd), "", unix.MS_PRIVATE, "")
}

// HeldPoint is an open mount point, the directory below the mount. With it the mount
// can be reached whatever lies upon it and above it. Like the mount, it keeps the file
// system below in use; its owner must Close it.
type HeldPoint struct {
	// Point is its path without symbolic links, as in the mount table.
	Point string

	mu sync.Mutex
	fd int // guarded by mu; -1 when closed
}

// HoldPoint opens the directory that is about to become a mount point.
func HoldPoint(path string) (*HeldPoint, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &HeldPoint{Point: at, fd: fd}, nil
}

// Close closes the directory. It may be called twice.
func (h *HeldPoint) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd >= 0 {
		unix.Close(h.fd)
	}
	h.fd = -1
}
