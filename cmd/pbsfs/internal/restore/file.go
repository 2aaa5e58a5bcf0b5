package restore

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/tree"
)

// file restores a regular file: without a name until it is complete.
func (w *writer) file(fd int, j *job, there *unix.Stat_t) (err error) {
	m, err := w.metadataOf(j.node)
	if err != nil {
		return err
	}
	content, err := j.node.Open(w.ctx, w.right)
	if err != nil {
		return err
	}
	made, temp, err := w.create(fd)
	if err != nil {
		return err
	}
	defer unix.Close(made)
	named := false
	defer func() {
		if !named && temp != "" {
			_ = unix.Unlinkat(fd, temp, 0)
		}
	}()
	w.setContentFlags(made, m)
	if err := w.content(made, content); err != nil {
		return err
	}
	lost, err := mark(m, content, there)
	if err != nil {
		return err
	}
	o := object{fd: made, opened: true, acls: j.d.acls}
	if err := o.stat(); err != nil {
		return err
	}
	if err := w.set(&o, m); err != nil {
		return err
	}
	if err := w.place(fd, j, made, temp, there); err != nil {
		return err
	}
	named = true
	w.count(j)
	w.tally.zeros(j.path(), lost)
	if err := w.lateFlags(j, &o, m); err != nil {
		return err
	}
	return w.verifyFile(j, &o, m, content)
}

// create makes a file without a name, or, where there is no such thing, one with a
// temporary name.
func (w *writer) create(fd int) (made int, temp string, err error) {
	if !w.noTmpfile.Load() {
		made, err = unix.Openat(fd, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return made, "", nil
		}
		if !unsupported(err) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.ENOENT) {
			return -1, "", target("making the file", err)
		}
		w.noTmpfile.Store(true)
	}
	temp = temporary()
	made, err = unix.Openat(fd, temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	return made, temp, target("making the file", err)
}

// lateFlags sets the flags of a file that has its name, and notes it as the one that its
// other names are linked to. Flags that wait for those names are taken out of m.
func (w *writer) lateFlags(j *job, o *object, m *metadata) error {
	if j.link != nil && j.first {
		j.link.is(j, identityOf(&o.st))
		if against := m.flags & flagsAgainstUse; against != 0 {
			m.flags &^= flagsAgainstUse
			w.links.lock(j.link, against)
		}
	}
	return w.setAllFlags(o.fd, m)
}

// content writes the content of a file, without its holes and its blocks of zeros.
func (w *writer) content(made int, f tree.File) error {
	size := f.Size()
	out := &fileSink{fd: made}
	if err := newCopier(w.run, f, out).all(&w.buf); err != nil {
		return err
	}
	if out.end.Load() < size {
		return target("setting the size", again(func() error { return unix.Ftruncate(made, size) }))
	}
	return nil
}
