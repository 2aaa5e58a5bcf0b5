package verify

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/digests"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/name"
)

// Options say what is checked.
type Options struct {
	// SkipVerified leaves out the snapshots that the server has found to be good for
	// that time; 0 leaves out none.
	SkipVerified time.Duration
	// Sample is the share of the chunks that is checked, up to 1, which 0 stands for.
	Sample float64
	// Rate bounds the bytes that are read in a second; 0 is no bound.
	Rate int64
	// Unreferenced counts the chunk files that nothing refers to. The snapshots must then
	// be all of the datastore.
	Unreferenced bool
}

// workersEach is how many workers there are for each chunk that is best read at a time:
// some wait for the disk while the others decode.
const workersEach = 2

// underWay is how many snapshots wait for their chunks, besides the one whose chunks are
// being handed out.
const underWay = 3

// check is one run.
type check struct {
	ref   *store.Lookup
	right *store.Reader
	opts  Options
	out   Reporter
	count *Counts
	limit *rate.Limiter // nil without a bound

	cancel context.CancelCauseFunc
	tasks  chan task
	jobs   chan *job

	// seen has the chunks that were met, as they were wanted; only the goroutine that
	// hands them out uses it.
	seen digests.Map[uint32]
	keys keyNumbers
	bad  damaged
}

// Run checks snapshots. right is held by the caller; its operation is that of the whole
// run. Counts are kept in count. The error is why the run ended early, not what it has
// found.
func Run(ctx context.Context, ref *store.Lookup, right *store.Reader, snapshots []name.Snapshot, opts Options, count *Counts, out Reporter) error {
	begun := time.Now()
	c := newCheck(ref, right, opts, count, out)
	count.Total.Store(int64(len(snapshots)))
	defer func() { count.Took.Store(int64(time.Since(begun))) }()
	err := c.run(ctx, newestFirst(snapshots))
	if ctx.Err() != nil {
		c.reportRest()
	}
	if err == nil && opts.Unreferenced {
		err = c.countUnreferenced(ctx)
	}
	return err
}

func newCheck(ref *store.Lookup, right *store.Reader, opts Options, count *Counts, out Reporter) *check {
	c := &check{
		ref: ref, right: right, opts: opts, out: out, count: count,
		tasks: make(chan task, workersEach*ref.Parallel()), jobs: make(chan *job, underWay),
	}
	if opts.Rate > 0 {
		c.limit = rate.NewLimiter(rate.Limit(opts.Rate), blob.MaxEncodedChunk)
	}
	c.bad.known = make(map[store.WantedChunk]*badChunk)
	return c
}

// run runs the stages and waits for them.
func (c *check) run(ctx context.Context, snapshots []name.Snapshot) error {
	ctx, c.cancel = context.WithCancelCause(ctx)
	defer c.cancel(nil)
	var stages sync.WaitGroup
	for range workersEach * c.ref.Parallel() {
		stages.Go(func() { c.work(ctx) })
	}
	stages.Go(func() { c.finishAll(ctx) })
	for _, s := range snapshots {
		if ctx.Err() != nil {
			break
		}
		c.begin(ctx, s)
	}
	close(c.tasks)
	close(c.jobs)
	stages.Wait()
	return context.Cause(ctx)
}

// fail ends the run.
func (c *check) fail(err error) { c.cancel(err) }

// newestFirst sorts snapshots, and removes those that are there twice.
func newestFirst(snapshots []name.Snapshot) []name.Snapshot {
	out := slices.SortedFunc(slices.Values(snapshots), func(a, b name.Snapshot) int {
		return cmp.Or(cmp.Compare(b.Time().Unix(), a.Time().Unix()), cmp.Compare(a.String(), b.String()))
	})
	return slices.Compact(out)
}

// paid counts n bytes that were read, and waits if they were too many.
func (c *check) paid(ctx context.Context, n int64) {
	c.count.Bytes.Add(n)
	for c.limit != nil && n > 0 && ctx.Err() == nil {
		step := min(n, int64(c.limit.Burst()))
		if err := c.limit.WaitN(ctx, int(step)); err != nil {
			return // the run ends
		}
		n -= step
	}
}

// endsRun reports whether nothing more can be checked after an error.
func endsRun(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, store.ErrGone) || errors.Is(err, store.ErrReleased)
}

// countUnreferenced looks for chunk files that no index names.
func (c *check) countUnreferenced(ctx context.Context) error {
	return store.ChunkFiles(ctx, c.right, func(f store.ChunkFile) error {
		if c.seen.Get(f.Digest) != nil {
			return nil
		}
		size, ok, err := f.Size(ctx)
		switch {
		case err != nil:
			return err
		case !ok:
			return nil
		case f.Bad:
			c.count.BadUnused.Add(1)
		default:
			c.count.Unreferenced.Add(1)
		}
		c.count.UnreferencedBytes.Add(size)
		return nil
	})
}
