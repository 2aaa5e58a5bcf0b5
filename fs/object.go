package fs

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"

	"github.com/pbsfs/pbsfs/store/tree"
)

// object is what is known of something the kernel knows. All inodes that
// go-fuse takes for the same share it.
type object struct {
	node atomic.Pointer[tree.Node] // replaced when looked up again
	seen atomic.Int64              // when it was last looked up; since start, in ns

	inodes int // that share it; guarded by objects.mu
}

// start is what object.seen counts from. A monotonic clock has no other zero.
var start = time.Now()

// remember makes n what is known of the object.
func (o *object) remember(n *tree.Node) {
	o.node.Store(n)
	o.seen.Store(int64(time.Since(start)))
}

// isFresh reports whether the object was looked up a moment ago.
func (o *object) isFresh() bool {
	return time.Since(start)-time.Duration(o.seen.Load()) < fresh
}

// objects finds objects by what go-fuse knows them by. An object goes with the
// last inode that has it, when that is collected. It is safe for concurrent use.
type objects struct {
	mu    sync.Mutex // a leaf lock
	known map[gofs.StableAttr]*object
}

// share gives i the object known as attr, which from now on is known to be n. It
// reports whether there is no different one of that name.
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

// count returns how many objects are known, those that are about to go included.
func (t *objects) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.known)
}

// leave takes an inode that was collected off the object known as attr.
func (t *objects) leave(attr gofs.StableAttr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.known[attr]
	if o.inodes--; o.inodes == 0 {
		delete(t.known, attr)
	}
}
