package store

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// ErrNotInMemory is the answer of [Archive.ChildInMemory] and [Archive.Remembered] if a
// chunk would have to be read.
var ErrNotInMemory = errors.New("not in memory")

// ChildInMemory is [Archive.Child] if nothing has to be read for it. Otherwise its
// error matches [ErrNotInMemory].
func (a *Archive) ChildInMemory(ctx context.Context, right CanRead, t *pxar.Table, i int) (string, *pxar.Entry, error) {
	x, err := a.meta.index(ctx, right)
	if err != nil {
		return "", nil, err
	}
	r := resident{s: a.meta, x: x}
	c, err := t.Child(r, i)
	if err != nil {
		return "", nil, a.Wrap(err)
	}
	e, err := a.format.ReadEntry(r, c)
	if err == nil {
		a.skim(ctx, right, c.NamePos)
	}
	return c.Name, e, a.Wrap(err)
}

// Remembered is [Archive.Lookup] from what is remembered: nothing of the datastore is
// read, so no right is needed. If not all of the answer is in memory, the error matches [ErrNotInMemory].
func (a *Archive) Remembered(dir pxar.Dir, name string) (*pxar.Entry, error) {
	m := a.meta.snap.ds.memory
	t, known := m.tables.Get(tableKey{archive: a.meta.file.Csum, dir: dir})
	if !known {
		return nil, ErrNotInMemory
	}
	x, known := m.indexes.Get(a.meta.indexKey())
	if !known {
		return nil, ErrNotInMemory
	}
	r := resident{s: a.meta, x: x}
	c, err := t.Lookup(r, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		var e *pxar.Entry
		if e, err = a.format.ReadEntry(r, c); err == nil {
			return e, nil
		}
	}
	return nil, ErrNotInMemory
}

// resident is the part of a stream that is in memory.
type resident struct {
	s *Stream
	x *index.Index
}

// ReadAt reads len(p) bytes or fails with ErrNotInMemory.
func (r resident) ReadAt(p []byte, off int64) (int, error) { return r.ReadSome(p, len(p), off) }

// ReadSome reads at least n bytes, and up to len(p) if they are in memory.
func (r resident) ReadSome(p []byte, n int, off int64) (int, error) {
	got := r.s.remembered(r.x, p, off)
	for got < n {
		i, ok := r.x.Find(off + int64(got))
		if !ok {
			return got, io.EOF
		}
		span := r.x.Span(i)
		b := r.s.snap.ds.chunks.Peek(r.s.want(span))
		if b == nil {
			return 0, ErrNotInMemory
		}
		got += copy(p[got:], b.Bytes()[off+int64(got)-span.Off:])
		b.Release()
	}
	return got, nil
}
