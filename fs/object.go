package fs

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	gofs "github.com/hanwen/go-fuse/v2/fs"

	"github.com/pbsfs/pbsfs/store/tree"
)

// object is what is known of something the kernel knows. All inodes that
// go-fuse takes for the same share it.
type object struct {
	node atomic.Pointer[tree.Node] // replaced when looked up again
	seen atomic.Int64              // when it was last looked up; since start, in ns
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

// objects finds objects by what go-fuse knows them by. It keeps none alive: an
// object goes with the last inode that has it. It is safe for concurrent use.
type objects struct {
	mu    sync.Mutex // a leaf lock
	known map[gofs.StableAttr]weak.Pointer[object]
}

// of returns the object known as attr, which from now on is known to be n; nil
// when it is a different one.
func (t *objects) of(attr gofs.StableAttr, n *tree.Node) *object {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.known[attr].Value(); o != nil {
		if o.node.Load().ID() != n.ID() {
			return nil
		}
		o.remember(n)
		return o
	}
	o := &object{}
	o.remember(n)
	if t.known == nil {
		t.known = make(map[gofs.StableAttr]weak.Pointer[object])
	}
	t.known[attr] = weak.Make(o)
	runtime.AddCleanup(o, t.forget, attr)
	return o
}

// count returns how many objects are known, those that are about to go included.
func (t *objects) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.known)
}

// forget takes what has gone off the table, unless the identity is in use again.
func (t *objects) forget(attr gofs.StableAttr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known[attr].Value() == nil {
		delete(t.known, attr)
	}
}
