package verify

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// job is a snapshot that is being checked. Its locks are held until it is finished.
type job struct {
	name  name.Snapshot
	right *store.Reader
	snap  *store.Snapshot // nil if the manifest is damaged, or the snapshot is not checked

	damage  []Damage       // of its files
	pending sync.WaitGroup // chunks that were handed out

	mu   sync.Mutex // a leaf lock
	told []Told     // guarded by mu until pending is over
}

// maxTold is how much is told of one snapshot.
const maxTold = 1000

func (j *job) tell(t Told) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.told) < maxTold {
		j.told = append(j.told, t)
	}
}

// begin checks the files of a snapshot and hands out its chunks.
func (c *check) begin(ctx context.Context, s name.Snapshot) {
	right, err := c.right.Share()
	if err != nil {
		c.fail(err)
		return
	}
	j := &job{name: s, right: right}
	if err := c.fill(ctx, j); err != nil {
		c.notChecked(ctx, j, err)
	}
	select {
	case c.jobs <- j:
	case <-ctx.Done():
		j.pending.Wait()
		right.Release()
	}
}

// notChecked says why a snapshot was not checked, or not to its end.
func (c *check) notChecked(ctx context.Context, j *job, err error) {
	switch {
	case endsRun(ctx, err):
		c.fail(err)
	case store.Vanished(err):
		j.snap = nil
		j.damage = nil
		j.tell(Told{Snapshot: j.name, Note: Gone, Err: err})
	case errors.Is(err, store.ErrBusy):
		j.tell(Told{Snapshot: j.name, Note: Busy, Err: err})
	default:
		j.tell(Told{Snapshot: j.name, Note: Unchecked, Err: err})
	}
}

// fill checks the files of a snapshot. Errors are those of [check.notChecked].
func (c *check) fill(ctx context.Context, j *job) error {
	if err := j.right.Lock(ctx, j.name); err != nil {
		return err
	}
	snap, err := store.ReadSnapshot(ctx, j.right, j.name)
	c.count.Manifests.Add(1)
	if err != nil {
		return j.wrong(name.Manifest, err)
	}
	c.paid(ctx, snap.ManifestSize())
	j.snap = snap
	for _, p := range snap.Manifest().Problems {
		j.damage = append(j.damage, Damage{Snapshot: j.name, File: name.Manifest, Problem: Damaged, Err: p})
	}
	skip := c.verified(snap)
	if skip {
		j.tell(Told{Snapshot: j.name, Note: Verified})
		if !c.opts.Unreferenced {
			return nil
		}
	}
	for _, f := range snap.Manifest().Files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := c.file(ctx, j, f, skip); err != nil {
			return err
		}
	}
	if skip {
		return nil
	}
	return c.besides(ctx, j)
}

// wrong adds damage of a file. It returns an error if that is not what it is.
func (j *job) wrong(f name.File, err error) error {
	if !errors.Is(err, store.ErrCorrupt) {
		var own *store.Error
		if !errors.As(err, &own) || store.Vanished(err) {
			return err
		}
		if !store.DiskFault(err) {
			j.tell(Told{Snapshot: j.name, Note: Unchecked, File: f.String(), Err: err})
			return nil
		}
		j.damage = append(j.damage, Damage{Snapshot: j.name, File: f, Problem: Unreadable, Err: err})
		return nil
	}
	p := Damaged
	switch {
	case errors.Is(err, store.ErrFileMissing):
		p = Missing
	case store.Unreadable(err):
		p = Unreadable
	}
	j.damage = append(j.damage, Damage{Snapshot: j.name, File: f, Problem: p, Err: err})
	return nil
}

// verified reports whether the server has found the snapshot to be good not long ago.
func (c *check) verified(s *store.Snapshot) bool {
	at, ok := s.Manifest().VerifiedAt()
	age := time.Since(at)
	return ok && c.opts.SkipVerified > 0 && age >= 0 && age < c.opts.SkipVerified
}

// file checks a file that the manifest lists.
func (c *check) file(ctx context.Context, j *job, f manifest.File, skip bool) error {
	if f.Name.Format() == name.Blob {
		if skip || f.Name == name.ClientLog { // which is not read as the manifest has it
			return nil
		}
		got, err := j.snap.CheckBlob(ctx, j.right, f)
		return c.blob(ctx, j, f.Name, got, err)
	}
	x, err := j.snap.ReadIndex(ctx, j.right, f)
	c.count.Indexes.Add(1)
	if err != nil {
		return j.wrong(f.Name, err)
	}
	c.paid(ctx, x.FileSize())
	c.handOut(ctx, j, f, x, skip)
	return nil
}

func (c *check) blob(ctx context.Context, j *job, f name.File, got store.CheckedBlob, err error) error {
	c.count.Blobs.Add(1)
	c.paid(ctx, got.Stored)
	if err != nil {
		return j.wrong(f, err)
	}
	if got.Sealed {
		c.count.SealedBlobs.Add(1)
	}
	return nil
}

// besides checks what the manifest does not list.
func (c *check) besides(ctx context.Context, j *job) error {
	if j.snap.HasLogEntry() {
		got, err := j.snap.CheckClientLog(ctx, j.right)
		if err := c.blob(ctx, j, name.ClientLog, got, err); err != nil {
			return err
		}
	}
	others, err := j.snap.Unlisted(ctx, j.right)
	for _, o := range others {
		j.tell(Told{Snapshot: j.name, Note: Unlisted, File: o})
	}
	return err
}
