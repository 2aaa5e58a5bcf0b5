package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// visitor gets the entries that a walk finds. An error ends the walk.
type visitor interface {
	// enter is called for a directory before its contents; the name of the top
	// directory is "". If ok is false, the contents are left out; otherwise leave is
	// called after them. fd was opened with O_PATH if it is not readable.
	enter(name string, fd int, st *unix.Stat_t, readable bool) (ok bool, err error)
	leave() error
	// leaf is called for every other entry, with its state before it was opened.
	leaf(dir int, name string, st *unix.Stat_t) error
}

// maxOpen bounds how many directories of one walk are open.
const maxOpen = 64

// walker is a walk through a tree.
type walker struct {
	ctx   context.Context
	tree  *Tree
	opts  Options
	stack []level
	buf   []byte              // for listing directories
	empty map[identity]string // directories that are stored empty, with the reason
}

// level is a directory on the way to the present position of the walk.
type level struct {
	fd    int // -1 while it is closed
	id    identity
	name  string
	names []string // names that have not been visited yet
}

// identity tells one file from another.
type identity struct{ dev, ino uint64 }

func identityOf(st *unix.Stat_t) identity { return identity{st.Dev, st.Ino} }

// run visits the directory and everything below it.
func (w *walker) run(visit visitor) error {
	defer w.close()
	if err := w.findEmpty(); err != nil {
		return err
	}
	if err := w.enterTop(visit); err != nil {
		return err
	}
	for len(w.stack) > 0 {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := w.step(visit); err != nil {
			return err
		}
	}
	return nil
}

// findEmpty finds the directories that are stored empty. In the tree they may have
// other paths than in the options.
func (w *walker) findEmpty() error {
	for dir, why := range w.opts.Empty {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: dir, Err: err}
		}
		if w.empty == nil {
			w.empty = make(map[identity]string)
		}
		w.empty[identityOf(&st)] = why
	}
	return nil
}

func (w *walker) close() {
	for i := range w.stack {
		w.shut(i)
	}
}

// shut closes a directory that may be reopened later.
func (w *walker) shut(i int) {
	if l := &w.stack[i]; l.fd >= 0 {
		unix.Close(l.fd)
		l.fd = -1
	}
}

func (w *walker) top() *level { return &w.stack[len(w.stack)-1] }

// enterTop begins with the top directory, which must be readable.
func (w *walker) enterTop(visit visitor) error {
	// A separate descriptor has a separate position.
	fd, err := openAt(w.tree.fd, ".", openDir)
	if err != nil {
		return &fs.PathError{Op: "open", Path: w.tree.path, Err: err}
	}
	w.stack = append(w.stack, level{fd: fd})
	st, err := fstat(fd)
	if err != nil {
		return &fs.PathError{Op: "stat", Path: w.tree.path, Err: err}
	}
	names, err := w.list(fd)
	if err != nil && len(names) == 0 {
		return &fs.PathError{Op: "read", Path: w.tree.path, Err: err}
	}
	w.warnList(err)
	w.stack[0].id, w.stack[0].names = identityOf(st), names
	_, err = visit.enter("", fd, st, true)
	return err
}

// step visits the next name of the directory, or leaves it.
func (w *walker) step(visit visitor) error {
	l := w.top()
	if len(l.names) == 0 {
		w.up()
		return visit.leave()
	}
	name := l.names[0]
	l.names = l.names[1:]
	st, err := statAt(l.fd, name)
	switch {
	case err != nil:
		w.warn(name, describe("look at it", err))
		return nil
	case typeOf(st) == unix.S_IFDIR:
		return w.down(visit, name, st)
	}
	return visit.leaf(l.fd, name, st)
}

// down enters a subdirectory of the directory at the top of the stack.
func (w *walker) down(visit visitor, name string, st *unix.Stat_t) error {
	parent := w.top().id.dev
	fd, readable, err := w.openDir(name, st.Dev != parent)
	if err == nil {
		if st, err = fstat(fd); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		w.warn(name, describe("open it", err))
		return nil
	}
	ok, err := visit.enter(name, fd, st, readable)
	if err != nil || !ok {
		unix.Close(fd)
		return err
	}
	w.stack = append(w.stack, level{fd: fd, id: identityOf(st), name: name})
	if n := len(w.stack) - maxOpen; n > 0 { // the top directory stays open
		w.shut(n)
	}
	if why, ok := w.empty[w.top().id]; ok {
		w.warn("", fmt.Errorf("stored empty: %s", why))
		return nil
	}
	if !readable || st.Dev != parent && isVirtual(fd) || st.Dev != w.tree.dev && !w.opts.AllFileSystems {
		return nil
	}
	names, err := w.list(fd)
	w.warnList(err)
	w.top().names = names
	return nil
}

// openDir opens a directory. It uses O_PATH for a directory that we may not read, and
// for a place where opening would trigger an automount.
func (w *walker) openDir(name string, mounted bool) (fd int, readable bool, err error) {
	dir := w.top().fd
	if mounted {
		if fd, err = openAt(dir, name, openPath|unix.O_DIRECTORY); err != nil {
			return -1, false, err
		}
		if fsType(fd) == unix.AUTOFS_SUPER_MAGIC {
			return fd, false, nil
		}
		unix.Close(fd)
	}
	if fd, err = openAt(dir, name, openDir); err == nil || changed(err) {
		return fd, true, err
	}
	unreadable := err
	if fd, err = openAt(dir, name, openPath|unix.O_DIRECTORY); err == nil {
		w.warn(name, incomplete("stored empty: cannot read it: %w", unreadable))
	}
	return fd, false, err
}

// list returns the names in a directory, in the order of their bytes. If there is an
// error, there may be more names.
func (w *walker) list(fd int) (names []string, err error) {
	if w.buf == nil {
		w.buf = make([]byte, 64<<10)
	}
	for err == nil {
		var n int
		if names, n, err = readNames(fd, w.buf, names); n == 0 {
			break
		}
		err = w.ctx.Err()
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

func (w *walker) warnList(err error) {
	if err != nil && w.ctx.Err() == nil {
		w.warn("", incomplete("some of what is in it is left out: cannot list it: %w", err))
	}
}

// up goes back to the parent directory, which may have been closed.
func (w *walker) up() {
	below := w.top().fd
	w.stack = w.stack[:len(w.stack)-1]
	if len(w.stack) > 0 && w.top().fd < 0 {
		w.reopen(below)
	}
	if below >= 0 {
		unix.Close(below)
	}
}

// reopen opens the directory at the top of the stack: as the parent of the directory
// that was below it, or, if that was moved, by its names. If the names lead to other
// directories now, the rest of the directory is left out.
func (w *walker) reopen(below int) {
	l := w.top()
	if l.fd = openSame(below, "..", l.id); l.fd >= 0 {
		return
	}
	fd := w.stack[0].fd
	for i := 1; i < len(w.stack) && fd >= 0; i++ {
		next := openSame(fd, w.stack[i].name, w.stack[i].id)
		if i > 1 {
			unix.Close(fd)
		}
		fd = next
	}
	if l.fd = fd; fd < 0 && len(l.names) > 0 {
		w.warn("", incomplete("it was moved while it was read: %d of its entries are left out, from %q on", len(l.names), l.names[0]))
		l.names = nil
	}
}

// openSame opens a known directory by its name. It returns -1 if the name leads to
// another directory.
func openSame(dir int, name string, id identity) int {
	fd, err := openAt(dir, name, openDir)
	if err != nil {
		return -1
	}
	if st, err := fstat(fd); err != nil || identityOf(st) != id {
		unix.Close(fd)
		return -1
	}
	return fd
}

// warn passes on an error, unless it is nil, about a name in the directory at the top
// of the stack; the name "" means that directory itself.
func (w *walker) warn(name string, err error) {
	if w.opts.Warn == nil || err == nil {
		return
	}
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(w.tree.path, "/"))
	for _, l := range w.stack[1:] {
		b.WriteString("/" + l.name)
	}
	if name != "" {
		b.WriteString("/" + name)
	}
	if b.Len() == 0 {
		b.WriteByte('/')
	}
	w.opts.Warn(b.String(), err)
}

func (w *walker) progress(files, bytes int64) {
	if w.opts.Progress != nil {
		w.opts.Progress(files, bytes)
	}
}

// changed reports whether the error means that a name is gone, or leads to another file
// than before.
func changed(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
}

// describe says why an entry is left out.
func describe(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("left out: it vanished: %w", err)
	case changed(err):
		return incomplete("left out: it became something else: %w", err)
	}
	return incomplete("left out: cannot %s: %w", what, err)
}
