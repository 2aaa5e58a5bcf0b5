package verify

import (
	"context"
	"errors"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// finishAll finishes one snapshot after the other.
func (c *check) finishAll(ctx context.Context) {
	checker := new(store.ChunkChecker)
	for j := range c.jobs {
		j.pending.Wait()
		if ctx.Err() == nil {
			if err := c.finish(ctx, checker, j); err != nil {
				c.fail(err)
			}
			c.count.Snapshots.Add(1)
		}
		j.right.Release()
	}
}

// finish reports what was found in a snapshot, and what that costs.
func (c *check) finish(ctx context.Context, checker *store.ChunkChecker, j *job) error {
	if err := c.reportTold(j); err != nil {
		return err
	}
	h := &hits{files: make(map[name.File]bool), chunks: make(map[store.WantedChunk]*badChunk)}
	for _, d := range j.damage {
		h.files[d.File] = true
	}
	if j.snap != nil && c.bad.any() {
		if err := c.findHits(ctx, checker, j, h); err != nil {
			return c.unlessGone(ctx, j, err)
		}
	}
	if len(h.files) == 0 {
		return nil
	}
	// Whoever removes a snapshot does not care for its damage.
	if j.snap != nil {
		if err := j.snap.Still(ctx, j.right); err != nil {
			return c.unlessGone(ctx, j, err)
		}
	}
	if err := c.reportDamage(j, h); err != nil {
		return err
	}
	return c.unlessGone(ctx, j, c.costs(ctx, j, h))
}

// unlessGone tells that a snapshot has gone, if that is what err says, and returns err
// otherwise.
func (c *check) unlessGone(ctx context.Context, j *job, err error) error {
	if err == nil || endsRun(ctx, err) || !store.Vanished(err) {
		return err
	}
	c.count.Gone.Add(1)
	return c.out.Told(Told{Snapshot: j.name, Note: Gone, Err: err})
}

func (c *check) reportTold(j *job) error {
	for _, t := range j.told {
		switch t.Note {
		case Gone:
			c.count.Gone.Add(1)
		case Busy:
			c.count.Busy.Add(1)
		case Verified:
			c.count.Verified.Add(1)
		case Unlisted:
			c.count.Unlisted.Add(1)
		case Unchecked:
			c.count.Unchecked.Add(1)
		case Unfinished:
		}
		if err := c.out.Told(t); err != nil {
			return err
		}
	}
	return nil
}

// hits are what is damaged of one snapshot.
type hits struct {
	files  map[name.File]bool // damaged, or with damaged chunks
	chunks map[store.WantedChunk]*badChunk
}

// findHits finds the files of a snapshot that have damaged chunks.
func (c *check) findHits(ctx context.Context, checker *store.ChunkChecker, j *job, h *hits) error {
	for _, f := range j.snap.Manifest().Files {
		if f.Name.Format() == name.Blob || h.files[f.Name] {
			continue
		}
		x, err := j.snap.ReadIndex(ctx, j.right, f)
		if errors.Is(err, store.ErrCorrupt) { // since it was read a moment ago
			if err := j.wrong(f.Name, err); err != nil {
				return err
			}
			h.files[f.Name] = true
			continue
		}
		if err != nil {
			return err
		}
		if err := c.findChunks(ctx, checker, j, f, x, h); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) findChunks(ctx context.Context, checker *store.ChunkChecker, j *job, f manifest.File, x *index.Index, h *hits) error {
	for i := range x.Len() {
		w := j.snap.Wanted(f, x.Span(i))
		b := h.chunks[w]
		if b == nil {
			if b = c.bad.get(w); b == nil {
				continue
			}
			if still, err := c.stillBad(ctx, checker, j, w, b); err != nil || !still {
				if err != nil {
					return err
				}
				continue
			}
			h.chunks[w] = b
		}
		h.files[f.Name] = true
	}
	return nil
}

// stillBad looks a second time at a missing chunk before it is reported. It may have
// been missing because a garbage collection had removed it after its last snapshot, and
// have been stored again since.
func (c *check) stillBad(ctx context.Context, checker *store.ChunkChecker, j *job, w store.WantedChunk, b *badChunk) (bool, error) {
	if b.reported || b.err.Fault != store.ChunkMissing && b.err.Fault != store.ChunkMarked {
		return true, nil
	}
	_, err := checker.Check(ctx, j.right, w)
	var bad *store.ChunkError
	switch {
	case errors.As(err, &bad):
		b.err = bad
		return true, nil
	case err != nil:
		return false, err
	}
	c.bad.remove(w)
	return false, nil
}

// reportDamage reports the damage of a snapshot that was not reported before.
func (c *check) reportDamage(j *job, h *hits) error {
	for _, d := range j.damage {
		c.count.DamagedFiles.Add(1)
		if err := c.out.Damage(d); err != nil {
			return err
		}
	}
	for _, b := range h.chunks {
		if err := c.reportChunk(b); err != nil {
			return err
		}
	}
	return nil
}

// reportChunk reports a chunk that was not reported before.
func (c *check) reportChunk(b *badChunk) error {
	if b.reported {
		return nil
	}
	b.reported = true
	c.count.DamagedChunks.Add(1)
	return c.out.Damage(Damage{Chunk: b.err.Digest, OfChunk: true, Problem: problemOf(b.err.Fault), Err: b.err})
}

// reportRest reports, after a run that was interrupted, the damaged chunks of which it is
// not known what they cost.
func (c *check) reportRest() {
	for _, b := range c.bad.unreported() {
		if c.reportChunk(b) != nil {
			return
		}
	}
}
