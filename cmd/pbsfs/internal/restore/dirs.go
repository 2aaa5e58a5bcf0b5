package restore

import (
	"container/list"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/tree"
)

// identity tells one file from all others.
type identity struct{ dev, ino uint64 }

func identityOf(st *unix.Stat_t) identity { return identity{st.Dev, st.Ino} }

// dir is a directory below TARGET, or TARGET itself.
type dir struct {
	up   *dir // nil for TARGET
	name string
	// node is what the directory gets its metadata from; nil if it keeps its own.
	node *tree.Node

	// What follows is set when the directory is made or entered, by the walker, before
	// any writer knows of it.
	ready   bool
	broken  error // why it could not be made
	existed bool
	absent  bool // in a dry run: it would have been made
	// marked says that the directory has the attribute of one that is not finished.
	marked bool
	acls   bool // new files inherit an ACL
	id     identity
	// left counts what is not done: the walker, and each object in the directory.
	left atomic.Int64

	// The rest is guarded by dirs.mu.
	fd   int // -1: not open
	pins int // users of fd
	idle *list.Element
}

// path returns the path below TARGET.
func (d *dir) path() string {
	var names []string
	for ; d != nil && d.up != nil; d = d.up {
		names = append(names, d.name)
	}
	size := 0
	for _, n := range names {
		size += len(n) + 1
	}
	out := make([]byte, 0, size)
	for i := len(names) - 1; i >= 0; i-- {
		out = append(append(out, '/'), names[i]...)
	}
	if len(out) == 0 {
		return ""
	}
	return string(out[1:])
}

// at returns the path of a name in the directory.
func (d *dir) at(name string) string {
	if up := d.path(); up != "" {
		return up + "/" + name
	}
	return name
}

// dirs keeps the descriptors of directories, as few of them as are in use and some more.
// A directory that was closed is opened again on the way from TARGET, if it is still the
// same.
type dirs struct {
	mu    sync.Mutex // a leaf lock
	open  int
	limit int
	idle  list.List // of *dir with a descriptor that nobody uses; the oldest in front
}

// openDirectory opens a directory for reading, and no symbolic link.
func openDirectory(up int, name string) (int, error) {
	return unix.Openat(up, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}

// use returns the directory's descriptor, which is the caller's until done.
func (t *dirs) use(d *dir) (int, error) {
	if fd, ok := t.pin(d); ok {
		return fd, nil
	}
	up, err := t.use(d.up)
	if err != nil {
		return -1, err
	}
	fd, err := openDirectory(up, d.name)
	t.done(d.up)
	if err != nil {
		return -1, target("opening the directory again", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, target("fstat", err)
	}
	if identityOf(&st) != d.id {
		unix.Close(fd)
		return -1, refuse("%q was replaced by another directory meanwhile", d.path())
	}
	return t.put(d, fd), nil
}

// pin returns the descriptor if the directory is open.
func (t *dirs) pin(d *dir) (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.fd < 0 {
		return -1, false
	}
	d.pins++
	if d.idle != nil {
		t.idle.Remove(d.idle)
		d.idle = nil
	}
	return d.fd, true
}

// put gives a directory the descriptor fd, or closes that if it has one, and pins it.
func (t *dirs) put(d *dir, fd int) int {
	if had, ok := t.pin(d); ok {
		unix.Close(fd)
		return had
	}
	t.mu.Lock()
	if d.fd >= 0 { // since then
		t.mu.Unlock()
		return t.put(d, fd)
	}
	d.fd, d.pins = fd, 1
	t.open++
	t.mu.Unlock()
	return fd
}

// done ends the use of a descriptor.
func (t *dirs) done(d *dir) {
	t.mu.Lock()
	d.pins--
	if d.pins == 0 && d.up != nil {
		d.idle = t.idle.PushBack(d)
	}
	surplus := -1
	if t.open > t.limit {
		surplus = t.take()
	}
	t.mu.Unlock()
	if surplus >= 0 {
		unix.Close(surplus)
	}
}

// take takes a descriptor that nobody uses, -1 if there is none.
func (t *dirs) take() int {
	e := t.idle.Front()
	if e == nil {
		return -1
	}
	d, ok := t.idle.Remove(e).(*dir)
	if !ok {
		return -1
	}
	fd := d.fd
	d.idle, d.fd = nil, -1
	t.open--
	return fd
}

// drop closes the descriptor of a directory that is finished. It may be opened again.
func (t *dirs) drop(d *dir) {
	t.mu.Lock()
	fd := -1
	if d.idle != nil {
		t.idle.Remove(d.idle)
		fd, d.fd, d.idle = d.fd, -1, nil
		t.open--
	}
	t.mu.Unlock()
	if fd >= 0 {
		unix.Close(fd)
	}
}

// close closes all descriptors. Nobody may use one.
func (t *dirs) close(top *dir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for fd := t.take(); fd >= 0; fd = t.take() {
		unix.Close(fd)
	}
	if top.fd >= 0 {
		unix.Close(top.fd)
		top.fd = -1
	}
}
