package tree

import (
	"container/list"
	"context"
	"sync"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
)

// Holds are the rights of a command that reads many snapshots, all of one operation. The
// snapshots that were used last stay locked, so that a command can go to and fro between them, but no more
// than a number of them: each takes two descriptors. It is safe for concurrent use. Its
// owner must Close it.
type Holds struct {
	right *store.Reader
	limit int

	mu    sync.Mutex // guards what follows; a leaf lock
	held  map[name.Snapshot]*hold
	order list.List // of holds that nobody uses; front: used last
}

// hold is the right to read one snapshot.
type hold struct {
	snap  name.Snapshot
	ready chan struct{} // closed when r or err is set
	r     *store.Reader
	err   error
	users int
	at    *list.Element // in Holds.order, without users
}

// NewHolds begins a read operation, for at most limit snapshots and those that are in use.
func NewHolds(ctx context.Context, ref *store.Lookup, limit int) (*Holds, error) {
	right, err := ref.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	return &Holds{right: right, limit: limit, held: make(map[name.Snapshot]*hold)}, nil
}

// Use calls fn with the right to read s, which is locked meanwhile. Errors are those of
// [Hold], above all [io/fs.ErrNotExist] if the snapshot has been removed, and those of fn.
func (h *Holds) Use(ctx context.Context, s name.Snapshot, fn func(*store.Reader) error) error {
	k := h.take(ctx, s)
	defer h.give(k)
	select {
	case <-k.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if k.err != nil {
		return k.err
	}
	return fn(k.r)
}

// take adds a user to the hold of s.
func (h *Holds) take(ctx context.Context, s name.Snapshot) *hold {
	h.mu.Lock()
	k, ok := h.held[s]
	if !ok {
		k = &hold{snap: s, ready: make(chan struct{})}
		h.held[s] = k
	}
	k.users++
	if k.at != nil {
		h.order.Remove(k.at)
		k.at = nil
	}
	h.mu.Unlock()
	if !ok {
		k.r, k.err = h.right.Share()
		if k.err == nil {
			if k.err = k.r.Lock(ctx, s); k.err != nil {
				k.r.Release()
			}
		}
		close(k.ready)
	}
	return k
}

// give removes a user, and ends the holds that are too many.
func (h *Holds) give(k *hold) {
	var gone []*hold
	h.mu.Lock()
	if k.users--; k.users == 0 {
		k.at = h.order.PushFront(k)
	}
	for n := h.order.Back(); n != nil && len(h.held) > h.limit; n = h.order.Back() {
		old := h.order.Remove(n).(*hold)
		delete(h.held, old.snap)
		gone = append(gone, old)
	}
	if k.users == 0 && k.failed() && h.held[k.snap] == k {
		h.order.Remove(k.at)
		delete(h.held, k.snap)
	}
	h.mu.Unlock()
	for _, old := range gone {
		old.end()
	}
}

// failed reports whether the right could not be had.
func (k *hold) failed() bool {
	select {
	case <-k.ready:
		return k.err != nil
	default:
		return false
	}
}

func (k *hold) end() {
	<-k.ready
	if k.err == nil {
		k.r.Release()
	}
}

// Close releases all that is held. Nobody may use it any more.
func (h *Holds) Close() {
	h.mu.Lock()
	all := h.held
	h.held = nil
	h.order.Init()
	h.mu.Unlock()
	for _, k := range all {
		k.end()
	}
	h.right.Release()
}
