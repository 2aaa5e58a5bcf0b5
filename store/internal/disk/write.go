package disk

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Writable is a datastore directory below which files can be made. It never opens an
// existing file for writing: files are made beside their place and moved there when
// they are complete.
//
// Files that root makes get the owner of the datastore's directory, so that a server
// can use its own datastore afterwards.
type Writable struct {
	*Root
	uid, gid int // -1 if new files stay our own
}

// Writable returns the directory as one below which files can be made. It is closed
// with r.
func (r *Root) Writable() (*Writable, error) {
	w := &Writable{Root: r, uid: -1, gid: -1}
	info, err := r.stat(".")
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 && (info.UID != 0 || int(info.GID) != os.Getegid()) {
		w.uid, w.gid = int(info.UID), int(info.GID)
	}
	return w, nil
}

// openParent opens the directory that name is to be made in. The caller closes
// the descriptor.
func (w *Writable) openParent(name string) (fd int, base string, err error) {
	dir, base := path.Split(name)
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolve}
	fd, err = retry(func() (int, error) { return unix.Openat2(w.fd, path.Clean(dir), &how) })
	if err != nil {
		return -1, "", w.failed("open", dir, err)
	}
	return fd, base, nil
}

func (w *Writable) failed(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: w.path + "/" + name, Err: err}
}

// MakeDir makes the directory name with the mode 0777 minus the umask, and reports
// whether it is new. If the name exists already, it must be a directory.
func (w *Writable) MakeDir(name string) (made bool, err error) {
	return w.makeDir(name, 0o777)
}

func (w *Writable) makeDir(name string, mode uint32) (made bool, err error) {
	parent, base, err := w.openParent(name)
	if err != nil {
		return false, err
	}
	defer unix.Close(parent)
	switch err := unix.Mkdirat(parent, base, mode); {
	case errors.Is(err, unix.EEXIST):
		info, err := w.stat(name)
		if err == nil && !info.IsDir() {
			err = w.failed("mkdir", name, unix.ENOTDIR)
		}
		return false, err
	case err != nil:
		return false, w.failed("mkdir", name, err)
	}
	if w.uid >= 0 {
		if err := unix.Fchownat(parent, base, w.uid, w.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return true, w.failed("chown", name, err)
		}
	}
	return true, nil
}

// Remove removes the file or empty directory name.
func (w *Writable) Remove(name string, dir bool) error {
	parent, base, err := w.openParent(name)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	flags := 0
	if dir {
		flags = unix.AT_REMOVEDIR
	}
	if err := unix.Unlinkat(parent, base, flags); err != nil {
		return w.failed("remove", name, err)
	}
	return nil
}

// WriteFile makes the file name, complete and on stable storage. The file must not
// exist: an existing one gives [fs.ErrExist] and stays as it is.
func (w *Writable) WriteFile(name string, data []byte) error {
	parent, base, err := w.openParent(name)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if err := w.put(parent, base, data, how{sync: true}); err != nil {
		return w.failed("write", name, err)
	}
	if err := unix.Fsync(parent); err != nil {
		return w.failed("sync", name, err)
	}
	return nil
}

// Sync waits until everything that was written to the datastore's file system
// is on stable storage.
func (w *Writable) Sync() error {
	if err := unix.Syncfs(w.fd); err != nil {
		return w.failed("sync", "", err)
	}
	return nil
}

// how says how a file gets to its place.
type how struct {
	sync    bool // wait for stable storage
	replace bool // replace an existing file, which otherwise is an error
}

// fileMode is the mode of new files before the umask.
const fileMode = 0o644

// put makes a file in an open directory. It has no name until it is complete,
// so that nothing is left of it when we are killed; where the file system cannot
// do that, its name ends as those of the server's own temporary files do.
func (w *Writable) put(dir int, name string, data []byte, h how) error {
	temp := ""
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, fileMode)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		temp = tempName(name)
		fd, err = unix.Openat(dir, temp, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, fileMode)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = w.fill(fd, data, h.sync)
	if err == nil && temp == "" {
		return w.link(fd, dir, name, h.replace)
	}
	if err == nil {
		err = move(dir, temp, name, h.replace)
	}
	if err != nil && temp != "" {
		_ = unix.Unlinkat(dir, temp, 0)
	}
	return err
}

// fill writes a new file.
func (w *Writable) fill(fd int, data []byte, sync bool) error {
	for len(data) > 0 {
		n, err := retry(func() (int, error) { return unix.Write(fd, data) })
		if err != nil {
			return err
		}
		data = data[n:]
	}
	if w.uid >= 0 {
		if err := unix.Fchown(fd, w.uid, w.gid); err != nil {
			return err
		}
	}
	if sync {
		return unix.Fsync(fd)
	}
	return nil
}

// link gives a file without a name its name.
func (w *Writable) link(fd, dir int, name string, replace bool) error {
	target := name
	if replace {
		target = tempName(name)
	}
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), dir, target, unix.AT_SYMLINK_FOLLOW); err != nil || !replace {
		return err
	}
	if err := unix.Renameat(dir, target, dir, name); err != nil {
		_ = unix.Unlinkat(dir, target, 0)
		return err
	}
	return nil
}

// move gives a complete file its name.
func move(dir int, temp, name string, replace bool) error {
	if replace {
		return unix.Renameat(dir, temp, dir, name)
	}
	err := unix.Renameat2(dir, temp, dir, name, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	if err := unix.Linkat(dir, temp, dir, name, 0); err != nil {
		return err
	}
	return unix.Unlinkat(dir, temp, 0)
}

// tempName returns a name for a file until it is complete (reference
// "datastore-layout", section 4).
func tempName(name string) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	return name + ".tmp_" + hex.EncodeToString(b[:])
}

// LockExclusive takes the exclusive flock of the directory name without waiting. If
// another process holds a lock, the error matches EWOULDBLOCK.
func (w *Writable) LockExclusive(name string) (*Lock, error) {
	return w.lockDir(name, unix.LOCK_EX)
}

// LockStore takes the shared lock of the datastore, which keeps a garbage
// collection from beginning, without waiting; when one is running, the error
// matches EAGAIN. The file is made where it is missing.
//
// The server takes a POSIX lock there, which would be lost with any descriptor of
// the file that this process closes. This one belongs to its descriptor; the two
// kinds respect each other.
func (w *Writable) LockStore() (*Lock, error) {
	open := func(flags uint64) (int, error) {
		how := unix.OpenHow{Flags: unix.O_RDWR | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK | flags, Resolve: resolve}
		if flags&unix.O_CREAT != 0 {
			how.Mode = fileMode
		}
		return retry(func() (int, error) { return unix.Openat2(w.fd, lockFile, &how) })
	}
	fd, err := open(0)
	if errors.Is(err, unix.ENOENT) {
		if fd, err = open(unix.O_CREAT); err == nil && w.uid >= 0 {
			err = unix.Fchown(fd, w.uid, w.gid)
		}
	}
	if err == nil {
		lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: unix.SEEK_SET}
		err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock)
		if errors.Is(err, unix.EACCES) { // POSIX allows that as well; without a lock it means what it says
			err = unix.EAGAIN
		}
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, w.failed("lock", lockFile, err)
	}
	return &Lock{fd: fd}, nil
}
