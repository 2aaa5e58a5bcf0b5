package space

import (
	"context"
	"errors"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/digests"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Size is an amount of data.
type Size struct {
	// Logical is the length of the data in bytes, with everything as often as it is
	// there: what a restore would write.
	Logical int64
	// Chunks and Data are the number of the distinct chunks and the length of their data.
	Chunks, Data int64
	// OnlyChunks and Only are those of the chunks that nothing else refers to.
	OnlyChunks, Only int64
	// OnlyStored is the length of the files of those, if it was asked for: what would be
	// freed on disk.
	OnlyStored int64
}

// Snapshot is the size of a snapshot.
type Snapshot struct {
	Name name.Snapshot
	Size
	// Err says why a part of the snapshot, or all of it, is not in the figures.
	Err error
}

// Group is the size of a backup group and of its snapshots.
type Group struct {
	Name name.Group
	Size
	Snapshots []Snapshot // oldest first
}

// Result is the size of a datastore and of its groups.
type Result struct {
	Groups []Group
	Total  Size // nothing else refers to what all refer to: Only is Data
	// Missing is how many of the distinct chunks have no file, if files were looked at.
	Missing int64
}

// Options say what is measured.
type Options struct {
	Stored bool // look at the files of chunks
	// Progress is called after each snapshot, unless it is nil.
	Progress func(snapshots, chunks int64)
}

// chunk is what is known of a distinct chunk.
type chunk struct {
	size        uint32
	first, last uint32 // the snapshots that refer to it, by number
}

// measure is one run.
type measure struct {
	right *store.Reader
	opts  Options
	res   *Result

	chunks digests.Map[chunk]
	all    []*Snapshot // by number
	group  []int       // of each snapshot
}

// Measure measures all snapshots below top, which is the top of the datastore. If some
// could not be read, their Err is set, and so is the error that matches
// [tree.ErrIncomplete] if some could not even be found.
func Measure(ctx context.Context, right *store.Reader, top *tree.Node, opts Options) (*Result, error) {
	m := &measure{right: right, opts: opts, res: &Result{}}
	incomplete := m.find(ctx, top)
	if incomplete != nil && !errors.Is(incomplete, tree.ErrIncomplete) {
		return nil, incomplete
	}
	for i, s := range m.all {
		if err := m.snapshot(ctx, uint32(i), s); err != nil {
			return nil, err
		}
		if opts.Progress != nil {
			opts.Progress(int64(i+1), int64(m.chunks.Len()))
		}
	}
	m.share()
	if opts.Stored {
		if err := m.stored(ctx); err != nil {
			return nil, err
		}
	}
	return m.res, incomplete
}

// find finds all groups and snapshots.
func (m *measure) find(ctx context.Context, top *tree.Node) error {
	err := tree.Snapshots(ctx, m.right, top, func(s name.Snapshot) error {
		g := len(m.res.Groups) - 1
		if g < 0 || m.res.Groups[g].Name != s.Group() {
			m.res.Groups = append(m.res.Groups, Group{Name: s.Group()})
			g++
		}
		m.res.Groups[g].Snapshots = append(m.res.Groups[g].Snapshots, Snapshot{Name: s})
		m.group = append(m.group, g)
		return nil
	})
	for i := range m.res.Groups {
		snapshots := m.res.Groups[i].Snapshots
		for k := range snapshots {
			m.all = append(m.all, &snapshots[k])
		}
	}
	return err
}

// snapshot reads the indexes of a snapshot.
func (m *measure) snapshot(ctx context.Context, number uint32, s *Snapshot) error {
	r, err := m.right.Share()
	if err != nil {
		return err
	}
	defer r.Release()
	err = r.Lock(ctx, s.Name)
	if err == nil {
		err = m.indexes(ctx, r, number, s)
	}
	if ctx.Err() != nil || errors.Is(err, store.ErrGone) {
		return err
	}
	s.Err = errors.Join(s.Err, err)
	return nil
}

func (m *measure) indexes(ctx context.Context, r *store.Reader, number uint32, s *Snapshot) error {
	snap, err := store.LoadSnapshot(ctx, r, s.Name)
	if err != nil {
		return err
	}
	var damage error
	for _, f := range snap.Manifest().Files {
		if f.Name.Format() == name.Blob {
			continue
		}
		x, err := snap.ReadIndex(ctx, r, f)
		switch {
		case errors.Is(err, store.ErrCorrupt):
			damage = errors.Join(damage, err)
		case err != nil:
			return err
		default:
			m.index(number, s, x)
		}
	}
	return damage
}

// index adds up an index of a snapshot.
func (m *measure) index(number uint32, s *Snapshot, x *index.Index) {
	group := &m.res.Groups[m.group[number]]
	for _, size := range []*Size{&s.Size, &group.Size, &m.res.Total} {
		size.Logical += x.Size()
	}
	for i := range x.Len() {
		span := x.Span(i)
		c := m.chunks.Get(span.Digest)
		if c == nil {
			m.chunks.Add(span.Digest, chunk{size: uint32(span.End - span.Off), first: number, last: number})
			size := span.End - span.Off
			s.refer(size)
			group.refer(size)
			m.res.Total.refer(size)
			continue
		}
		if c.last == number {
			continue
		}
		s.refer(int64(c.size))
		if m.group[c.last] != m.group[number] {
			group.refer(int64(c.size))
		}
		c.last = number
	}
}

// refer adds a chunk of that size.
func (s *Size) refer(size int64) {
	s.Chunks++
	s.Data += size
}

// share finds out what belongs to one snapshot, or one group, alone.
func (m *measure) share() {
	for _, c := range m.chunks.All() {
		for _, s := range m.owners(c) {
			s.OnlyChunks++
			s.Only += int64(c.size)
		}
	}
}

// owners returns whose alone the chunk is.
func (m *measure) owners(c *chunk) []*Size {
	out := append(make([]*Size, 0, 3), &m.res.Total)
	if g := m.group[c.first]; g == m.group[c.last] {
		out = append(out, &m.res.Groups[g].Size)
	}
	if c.first == c.last {
		out = append(out, &m.all[c.first].Size)
	}
	return out
}
