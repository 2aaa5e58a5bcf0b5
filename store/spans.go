package store

import (
	"context"

	"github.com/pbsfs/pbsfs/store/pxar"
)

// Part is the part of a content that lies in one chunk.
type Part struct {
	// Chunk is the chunk, and what it must be.
	Chunk WantedChunk
	// Off and End are where the part lies in the content.
	Off, End int64
}

// Parts calls fn for each part of the stream whose chunk is needed to read it, in order.
// The holes of an image need none. An error of fn ends that and is returned as it is.
func (s *Stream) Parts(ctx context.Context, right CanRead, fn func(Part) error) error {
	return s.parts(ctx, right, 0, s.Size(), fn)
}

// Parts is [Stream.Parts] for the content of a file; offsets are those in the file.
func (x Extent) Parts(ctx context.Context, right CanRead, fn func(Part) error) error {
	if x.stream == nil || x.size == 0 {
		return nil
	}
	return x.stream.parts(ctx, right, x.off, x.off+x.size, func(p Part) error {
		p.Off -= x.off
		p.End -= x.off
		return fn(p)
	})
}

// ChildParts calls fn for each part of the archive's own stream that the i-th child of a
// directory lies in, with everything below it, but not the contents of the files of a split
// archive.
func (a *Archive) ChildParts(ctx context.Context, right CanRead, t *pxar.Table, i int, fn func(Part) error) error {
	off, end := t.Range(i)
	return a.meta.parts(ctx, right, off, end, fn)
}

// Split reports whether the contents of files are in another stream than the rest.
func (a *Archive) Split() bool { return a.format.Split() }

// ContentParts calls fn for each part of a stream that is needed to find and to read the
// content of a file. It reads no chunk.
func (a *Archive) ContentParts(ctx context.Context, right CanRead, p pxar.Payload, fn func(Part) error) error {
	if !p.Ref {
		return a.meta.parts(ctx, right, p.Off, p.Off+p.Size, fn)
	}
	if a.payloadErr != nil || a.payload == nil {
		return a.payloadErr // whoever opens the file finds that out, too
	}
	// The marker at the beginning of the stream is looked at once.
	if err := a.payload.parts(ctx, right, 0, 1, fn); err != nil {
		return err
	}
	return a.payload.parts(ctx, right, p.Off, p.Off+pxar.PayloadHeader+p.Size, fn)
}

// parts is Parts for the bytes [off, end) of the stream.
func (s *Stream) parts(ctx context.Context, right CanRead, off, end int64, fn func(Part) error) error {
	x, err := s.index(ctx, right)
	if err != nil {
		return err
	}
	zero, holes := s.hole(x)
	first, ok := x.Find(off)
	if !ok {
		return nil
	}
	for i := first; i < x.Len(); i++ {
		span := x.Span(i)
		if span.Off >= end {
			return nil
		}
		if holes && isHole(span, zero, x.ChunkSize()) {
			continue
		}
		if err := fn(Part{WantedChunk{s.want(span)}, max(span.Off, off), min(span.End, end)}); err != nil {
			return err
		}
	}
	return nil
}
