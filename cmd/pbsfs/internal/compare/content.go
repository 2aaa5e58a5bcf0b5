package compare

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Side is one of two things that are compared, and the right to read it.
type Side struct {
	Right store.CanRead
	Node  *tree.Node
}

// Range is a part of a content, in bytes.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

const (
	// readBlock is how much of each side is read at once.
	readBlock = 1 << 20
	// Block is how exact ranges are, in bytes.
	Block = 4 << 10
)

// run is a part of both contents about which the pieces say one thing.
type run struct {
	off, end int64
	what     known
}

type known uint8

const (
	unknown known = iota
	same
	different
)

// runs calls fn for each part of the contents of a and b, up to the end of the shorter
// one. An error of fn is returned as it is.
func runs(ctx context.Context, a, b Side, fn func(run) error) error {
	end := min(a.Node.Attr().Size, b.Node.Attr().Size)
	p, err := a.Node.Pieces()
	if err != nil {
		return err
	}
	q, err := b.Node.Pieces()
	if err != nil {
		return err
	}
	if p == nil || q == nil {
		if end == 0 {
			return nil
		}
		return fn(run{0, end, unknown})
	}
	for off := int64(0); off < end; {
		x, err := p.Piece(ctx, a.Right, off)
		if err != nil {
			return err
		}
		y, err := q.Piece(ctx, b.Right, off)
		if err != nil {
			return err
		}
		r := run{off, min(x.End, y.End), unknown}
		switch {
		case x.Same(y):
			r.what = same
		case x.Differs(y):
			r.what = different
		}
		if err := fn(r); err != nil {
			return err
		}
		off = r.end
	}
	return nil
}

// errDiffers ends a comparison that has found a difference.
var errDiffers = errors.New("differs")

// SameContent reports whether two files have the same content. It reads only what the
// digests of chunks do not tell.
func SameContent(ctx context.Context, a, b Side) (bool, error) {
	if a.Node.Attr().Size != b.Node.Attr().Size {
		return false, nil
	}
	var unclear []run
	err := runs(ctx, a, b, func(r run) error {
		switch n := len(unclear); {
		case r.what == different:
			return errDiffers
		case r.what == same:
		case n > 0 && unclear[n-1].end == r.off:
			unclear[n-1].end = r.end
		default:
			unclear = append(unclear, r)
		}
		return nil
	})
	if err == nil && len(unclear) > 0 {
		err = readRuns(ctx, a, b, unclear)
	}
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil, err
}

func readRuns(ctx context.Context, a, b Side, all []run) error {
	r, err := openBoth(ctx, a, b)
	if err != nil {
		return err
	}
	for _, part := range all {
		for off := part.off; off < part.end; off += readBlock {
			p, q, err := r.read(ctx, off, min(part.end, off+readBlock))
			if err != nil {
				return err
			}
			if !bytes.Equal(p, q) {
				return errDiffers
			}
		}
	}
	return nil
}

// both is two open files that are read side by side.
type both struct {
	a, b       Side
	f, g       tree.File
	bufA, bufB []byte
}

func openBoth(ctx context.Context, a, b Side) (*both, error) {
	f, err := a.Node.Open(ctx, a.Right)
	if err != nil {
		return nil, err
	}
	g, err := b.Node.Open(ctx, b.Right)
	if err != nil {
		return nil, err
	}
	return &both{a: a, b: b, f: f, g: g}, nil
}

// read reads the range from off to end of both files, at most readBlock bytes. The slices
// are valid until the next call.
func (r *both) read(ctx context.Context, off, end int64) (p, q []byte, err error) {
	if n := int(end - off); cap(r.bufA) < n {
		r.bufA, r.bufB = make([]byte, n), make([]byte, n)
	}
	r.bufA, r.bufB = r.bufA[:end-off], r.bufB[:end-off]
	var all sync.WaitGroup
	var errA, errB error
	all.Go(func() { errA = readFull(ctx, r.a.Right, r.f, r.bufA, off) })
	errB = readFull(ctx, r.b.Right, r.g, r.bufB, off)
	all.Wait()
	if errA == nil {
		errA = errB
	}
	return r.bufA, r.bufB, errA
}

func readFull(ctx context.Context, right store.CanRead, f tree.File, p []byte, off int64) error {
	n, err := f.ReadAt(ctx, right, p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// Ranges says where two contents differ, exact to blocks of [Block] bytes. What one of
// them has beyond the end of the other differs as well.
type Ranges struct {
	Differ []Range
	// Unread are the ranges in which one of them could not be read, Err why.
	Unread []Range
	Err    error
}

// Total returns how many bytes lie in ranges that differ.
func (r Ranges) Total() (n int64) {
	for _, d := range r.Differ {
		n += d.Length
	}
	return n
}

// RangesOf finds where two contents differ.
func RangesOf(ctx context.Context, a, b Side) (Ranges, error) {
	var out Ranges
	r, err := openBoth(ctx, a, b)
	if err != nil {
		return out, err
	}
	if err := runs(ctx, a, b, func(part run) error {
		if part.what == same {
			return nil
		}
		return out.look(ctx, r, part)
	}); err != nil {
		return out, err
	}
	m, n := a.Node.Attr().Size, b.Node.Attr().Size
	out.Differ = add(out.Differ, min(m, n), max(m, n))
	return out, nil
}

// look reads a part of both contents. Damage ends it, and is kept.
func (r *Ranges) look(ctx context.Context, files *both, part run) error {
	for off := part.off; off < part.end; off += readBlock {
		end := min(part.end, off+readBlock)
		p, q, err := files.read(ctx, off, end)
		if errors.Is(err, store.ErrCorrupt) {
			r.Unread = add(r.Unread, off, part.end)
			if r.Err == nil {
				r.Err = err
			}
			return nil
		}
		if err != nil {
			return err
		}
		r.blocks(p, q, off)
	}
	return nil
}

// blocks adds the blocks in which p and q, which lie at off, differ.
func (r *Ranges) blocks(p, q []byte, off int64) {
	for i := 0; i < len(p); {
		// Blocks are counted from the beginning of the content.
		n := min(len(p)-i, Block-int((off+int64(i))%Block))
		if !bytes.Equal(p[i:i+n], q[i:i+n]) {
			r.Differ = add(r.Differ, off+int64(i), off+int64(i+n))
		}
		i += n
	}
}

// add adds a range that lies behind the others.
func add(all []Range, off, end int64) []Range {
	n := len(all)
	switch {
	case off >= end:
		return all
	case n > 0 && all[n-1].Offset+all[n-1].Length == off:
		all[n-1].Length += end - off
		return all
	}
	return append(all, Range{off, end - off})
}
