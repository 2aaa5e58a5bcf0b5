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

// The kernel unmounts what a path leads to: whatever lies on top there, which may
// be somebody else's, with all its data. It does not unmount by number. But it
// does unmount in two steps, if asked to (MNT_EXPIRE): the first marks the mount,
// the second takes it away if nobody used it meanwhile. Between them the mount
// table tells which one is marked.

// markTries is how often a mount is marked that somebody keeps looking at.
const markTries = 16

// UnmountOnly takes away one mount, told by its number, and nothing else. What
// somebody has mounted upon it since stays, at the same place. An error that
// matches EBUSY says that somebody uses the mount; then nothing has changed.
// Lazily, it is taken from under them. Only root can do that.
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

// Unused asks the kernel whether one mount could be taken away now. What lies upon
// the whole of it is no hindrance, but then the kernel cannot be asked, and the
// answer is nil. An error that matches EBUSY says that somebody uses it.
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

// approach is a path by which the kernel finds what lies on the point of a mount.
type approach struct {
	path    string
	flags   int  // for unmounting
	covered bool // something lies upon the mount
}

// reachMount finds a mount in the table of this process, and a way to its point.
func reachMount(m Mount) (Mount, approach, error) {
	table, err := Mounts()
	if err != nil {
		return m, approach{}, err
	}
	now, ok := table.Find(m)
	if !ok || now.Point != m.Point { // else another one may have got its numbers
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

// HiddenError says that a mount cannot be reached: something is mounted upon a
// directory above it.
type HiddenError struct{ Mount, By Mount }

// Error names both.
func (e *HiddenError) Error() string {
	return fmt.Sprintf("%s is hidden by what is mounted on %s (%s); unmount that first",
		text.Printable(e.Mount.Point), text.Printable(e.By.Point), text.Printable(e.By.FSType))
}

// heldPoint finds a descriptor, of the process that serves the mount or of any
// other one, that refers to the directory below a mount. It leads there
// whatever is mounted upon the directories above.
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

// on reports whether the mount is what lies on top at the place.
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

// try does the first of the two steps, and takes it back.
func (r approach) try(m Mount) error {
	if err := errors.Join(r.unmark(), r.on(m)); err != nil {
		return err
	}
	err := unix.Unmount(r.path, r.flags|unix.MNT_EXPIRE)
	if err == nil {
		return nil // another command has marked it just now, and takes it away
	}
	if !errors.Is(err, unix.EAGAIN) {
		return err
	}
	return r.unmark()
}

// unmark has the kernel forget a mark: that goes with any use of the mount.
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

// take unmounts, when the mount is on top.
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
	return unix.EBUSY // somebody looks at it all the time
}

// detach unmounts lazily, when the mount is on top.
func (r approach) detach(m Mount) error {
	if err := r.on(m); err != nil {
		return err
	}
	return unix.Unmount(r.path, r.flags|unix.MNT_DETACH)
}

// asideMounts are mounts that were moved away from upon another one, for a moment.
type asideMounts struct {
	dir   string // where they are, a mount of our own
	moved []int  // descriptors of them, the highest first
}

// asideRoots are where a place for a moment is made.
var asideRoots = []string{"/run", "/tmp", "/"}

// putAside moves away what lies upon a mount, each with all that is mounted in
// it, where nobody hears of it. Who has files open there keeps them.
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

// makePlace mounts a small file system where what is moved can be for a moment.
func (a *asideMounts) makePlace(table MountTable, m Mount) error {
	var errs error
	for _, root := range asideRoots {
		if met := table.Way(root); Below(root, m.Point) || len(met) == 0 {
			continue // what is moved lies upon it
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

// move moves a mount that is on top to a directory of its own.
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

// putBack puts all back to where it was.
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

// end takes the place away, which is empty.
func (a *asideMounts) end() error {
	if err := unix.Unmount(a.dir, unix.UMOUNT_NOFOLLOW); err != nil {
		return err
	}
	return os.Remove(a.dir)
}

// mountIDOf returns the number of the mount that a descriptor of this process
// refers to.
func mountIDOf(fd int) (int, bool) {
	return mountID("/proc/self/fdinfo/" + strconv.Itoa(fd))
}

// MakePrivate keeps what is mounted upon a mount from being mounted upon its
// copies in other namespaces, so that it can be moved aside. The mount must be on
// top at its point.
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

// HeldPoint is a directory that is mounted on, below the mount: with it the mount
// is reached whatever lies upon it and above it. It keeps the file system below in
// use, as the mount does; its owner must Close it.
type HeldPoint struct {
	// Point is its path without symbolic links, as the mount table has it.
	Point string

	mu sync.Mutex
	fd int // guarded by mu; -1 when closed
}

// HoldPoint finds the directory that is about to be mounted on.
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

// Close gives the directory up. It may be called twice.
func (h *HeldPoint) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd >= 0 {
		unix.Close(h.fd)
	}
	h.fd = -1
}
