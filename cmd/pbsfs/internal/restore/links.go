package restore

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/tree"
)

// links knows the files that have several names.
type links struct {
	known map[tree.ID]*linked // for the walker alone
	mu    sync.Mutex          // a leaf lock; guards locked
	// locked are files that get a flag against changes when all links are made.
	locked []*linked
}

// linked is a file that has several names.
type linked struct {
	left    uint32 // names that are still to come; for the walker alone
	settled chan struct{}

	// The rest is set before settled is closed.
	d     *dir // nil: the file is not there
	name  string
	id    identity
	flags uint32 // that the file gets at the end
}

// of returns the file of a node, and whether this is the first of its names.
func (l *links) of(n *tree.Node) (f *linked, first bool) {
	f = l.known[n.ID()]
	if f == nil {
		if l.known == nil {
			l.known = make(map[tree.ID]*linked)
		}
		f = &linked{left: n.Attr().Nlink, settled: make(chan struct{})}
		l.known[n.ID()] = f
		first = true
	}
	if f.left--; f.left == 0 {
		delete(l.known, n.ID())
	}
	return f, first
}

// is says which file it is. Only the writer that has the first name says so.
func (f *linked) is(j *job, id identity) { f.d, f.name, f.id = j.d, j.name, id }

// settle says that the first name is done.
func (f *linked) settle() { close(f.settled) }

// linkTo makes one more name of a file. It reports false if that file is not there, so
// that it must be written under this name.
func (w *writer) linkTo(fd int, j *job, there *unix.Stat_t) (done bool, err error) {
	select { // the first name came before this one: another writer has it
	case <-j.link.settled:
	case <-w.ctx.Done():
		return true, nil
	}
	if j.link.d == nil {
		return false, nil // that failed, and this will say why
	}
	if there != nil && identityOf(there) == j.link.id {
		w.tally.kept.Add(1)
		return true, nil
	}
	err = w.link(fd, j, there)
	switch {
	case err == nil:
		w.tally.hardLinks.Add(1)
		return true, nil
	case stops(err):
		return true, err
	}
	w.tally.lack("hard links", err.Error(), false)
	return false, nil
}

// link makes a hard link to the file, if that is still the one that was made.
func (w *writer) link(fd int, j *job, there *unix.Stat_t) error {
	from, err := w.dirs.use(j.link.d)
	if err != nil {
		return err
	}
	defer w.dirs.done(j.link.d)
	file, err := unix.Openat(from, j.link.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return target("opening the file to link to", err)
	}
	defer unix.Close(file)
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return target("fstat", err)
	}
	if identityOf(&st) != j.link.id {
		return refuse("%q was replaced meanwhile", j.link.d.at(j.link.name))
	}
	return w.place(fd, j, file, "", there)
}

// lock has flags set when all links are made: there can be no link to a file with a flag
// against changes.
func (l *links) lock(f *linked, flags uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.flags = flags
	l.locked = append(l.locked, f)
}

// flagLinks sets the flags against changes of files that have several names.
func (r *run) flagLinks() {
	for _, f := range r.links.locked {
		if err := r.flagLink(f); err != nil {
			r.failed(f.d.at(f.name), err)
		}
	}
}

func (r *run) flagLink(f *linked) error {
	from, err := r.dirs.use(f.d)
	if err != nil {
		return err
	}
	defer r.dirs.done(f.d)
	fd, err := openSame(from, f.name, f.id)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return r.setAllFlags(fd, &metadata{flags: f.flags})
}

// openSame opens a regular file for reading if it is the one with that identity.
func openSame(from int, name string, id identity) (int, error) {
	fd, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, target("opening the file again", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || identityOf(&st) != id {
		unix.Close(fd)
		return -1, errors.Join(err, refuse("it was replaced meanwhile"))
	}
	return fd, nil
}
