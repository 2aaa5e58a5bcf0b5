package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/statefile"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/name"
)

// ErrBusy says that a snapshot is locked by a process that changes it.
var ErrBusy = errors.New("snapshot is locked by the server")

const (
	// lockWait bounds the wait for a snapshot that is locked exclusively.
	lockWait = time.Second
	// lockPoll is the pause between two attempts to take such a lock.
	lockPoll = 20 * time.Millisecond
	// lockLinger is how long the locks of a snapshot stay after its last handle is
	// closed, so that a program that reads many small files does not take them for each
	// file.
	lockLinger = 100 * time.Millisecond
)

// snapshotLocks are this process's shared locks on snapshots that are being read. They
// keep an old and a new PBS from removing these snapshots.
type snapshotLocks struct {
	mu   sync.Mutex // a leaf lock; guards what follows, and the fields of each lock but its files
	held map[name.Snapshot]*snapshotLock
}

// snapshotLock is the lock of one snapshot.
type snapshotLock struct {
	ready chan struct{} // closed when the locks were taken, or could not be
	err   error         // why they could not; set before ready is closed
	dir   backend.Lock
	file  *maint.SnapshotLock

	users int
	since time.Time
	timer *time.Timer // ends the linger
}

func (l *snapshotLock) release() {
	if l.dir != nil {
		l.dir.Release()
	}
	l.file.Release()
}

// LockedSnapshot is a snapshot that this process protects from removal.
type LockedSnapshot struct {
	Snapshot name.Snapshot
	Since    time.Time
}

// Locked returns the snapshots that are locked now, sorted by name.
func (l *Lookup) Locked() []LockedSnapshot {
	if l.isZero() {
		return nil
	}
	locks := &l.ds.locks
	locks.mu.Lock()
	defer locks.mu.Unlock()
	out := make([]LockedSnapshot, 0, len(locks.held))
	for s, lock := range locks.held {
		out = append(out, LockedSnapshot{Snapshot: s, Since: lock.since})
	}
	slices.SortFunc(out, func(a, b LockedSnapshot) int {
		return cmp.Compare(a.Snapshot.String(), b.Snapshot.String())
	})
	return out
}

// Lock keeps the server from removing s until the reader is released. It takes the same
// shared locks as the server's own readers, those of old and of new servers. It fails
// with [ErrBusy] if the snapshot is locked exclusively for more than a second, and with
// [fs.ErrNotExist] if the snapshot has been removed.
func (r *Reader) Lock(ctx context.Context, s name.Snapshot) error {
	right, err := r.reading()
	if err != nil {
		return err
	}
	return right.lock(ctx, s)
}

// lock takes the lock of s for a right.
func (r *right) lock(ctx context.Context, s name.Snapshot) error {
	if err := r.ds.locks.take(ctx, s, func(l *snapshotLock) error { return r.takeLocks(ctx, s, l) }); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.locked = append(r.locked, s)
	return nil
}

// takeLocks takes both locks of s. It waits up to a second for their holders.
func (r *right) takeLocks(ctx context.Context, s name.Snapshot, l *snapshotLock) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lockWait, ErrBusy)
	defer cancel()
	for {
		err := r.tryLocks(ctx, s, l)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), ErrBusy) {
				return err
			}
			return context.Cause(ctx)
		}
	}
}

// tryLocks takes both locks of s, the directory's first, and checks that the snapshot
// is still there.
func (r *right) tryLocks(ctx context.Context, s name.Snapshot, l *snapshotLock) (err error) {
	root, err := r.Root()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			l.release()
			l.dir, l.file = nil, nil
		}
	}()
	l.dir, err = root.LockShared(s.Dir())
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("datastore %s: snapshot %s: %w", r.ds.name, s, ErrBusy)
	case backend.NoLocks(err):
		// No server can lock there either.
	case err != nil:
		return r.ds.blame(ctx, root, err)
	}
	g := s.Group()
	path := string(g.Type()) + "/" + g.ID() + "/" + s.Time().String()
	var namespace []string
	if !g.Namespace().IsRoot() {
		namespace = strings.Split(g.Namespace().String(), "/")
	}
	l.file, err = maint.LockSnapshot(r.ds.host, r.ds.ops.Names(), namespace, path)
	if errors.Is(err, statefile.ErrLocked) {
		return fmt.Errorf("datastore %s: snapshot %s: %w: %w", r.ds.name, s, ErrBusy, err)
	}
	if err != nil {
		return fmt.Errorf("datastore %s: snapshot %s: %w: %w", r.ds.name, s, maint.ErrUncounted, err)
	}
	_, err = r.ds.stampOf(ctx, root, s)
	return err
}

// take adds a user to the lock of s, and calls fill if the lock has to be taken. If the
// attempt of another user fails, take tries anew, so that each user waits for up to a
// second.
func (k *snapshotLocks) take(ctx context.Context, s name.Snapshot, fill func(*snapshotLock) error) error {
	for begin := time.Now(); ; {
		mine, err := k.takeOnce(ctx, s, fill)
		if err == nil || mine || ctx.Err() != nil || time.Since(begin) > lockWait {
			return err
		}
	}
}

// takeOnce is one attempt. mine says whether this caller made it.
func (k *snapshotLocks) takeOnce(ctx context.Context, s name.Snapshot, fill func(*snapshotLock) error) (mine bool, err error) {
	k.mu.Lock()
	l, ok := k.held[s]
	mine = !ok || l.failed()
	if mine {
		l = &snapshotLock{ready: make(chan struct{}), since: time.Now()}
		if k.held == nil {
			k.held = make(map[name.Snapshot]*snapshotLock)
		}
		k.held[s] = l
	}
	l.users++
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	k.mu.Unlock()
	if mine {
		l.err = fill(l)
		close(l.ready)
	}
	if err = l.wait(ctx); err != nil {
		k.leave(s, l)
	}
	return mine, err
}

// wait returns when the lock was taken, or could not be taken. If the lock is held
// already, wait does not look at ctx.
func (l *snapshotLock) wait(ctx context.Context) error {
	select {
	case <-l.ready:
		return l.err
	default:
	}
	select {
	case <-l.ready:
		return l.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// give removes a user from the lock of s.
func (k *snapshotLocks) give(s name.Snapshot) {
	k.mu.Lock()
	l := k.held[s]
	k.mu.Unlock()
	if l != nil {
		k.leave(s, l)
	}
}

// leave removes a user from a lock. With the last user a failed lock is forgotten, and
// a held one is released after the linger.
func (k *snapshotLocks) leave(s name.Snapshot, l *snapshotLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l.users--
	if l.users > 0 || k.held[s] != l {
		return
	}
	if l.failed() {
		delete(k.held, s)
		return
	}
	l.timer = time.AfterFunc(lockLinger, func() { k.expire(s, l) })
}

// failed reports whether the lock could not be taken.
func (l *snapshotLock) failed() bool {
	select {
	case <-l.ready:
		return l.err != nil
	default:
		return false
	}
}

// expire releases a lock that was not used since the linger began.
func (k *snapshotLocks) expire(s name.Snapshot, l *snapshotLock) {
	k.mu.Lock()
	mine := l.users == 0 && k.held[s] == l
	if mine {
		delete(k.held, s)
	}
	k.mu.Unlock()
	if mine {
		<-l.ready
		l.release()
	}
}

// drop releases all locks that are not in use.
func (k *snapshotLocks) drop() {
	k.mu.Lock()
	var unused []*snapshotLock
	for s, l := range k.held {
		if l.users == 0 {
			delete(k.held, s)
			if l.timer != nil {
				l.timer.Stop()
			}
			unused = append(unused, l)
		}
	}
	k.mu.Unlock()
	for _, l := range unused {
		<-l.ready
		l.release()
	}
}
