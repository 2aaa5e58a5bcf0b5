package verify

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/manifest"
)

// MaxDamaged is how many damaged chunks are kept with what they cost. Further ones are
// counted.
const MaxDamaged = 1 << 20

// task is a chunk to be checked, for the first snapshot that needs it.
type task struct {
	want store.WantedChunk
	job  *job
}

// badChunk is a damaged chunk.
type badChunk struct {
	err      *store.ChunkError
	reported bool
}

// damaged are the damaged chunks, by what was wanted.
type damaged struct {
	mu    sync.Mutex // a leaf lock
	known map[store.WantedChunk]*badChunk
}

// add keeps a damaged chunk, or reports that there are too many.
func (d *damaged) add(w store.WantedChunk, err *store.ChunkError) (kept bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) == MaxDamaged {
		return false
	}
	d.known[w] = &badChunk{err: err}
	return true
}

// unreported returns the chunks of which it is not known what they cost, in order.
func (d *damaged) unreported() []*badChunk {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*badChunk
	for _, b := range d.known {
		if !b.reported {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b *badChunk) int { return bytes.Compare(a.err.Digest[:], b.err.Digest[:]) })
	return out
}

func (d *damaged) get(w store.WantedChunk) *badChunk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[w]
}

func (d *damaged) remove(w store.WantedChunk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, w)
}

func (d *damaged) any() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.known) > 0
}

// keyNumbers numbers the keys that chunks are checked with.
type keyNumbers map[keys.Fingerprint]uint32

const (
	sizeBits = 25 // a chunk has up to 16 MiB
	maxKeys  = 1<<(31-sizeBits) - 1
	sealBit  = 1 << 31
)

// tag puts into a number everything besides its digest that a chunk is checked against.
// It reports false if it cannot, because there are too many keys: such a chunk is checked
// each time.
func (k *keyNumbers) tag(w store.WantedChunk) (uint32, bool) {
	t := uint32(w.Size())
	if w.Encrypted() {
		t |= sealBit
	}
	fp, known := w.Key()
	if !known {
		return t, true
	}
	n, ok := (*k)[fp]
	if !ok {
		if len(*k) == maxKeys {
			return t, false
		}
		if *k == nil {
			*k = make(keyNumbers)
		}
		n = uint32(len(*k)) + 1
		(*k)[fp] = n
	}
	return t | n<<sizeBits, true
}

// handOut hands out the chunks of an index that were not handed out before. A skipped
// snapshot only says that they are referred to.
func (c *check) handOut(ctx context.Context, j *job, f manifest.File, x *index.Index, skip bool) {
	var last store.WantedChunk
	for i := range x.Len() {
		w := j.snap.Wanted(f, x.Span(i))
		if w == last { // a hole of an image has many of one
			continue
		}
		last = w
		tag, ok := c.keys.tag(w)
		switch {
		case skip:
			// A tag of its own: another snapshot may have the chunk checked.
			if c.seen.Get(w.Digest()) == nil {
				c.seen.Add(w.Digest(), 0)
			}
			continue
		case ok && c.seen.Has(w.Digest(), tag):
			continue
		case ok:
			c.seen.Add(w.Digest(), tag)
		}
		if c.opts.Sample > 0 && rand.Float64() >= c.opts.Sample {
			c.count.Unsampled.Add(1)
			continue
		}
		j.pending.Add(1)
		select {
		case c.tasks <- task{w, j}:
		case <-ctx.Done():
			j.pending.Done()
			return
		}
	}
}

// work checks chunks until there are no more. When the run ends early, it lets the rest
// pass.
func (c *check) work(ctx context.Context) {
	var checker store.ChunkChecker
	for t := range c.tasks {
		if ctx.Err() == nil {
			c.checkChunk(ctx, &checker, t)
		}
		t.job.pending.Done()
	}
}

func (c *check) checkChunk(ctx context.Context, checker *store.ChunkChecker, t task) {
	got, err := checker.Check(ctx, t.job.right, t.want)
	var bad *store.ChunkError
	switch {
	case errors.As(err, &bad):
		if !c.bad.add(t.want, bad) {
			c.count.DamagedChunks.Add(1) // the others count when they are reported
		}
	case err != nil && endsRun(ctx, err):
		c.fail(err)
		return
	case err != nil:
		t.job.tell(Told{Snapshot: t.job.name, Note: Unchecked, Err: err})
		return
	case got.Sealed:
		c.count.SealedChunks.Add(1)
	}
	c.count.Chunks.Add(1)
	c.paid(ctx, got.Stored)
}
