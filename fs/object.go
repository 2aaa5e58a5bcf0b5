package fs

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"

	"github.com/pbsfs/pbsfs/store/tree"
)

// object is what is known of an object of the kernel. All inodes that are the same to
// go-fuse share it.
type object struct {
	node atomic.Pointer[tree.Node] // replaced by each lookup
	seen atomic.Int64              // the time of the last lookup, in ns since start

	inodes int // the number of inodes that share it; guarded by objects.mu
}

// start is the zero of object.seen, because a monotonic clock has no zero of its own.
var start = time.Now()

// remember stores n as the object's node.
func (o *object) remember(n *tree.Node) {
	o.node.Store(n)
	o.seen.Store(int64(time.Since(start)))
}

// isFresh reports whether the object was looked up a moment ago.
func (o *object) isFresh() bool {
	return time.Since(start)-time.Duration(o.seen.Load()) < fresh
}

// objects finds objects by the numbers that go-fuse uses. An object is removed when its
// last inode is collected. objects is safe for concurrent use.
type objects struct {
	mu    sync.Mutex // a leaf lock
	known map[gofs.StableAttr]*object
}

// share gives i the object known as attr, and stores n as its node. It reports false if
// that name belongs to a different object.
func (t *objects) share(i *inode, attr gofs.StableAttr, n *tree.Node) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.known[attr]
	switch {
	case o == nil:
		o = &object{}
		if t.known == nil {
			t.known = make(map[gofs.StableAttr]*object)
		}
		t.known[attr] = o
	case o.node.Load().ID() != n.ID():
		return false
	}
	o.remember(n)
	o.inodes++
	i.object = o
	runtime.AddCleanup(i, t.leave, attr)
	return true
}

// count returns how many objects are known, including those that are about to be
// collected.
func (t *objects) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.known)
}

// leave removes a collected inode from the object known as attr.
func (t *objects) leave(attr gofs.StableAttr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.known[attr]
	if o.inodes--; o.inodes == 0 {
		delete(t.known, attr)
	}
}
