package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/tree"
)

const (
	// blockSize is the length of a block of zeros that becomes a hole.
	blockSize = 4096
	// manyBytes is from where on several goroutines copy one file.
	manyBytes = 16 << 20
	// segment is what one of them copies at a time: the length of an image's chunk, so
	// that each chunk is decoded by the goroutine that needs it.
	segment = 4 << 20
)

// sink takes content.
type sink interface {
	// write writes p, which others may write beside, at off.
	write(p []byte, off int64) error
	// zero makes n bytes at off zero.
	zero(off, n int64) error
	// flush lets the disk begin with what was written there.
	flush(off, n int64)
}

// copier copies the content of one file to a sink.
type copier struct {
	*run
	f   tree.File
	out sink

	// writing has capacity 1 if there are several goroutines: the kernel writes to a file
	// one by one, and who waits in the kernel keeps a processor busy.
	writing chan struct{}
	// turn has capacity 1: who asks where the next data is holds it, and at and data.
	turn chan struct{}
	at   int64 // what comes next
	data int64 // the end of the data in which that lies
}

func newCopier(r *run, f tree.File, out sink) *copier {
	return &copier{run: r, f: f, out: out, turn: make(chan struct{}, 1)}
}

// all copies everything. buf is a buffer that is kept between calls.
func (c *copier) all(buf *[]byte) error {
	if c.f.Size() <= manyBytes {
		return c.pieces(c.ctx, buf)
	}
	c.writing = make(chan struct{}, 1)
	ctx, stop := context.WithCancelCause(c.ctx)
	defer stop(nil)
	var helpers sync.WaitGroup
	for range writerCount() - 1 {
		helpers.Go(func() {
			var own []byte
			if err := c.pieces(ctx, &own); err != nil {
				stop(err)
			}
		})
	}
	if err := c.pieces(ctx, buf); err != nil {
		stop(err)
	}
	helpers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// piece is data, and the hole before it.
type piece struct{ hole, off, end int64 }

// pieces copies one piece after the other, until there are none.
func (c *copier) pieces(ctx context.Context, buf *[]byte) error {
	for {
		p, err := c.next(ctx)
		if err != nil {
			return err
		}
		if p.off > p.hole {
			if err := c.out.zero(p.hole, p.off-p.hole); err != nil {
				return err
			}
			c.tally.doneBytes.Add(p.off - p.hole)
		}
		if p.off == p.end {
			return nil
		}
		if err := c.copy(ctx, buf, p.off, p.end); err != nil {
			return err
		}
		if c.writing != nil {
			c.out.flush(p.off, p.end-p.off)
		}
	}
}

// copy copies data.
func (c *copier) copy(ctx context.Context, buf *[]byte, off, end int64) error {
	if need := int(min(bufferSize, end-off)); len(*buf) < need {
		*buf = make([]byte, need)
	}
	for off < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p := (*buf)[:min(int64(len(*buf)), end-off)]
		if err := readFull(ctx, c.run, c.f, p, off); err != nil {
			return err
		}
		if err := c.write(p, off); err != nil {
			return err
		}
		c.tally.doneBytes.Add(int64(len(p)))
		off += int64(len(p))
	}
	return nil
}

func (c *copier) write(p []byte, off int64) error {
	if c.writing != nil {
		c.writing <- struct{}{}
		defer func() { <-c.writing }()
	}
	return c.out.write(p, off)
}

// next returns the next piece. One without data is the last one.
func (c *copier) next(ctx context.Context) (piece, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return piece{}, context.Cause(ctx)
	}
	size, hole := c.f.Size(), c.at
	sparse, ok := c.f.(tree.Sparse)
	switch {
	case !ok:
		c.data = size
	case c.at >= c.data && c.at < size:
		var err error
		if c.at, err = sparse.NextData(ctx, c.right, hole); err != nil {
			return piece{}, err
		}
		if c.data = c.at; c.at < size {
			if c.data, err = sparse.NextHole(ctx, c.right, c.at); err != nil {
				return piece{}, err
			}
		}
	}
	off := c.at
	if c.at = min(c.data, size, off/segment*segment+segment); c.at <= off && off < size {
		return piece{}, refuse("no data where there should be some, at offset %d", off)
	}
	return piece{hole, off, c.at}, nil
}

// readFull fills p. A file that is shorter than its size is an error.
func readFull(ctx context.Context, r *run, f tree.File, p []byte, off int64) error {
	n, err := f.ReadAt(ctx, r.right, p, off)
	switch {
	case n == len(p) && (err == nil || errors.Is(err, io.EOF)):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return refuse("%d bytes at offset %d instead of %d", n, off, len(p))
	}
	return err
}

// fileSink is a new file, in which what is not written is a hole.
type fileSink struct {
	fd  int
	end atomic.Int64 // of what was written
}

func (s *fileSink) zero(int64, int64) error { return nil }

func (s *fileSink) flush(off, n int64) { flush(s.fd, off, n) }

// flush lets the disk write while the next chunks are decoded, and does not wait for it.
// An error comes again when the disk is waited for.
func flush(fd int, off, n int64) {
	_ = unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
}

func (s *fileSink) write(p []byte, off int64) error {
	return withoutZeros(p, off, func(p []byte, off int64) error {
		if err := writeFull(s.fd, p, off); err != nil {
			return err
		}
		for end := off + int64(len(p)); ; {
			now := s.end.Load()
			if now >= end || s.end.CompareAndSwap(now, end) {
				return nil
			}
		}
	})
}

var zeros [blockSize]byte

// withoutZeros calls write for what is left of p without its blocks of zeros. off is a
// multiple of the block size, or p is short.
func withoutZeros(p []byte, off int64, write func(p []byte, off int64) error) error {
	begin := 0
	for at := 0; at < len(p); {
		n := min(blockSize-int((off+int64(at))%blockSize), len(p)-at)
		if p[at] != 0 || !bytes.Equal(p[at:at+n], zeros[:n]) {
			at += n
			continue
		}
		if at > begin {
			if err := write(p[begin:at], off+int64(begin)); err != nil {
				return err
			}
		}
		at += n
		begin = at
	}
	if begin == len(p) {
		return nil
	}
	return write(p[begin:], off+int64(begin))
}

// writeFull writes all of p.
func writeFull(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return target("writing", err)
		case n == 0:
			return target("writing", fmt.Errorf("nothing was written at offset %d", off))
		default:
			p, off = p[n:], off+int64(n)
		}
	}
	return nil
}
