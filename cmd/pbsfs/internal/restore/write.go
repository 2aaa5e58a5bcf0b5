package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/tree"
)

// job is an object that a writer restores.
type job struct {
	d     *dir
	name  string
	node  *tree.Node
	link  *linked // of a file with several names; nil of others
	first bool    // this is the first of its names
}

func (j *job) path() string { return j.d.at(j.name) }

// write is a writer. It ends when the queue is closed; after a stop it empties that.
func (r *run) write() {
	w := &writer{run: r}
	for j := range r.jobs {
		if r.ctx.Err() == nil {
			err := w.restore(&j)
			if err != nil && r.ctx.Err() == nil {
				r.failed(j.path(), err)
			}
			r.tally.done.Add(1)
		}
		if j.link != nil && j.first {
			j.link.settle() // whatever happened
		}
		r.finished(j.d)
	}
}

// writer is a writer with its memory.
type writer struct {
	*run
	buf   []byte
	other []byte // for comparing
}

// bufferSize is how much content is read and written at once.
const bufferSize = 1 << 20

// restore restores one object.
func (w *writer) restore(j *job) error {
	if err := j.node.Broken(); err != nil {
		return err
	}
	if j.d.absent {
		w.count(j)
		return nil
	}
	fd, err := w.dirs.use(j.d)
	if err != nil {
		return err
	}
	defer w.dirs.done(j.d)
	there, err := w.there(fd, j)
	if err != nil {
		return err
	}
	if there != nil && !w.wanted(fd, j, there) {
		return w.keep(fd, j, there)
	}
	if w.o.DryRun {
		w.count(j)
		if there != nil {
			w.tally.replaced.Add(1)
		}
		return nil
	}
	if j.link != nil && !j.first {
		done, err := w.linkTo(fd, j, there)
		if done || err != nil {
			return err
		}
	}
	switch j.node.Type() {
	case unix.S_IFREG:
		err = w.file(fd, j, there)
	case unix.S_IFLNK, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		err = w.special(fd, j, there)
	default:
		err = refuse("a file of an unknown type, %#o", j.node.Type())
	}
	return err
}

// count counts an object that is restored, in a dry run, too.
func (w *writer) count(j *job) {
	if j.link != nil && !j.first {
		w.tally.hardLinks.Add(1)
		return
	}
	w.tally.made(j.node.Type())
	if j.node.Type() == unix.S_IFREG {
		w.tally.bytes.Add(j.node.Attr().Size)
	}
}

// there returns what is under the name already, nil if nothing.
func (w *writer) there(fd int, j *job) (*unix.Stat_t, error) {
	if !j.d.existed {
		return nil, nil
	}
	if j.d == w.top && j.name == markerName && w.mark != nil {
		return nil, refuse("its name is that of the marker of an unfinished restore")
	}
	var st unix.Stat_t
	err := again(func() error { return unix.Fstatat(fd, j.name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, nil
	case err != nil:
		return nil, target("fstatat", err)
	}
	return &st, nil
}

// place gives an object its name: that of a file without one, or of one with a temporary
// name. It replaces what is there only if there is something that may be replaced.
func (w *writer) place(fd int, j *job, made int, temp string, there *unix.Stat_t) error {
	if there != nil {
		if err := w.removeDirectory(fd, j, there); err != nil {
			return err
		}
		if temp == "" {
			temp = temporary()
			if err := w.linkFile(made, fd, temp); err != nil {
				return err
			}
		}
		if err := again(func() error { return unix.Renameat(fd, temp, fd, j.name) }); err != nil {
			_ = unix.Unlinkat(fd, temp, 0)
			return target("replacing what is there", err)
		}
		w.tally.replaced.Add(1)
		return nil
	}
	var err error
	if temp == "" {
		err = w.linkFile(made, fd, j.name)
	} else {
		err = w.rename(fd, temp, j.name)
	}
	if errors.Is(err, unix.EEXIST) {
		return refuse("something of that name has appeared meanwhile, or the archive has two of it")
	}
	return err
}

// removeDirectory removes an empty directory that is where a file is to be.
func (w *writer) removeDirectory(fd int, j *job, there *unix.Stat_t) error {
	if there.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	err := again(func() error { return unix.Unlinkat(fd, j.name, unix.AT_REMOVEDIR) })
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		return refuse("a directory that is not empty is in the way")
	}
	return target("removing the directory that is in the way", err)
}

// linkFile gives a name to an open file. The error is not wrapped if the name is taken.
func (w *writer) linkFile(made, fd int, called string) error {
	err := error(unix.ENOENT)
	if !w.noEmptyPath.Load() {
		err = again(func() error { return unix.Linkat(made, "", fd, called, unix.AT_EMPTY_PATH) })
	}
	if errors.Is(err, unix.ENOENT) { // without the capability for it
		w.noEmptyPath.Store(true)
		o := object{fd: made}
		err = again(func() error { return unix.Linkat(unix.AT_FDCWD, o.proc(), fd, called, unix.AT_SYMLINK_FOLLOW) })
	}
	if errors.Is(err, unix.EEXIST) {
		return err
	}
	return target("giving it its name", err)
}

// rename gives a file its name that had a temporary one.
func (w *writer) rename(fd int, temp, called string) error {
	err := again(func() error { return unix.Renameat2(fd, temp, fd, called, unix.RENAME_NOREPLACE) })
	if unsupported(err) { // a link does not replace anything either
		if err = again(func() error { return unix.Linkat(fd, temp, fd, called, 0) }); err == nil {
			return target("removing the temporary name", again(func() error { return unix.Unlinkat(fd, temp, 0) }))
		}
	}
	if err != nil {
		_ = unix.Unlinkat(fd, temp, 0)
		if errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return target("giving it its name", err)
}

// special restores a symbolic link, a device, a pipe or a socket.
func (w *writer) special(fd int, j *job, there *unix.Stat_t) error {
	n := j.node
	m, err := w.metadataOf(n)
	if err != nil {
		return err
	}
	temp := temporary()
	if err := w.makeSpecial(fd, temp, n); err != nil {
		if notPermitted(err) && (n.Type() == unix.S_IFCHR || n.Type() == unix.S_IFBLK) {
			w.tally.lack("devices", err.Error(), false)
			return nil
		}
		return target("making it", err)
	}
	made, err := unix.Openat(fd, temp, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return target("opening it", err)
	}
	defer unix.Close(made)
	o := object{fd: made, acls: j.d.acls}
	err = o.stat()
	if err == nil && (o.st.Mode&unix.S_IFMT != n.Type() || o.st.Nlink != 1) {
		return refuse("it was replaced by something else meanwhile")
	}
	if err == nil {
		err = w.set(&o, m)
	}
	if err != nil {
		_ = unix.Unlinkat(fd, temp, 0)
		return err
	}
	if err := w.place(fd, j, made, temp, there); err != nil {
		return err
	}
	w.count(j)
	return w.verifySpecial(fd, j, &o, m)
}

func (w *writer) makeSpecial(fd int, temp string, n *tree.Node) error {
	if n.Type() == unix.S_IFLNK {
		return again(func() error { return unix.Symlinkat(n.Target(), fd, temp) })
	}
	return again(func() error { return unix.Mknodat(fd, temp, n.Type()|0o600, int(deviceOf(n))) })
}

// deviceOf returns the number of a device for mknod. Nodes have it in the form of the
// kernel's FUSE interface.
func deviceOf(n *tree.Node) uint64 {
	if t := n.Type(); t != unix.S_IFCHR && t != unix.S_IFBLK {
		return 0
	}
	rdev := n.Attr().Rdev
	return unix.Mkdev(rdev>>8&0xfff, rdev&0xff|rdev>>12&^0xff)
}

// verifySpecial reads back what has no content.
func (w *writer) verifySpecial(fd int, j *job, o *object, m *metadata) error {
	if !w.o.Verify {
		return nil
	}
	if j.node.Type() == unix.S_IFLNK {
		if got, err := readlink(fd, j.name); err != nil || got != j.node.Target() {
			w.tally.differs(j.path(), fmt.Sprintf("links to %q instead of %q", got, j.node.Target()))
		}
	}
	return w.verifyObject(o, m, j.path())
}

// readlink returns the target of a symbolic link.
func readlink(fd int, called string) (string, error) {
	buf := make([]byte, 4097)
	n, err := unix.Readlinkat(fd, called, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
