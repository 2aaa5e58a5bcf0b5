package store

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
	"github.com/pbsfs/pbsfs/store/name"
)

// Lookup is a reference to a datastore that can do no I/O. It is safe for
// concurrent use. Its owner must Close it.
type Lookup struct {
	// ds has a type of its own, so that each kind of reference has other fields:
	// structs with the same fields could be converted into each other.
	ds lookupOnly
}

type lookupOnly struct{ *datastore }

// CanRead is the right to read. Only references of this package implement it.
type CanRead interface {
	reading() (*right, error)
}

// CanWrite is the right to write, which includes the right to read.
type CanWrite interface {
	CanRead
	writing() (*right, error)
}

// held returns the right behind r, or an error if it is not held.
func held(r CanRead) (*right, error) {
	if r == nil {
		return nil, ErrReleased
	}
	return r.reading()
}

// begin is the first step of every read from disk: it returns the right behind r and
// the open datastore, or an error if ctx has ended.
func begin(ctx context.Context, r CanRead) (*right, backend.Backend, error) {
	right, err := held(r)
	if err != nil {
		return nil, nil, err
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	root, err := right.Root()
	return right, root, err
}

// right is the common part of a Reader and a Writer: a share in an operation, and the
// datastore of the operation.
type right struct {
	ds       *datastore
	op       *operation
	released atomic.Bool

	mu     sync.Mutex      // a leaf lock
	locked []name.Snapshot // snapshots whose locks are released with this right; guarded by mu
}

// operation is a guard of package maint that several rights share. It ends with the
// last of them.
type operation struct {
	guard  *maint.Guard
	shares atomic.Int64
}

// Root returns the open directory of the datastore.
func (r *right) Root() (backend.Backend, error) {
	if r == nil || r.released.Load() {
		return nil, ErrReleased
	}
	return r.ds.open()
}

// Chunks returns the chunks of the datastore.
func (r *right) Chunks() (chunk.Backend, error) {
	root, err := r.Root()
	if err != nil {
		return nil, err
	}
	return root, nil
}

// Release ends the operation. Later calls do nothing.
func (r *right) Release() {
	if r == nil || r.released.Swap(true) {
		return
	}
	r.mu.Lock()
	locked := r.locked
	r.locked = nil
	r.mu.Unlock()
	for _, s := range locked {
		r.ds.locks.give(s)
	}
	if r.op.shares.Add(-1) == 0 {
		r.op.guard.Release()
	}
}

// share returns a right that shares the operation of r, for work that may outlive r. It
// begins no new operation, which a maintenance mode could refuse: an open file can be
// read to its end.
func (r *right) share() (*right, error) {
	if _, err := r.checked(); err != nil {
		return nil, err
	}
	for {
		n := r.op.shares.Load()
		if n == 0 {
			return nil, ErrReleased
		}
		if r.op.shares.CompareAndSwap(n, n+1) {
			return &right{ds: r.ds, op: r.op}, nil
		}
	}
}

// Reader is a reference that may read. It counts as one read operation until
// it is released, and is safe for concurrent use until then.
type Reader struct {
	r *right
}

// Writer is a reference that may read and write. It counts as one write
// operation until it is released.
type Writer struct {
	w *right
}

func (r *Reader) reading() (*right, error) {
	if r == nil {
		return nil, ErrReleased
	}
	return r.r.checked()
}

func (w *Writer) reading() (*right, error) {
	if w == nil {
		return nil, ErrReleased
	}
	return w.w.checked()
}

func (w *Writer) writing() (*right, error) { return w.reading() }

func (r *right) checked() (*right, error) {
	if r == nil || r.released.Load() {
		return nil, ErrReleased
	}
	return r, nil
}

// Release ends the read operation. Objects that were got through r must no longer be
// used. Release may be called more than once.
func (r *Reader) Release() {
	if r != nil {
		r.r.Release()
	}
}

// Release ends the write operation. It may be called more than once.
func (w *Writer) Release() {
	if w != nil {
		w.w.Release()
	}
}

// Acquire begins a read operation, for a handle that stays open. It fails with an error
// of package maint if the maintenance mode forbids reading or the operation cannot be
// counted. The caller must Release the reader.
func (l *Lookup) Acquire(ctx context.Context) (*Reader, error) {
	r, err := l.acquire(ctx, cfg.Read)
	if err != nil {
		return nil, err
	}
	return &Reader{r: r}, nil
}

// AcquireWriter begins a write operation. The caller must Release the writer.
func (l *Lookup) AcquireWriter(ctx context.Context) (*Writer, error) {
	w, err := l.acquire(ctx, cfg.Write)
	if err != nil {
		return nil, err
	}
	return &Writer{w: w}, nil
}

// View begins a read operation, calls fn with it and ends it, even if fn panics. The
// reader must not be used after fn has returned.
func (l *Lookup) View(ctx context.Context, fn func(*Reader) error) error {
	r, err := l.Acquire(ctx)
	if err != nil {
		return err
	}
	defer r.Release()
	return fn(r)
}

func (l *Lookup) acquire(ctx context.Context, op cfg.Operation) (*right, error) {
	if l.isZero() {
		return nil, ErrReleased
	}
	return l.ds.acquire(ctx, op)
}

// Name returns the datastore's name: the configured one, or one made from its path.
func (l *Lookup) Name() string {
	if l.isZero() {
		return ""
	}
	return l.ds.name
}

// Path returns the datastore's directory, absolute.
func (l *Lookup) Path() string {
	if l.isZero() {
		return ""
	}
	return l.ds.path
}

// Operations returns how many operations of this process on the datastore are active.
func (l *Lookup) Operations() opsfile.Counts {
	if l.isZero() {
		return opsfile.Counts{}
	}
	return l.ds.ops.Counts()
}

// isZero reports whether the reference is to nothing.
func (l *Lookup) isZero() bool { return l == nil || l.ds.datastore == nil }

// Untracked reports whether our operations are not registered, so that
// maintenance does not see them.
func (l *Lookup) Untracked() bool { return !l.isZero() && l.ds.ops.Untracked() }

// Identity returns the identity of the datastore when it was last seen.
func (l *Lookup) Identity() identity.ID { return l.ds.ops.Identity() }

// Mode returns the maintenance mode last seen.
func (l *Lookup) Mode() cfg.Mode { return l.ds.ops.Mode() }

// Close releases the datastore. It fails while operations are active.
func (l *Lookup) Close() error {
	if l.isZero() {
		return ErrReleased
	}
	return l.ds.close()
}
