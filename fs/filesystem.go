package fs

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

const (
	// shortly is how long the kernel may cache what can change.
	shortly = 500 * time.Millisecond
	// fresh is how old an answer from our own memory may be while the disk could be
	// asked. The sum of fresh and shortly is less than the second within which changes
	// must show.
	fresh = 250 * time.Millisecond
	// forever is how long the kernel may cache what cannot change.
	forever = 10 * 365 * 24 * time.Hour
)

// filesystem is the state that the inodes and handles of one mount share.
type filesystem struct {
	ref      *store.Lookup
	tree     *tree.Tree
	owner    ownership
	problems problems
	openers  openers
	objects  objects
	pruner   *pruner // nil if the number of objects is not limited
	failed   func(error)
	reads    atomic.Uint64
	bytes    atomic.Uint64 // of reads
	// identify makes the numbers by which go-fuse knows an object.
	identify func(*tree.Node) gofs.StableAttr

	// mu is a leaf lock and guards the fields below.
	mu       sync.Mutex
	stopping bool
	handles  map[*handle]struct{}
	figures  unix.Statfs_t // of the last statfs that succeeded
}

func newFilesystem(ref *store.Lookup, owner ownership, log *slog.Logger) *filesystem {
	return &filesystem{
		ref:      ref,
		tree:     tree.New(ref),
		owner:    owner,
		problems: problems{log: log},
		failed:   func(error) {},
		identify: stableAttr,
		handles:  make(map[*handle]struct{}),
	}
}

// handle is an open file or directory that counts as a read operation.
type handle struct {
	fsys   *filesystem
	inode  *inode
	right  *store.Reader
	opener Opener
	since  time.Time
}

// open begins the operation of a new handle, and locks the snapshot in which it lies.
// The caller must release the handle.
func (f *filesystem) open(ctx context.Context, i *inode) (*handle, error) {
	if f.isStopping() {
		return nil, errStopping
	}
	right, err := tree.Hold(ctx, f.ref, i.node.Load())
	if err != nil {
		return nil, err
	}
	h := &handle{fsys: f, inode: i, right: right, since: time.Now(), opener: f.openers.of(ctx)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handles[h] = struct{}{}
	return h, nil
}

// release releases the right of a handle.
func (h *handle) release() {
	h.fsys.mu.Lock()
	delete(h.fsys.handles, h)
	h.fsys.mu.Unlock()
	h.right.Release()
}

// openInodes returns the inodes that are open.
func (f *filesystem) openInodes() map[*inode]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	open := make(map[*inode]bool, len(f.handles))
	for h := range f.handles {
		open[h.inode] = true
	}
	return open
}

func (f *filesystem) isStopping() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopping
}

// releaseAll releases all open handles after the last request was answered: when a
// mount ends, the kernel sends no RELEASE for them.
func (f *filesystem) releaseAll() {
	f.mu.Lock()
	open := slices.Collect(maps.Keys(f.handles))
	f.mu.Unlock()
	for _, h := range open {
		h.release()
	}
}

// stop refuses new handles from now on.
func (f *filesystem) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopping = true
}

// Handle describes an open file or directory.
type Handle struct {
	// Path is the path below the mount point.
	Path   string
	Opener Opener
	Since  time.Time
}

// openHandles returns the open handles, sorted by path.
func (f *filesystem) openHandles() []Handle {
	f.mu.Lock()
	open := slices.Collect(maps.Keys(f.handles))
	f.mu.Unlock()
	out := make([]Handle, 0, len(open))
	for _, h := range open {
		out = append(out, Handle{Path: h.inode.Path(nil), Opener: h.opener, Since: h.since})
	}
	slices.SortFunc(out, func(a, b Handle) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// fail reports err and returns its errno.
func (f *filesystem) fail(err error) syscall.Errno {
	errno := errnoOf(err)
	f.failed(err)
	f.problems.report(err, errno)
	return errno
}

// statfs returns the figures of the datastore's file system, or the last known figures
// if the file system cannot be asked.
func (f *filesystem) statfs(ctx context.Context) unix.Statfs_t {
	var now unix.Statfs_t
	ctx, answered := patient(ctx)
	defer answered()
	err := f.ref.View(ctx, func(r *store.Reader) (err error) {
		now, err = store.Statfs(r)
		return err
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.figures = now
	}
	return f.figures
}
