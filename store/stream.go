package store

import (
	"context"
	"errors"
	"io"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// maxIndex bounds the size of an index file: 32 million chunks, 128 TiB of image.
const maxIndex = 1 << 30

// Stream is the content behind an index. It is a value in memory and holds nothing
// open: every method that reads takes a right.
type Stream struct {
	snap *Snapshot
	file manifest.File
	mode blob.Mode
	key  *keys.Key

	readers readers
}

// Stream returns the content of an index that the manifest lists. It fails, with an
// error that matches ErrKeyNeeded, if the key for it is missing.
func (s *Snapshot) Stream(f manifest.File) (*Stream, error) {
	key, err := s.keyFor(f)
	if err != nil {
		return nil, s.ds.at(s.name, f.Name, -1, err)
	}
	if f.Name.Format() == name.Blob {
		return nil, s.ds.at(s.name, f.Name, -1, errors.New("a blob, not an index"))
	}
	return &Stream{snap: s, file: f, mode: f.BlobMode(), key: key}, nil
}

// Size returns the length of the content in bytes, as the manifest has it.
func (s *Stream) Size() int64 { return s.file.Size }

// Snapshot returns the snapshot the stream belongs to.
func (s *Stream) Snapshot() *Snapshot { return s.snap }

// Check loads the index, so that errors in it are found.
func (s *Stream) Check(ctx context.Context, right CanRead) error {
	_, err := s.index(ctx, right)
	return err
}

// indexKey is by what the index of the stream is remembered.
func (s *Stream) indexKey() indexKey {
	return indexKey{csum: s.file.Csum, format: s.file.Name.Format(), size: s.file.Size}
}

// index returns the checked index, from memory if it is there. The key of the cache is
// the checksum, so its entries stay right whatever happens to the file.
func (s *Stream) index(ctx context.Context, right CanRead) (*index.Index, error) {
	if _, err := held(right); err != nil {
		return nil, err
	}
	d := s.snap.ds
	key := s.indexKey()
	if x, ok := d.memory.indexes.Get(key); ok {
		return x, nil
	}
	// Only one is read at a time, because a large one takes long and needs memory.
	select {
	case d.memory.indexing <- struct{}{}:
		defer func() { <-d.memory.indexing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if x, ok := d.memory.indexes.Get(key); ok {
		return x, nil
	}
	x, err := s.readIndex(ctx, right)
	if err != nil {
		return nil, err
	}
	d.memory.indexes.Put(key, x, x.MemSize())
	return x, nil
}

// readIndex reads and checks the index.
func (s *Stream) readIndex(ctx context.Context, right CanRead) (*index.Index, error) {
	_, root, err := begin(ctx, right)
	if err != nil {
		return nil, err
	}
	var x *index.Index
	_, err = root.Through(ctx, s.snap.name.Dir()+"/"+s.file.Name.String(), maxIndex, func(r io.Reader, size int64) (err error) {
		x, err = index.Read(s.file.Name.Format(), r, size)
		return err
	})
	if err != nil {
		return nil, s.snap.lost(ctx, root, s.file.Name, -1, err)
	}
	if err := checkIndex(x, s.file); err != nil {
		return nil, s.snap.lost(ctx, root, s.file.Name, -1, err)
	}
	return x, nil
}

// ReadAt reads len(p) bytes from offset off. It reads less only at the end, where it
// returns [io.EOF]. Every byte comes from a verified chunk.
func (s *Stream) ReadAt(ctx context.Context, right CanRead, p []byte, off int64) (int, error) {
	return s.readAt(ctx, right, p, off, content{begin: 0, end: s.Size()})
}

// readAt is ReadAt for a reader at the content c.
func (s *Stream) readAt(ctx context.Context, right CanRead, p []byte, off int64, c content) (int, error) {
	if off < 0 {
		return 0, corrupt.New("negative offset %d", off)
	}
	x, err := s.index(ctx, right)
	if err != nil {
		return 0, err
	}
	n := 0
	for n < len(p) {
		i, ok := x.Find(off + int64(n))
		if !ok {
			return n, io.EOF
		}
		sameUse := true
		if !c.alone {
			sameUse = s.readAhead(right, x, i, c)
		}
		m, err := s.readPast(ctx, right, x, x.Span(i), sameUse, p[n:], off+int64(n), c.past)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readPast is readSpan for a reader that may want zeros instead of an error.
func (s *Stream) readPast(ctx context.Context, right CanRead, x *index.Index, span index.Span, sameUse bool, p []byte, off int64, past past) (int, error) {
	if past == nil {
		return s.readSpan(ctx, right, x, span, sameUse, p, off)
	}
	lost, wanted := &s.snap.ds.lost, WantedChunk{s.want(span)}
	err := lost.failing(wanted)
	asked := err == nil
	if asked {
		var n int
		if n, err = s.readSpan(ctx, right, x, span, sameUse, p, off); err == nil {
			lost.forget(wanted)
			return n, nil
		}
	}
	if !past(span, err) {
		return 0, err
	}
	if asked {
		lost.note(wanted, err)
	}
	n := int(min(int64(len(p)), span.End-off))
	clear(p[:n])
	return n, nil
}

// want describes what the chunk of a span must be.
func (s *Stream) want(span index.Span) chunk.Want {
	return chunk.Want{Digest: span.Digest, Size: int(span.End - span.Off), Mode: s.mode, Key: s.key}
}

// readSpan copies the data of one span from offset off on.
func (s *Stream) readSpan(ctx context.Context, right CanRead, x *index.Index, span index.Span, sameUse bool, p []byte, off int64) (int, error) {
	if zero, ok := s.hole(x); ok && isHole(span, zero, x.ChunkSize()) {
		n := int(min(int64(len(p)), span.End-off))
		clear(p[:n])
		return n, nil
	}
	b, err := s.block(ctx, right, s.want(span), sameUse)
	if err != nil {
		return 0, s.explain(ctx, right, span, err)
	}
	defer b.Release()
	return copy(p, b.Bytes()[off-span.Off:]), nil
}

// block gets a chunk. If a loader is needed, it shares the operation of the caller, so
// it may end later than the caller.
func (s *Stream) block(ctx context.Context, right CanRead, want chunk.Want, sameUse bool) (*chunk.Block, error) {
	r, err := held(right)
	if err != nil {
		return nil, err
	}
	return s.snap.ds.chunks.Get(ctx, want, sameUse, func() (chunk.Hold, error) { return r.share() })
}

// explain adds the place to an error of a chunk. If the snapshot was removed or
// replaced, its chunks may be gone too, and that is the error.
func (s *Stream) explain(ctx context.Context, right CanRead, span index.Span, err error) error {
	var bad *chunk.Error
	if !errors.As(err, &bad) {
		return err
	}
	if r, rerr := held(right); rerr == nil {
		if root, oerr := r.Root(); oerr == nil {
			if gone := s.snap.ds.blame(ctx, root, bad.Err); errors.Is(gone, ErrGone) {
				return gone
			}
			return s.snap.lost(ctx, root, s.file.Name, span.Off, err)
		}
	}
	return s.snap.ds.at(s.snap.name, s.file.Name, span.Off, err)
}

// wrap adds the stream to an error about its bytes, and leaves others alone.
func (s *Stream) wrap(err error) error {
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	return s.snap.ds.at(s.snap.name, s.file.Name, -1, err)
}

// At returns the stream as an [io.ReaderAt] for one call of a decoder.
func (s *Stream) At(ctx context.Context, right CanRead) io.ReaderAt {
	return bound{ctx: ctx, right: right, s: s}
}

// bound is a stream with the right and context of one call.
type bound struct {
	ctx   context.Context
	right CanRead
	s     *Stream
}

func (b bound) ReadAt(p []byte, off int64) (int, error) { return b.s.ReadAt(b.ctx, b.right, p, off) }

// pick returns the stream as an [io.ReaderAt] for who looks at some parts of it, here and
// there: no chunk is loaded ahead.
func (s *Stream) pick(ctx context.Context, right CanRead) io.ReaderAt {
	return picked{bound{ctx: ctx, right: right, s: s}}
}

type picked struct{ bound }

func (r picked) ReadAt(p []byte, off int64) (int, error) {
	return r.s.readAt(r.ctx, r.right, p, off, content{end: r.s.Size(), alone: true})
}

var _ chunk.Hold = (*right)(nil)
