package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/name"
)

// imageChunk is the length of the chunks of images, in bytes. Servers accept no other
// length.
const imageChunk = 4 << 20

// Image is the source of an image. NextData returns the first offset at or after off
// with data; everything before it is a hole. After the last data it returns the size.
type Image interface {
	io.ReaderAt
	NextData(off int64) (int64, error)
}

// Image adds a file with a fixed index for an image of size bytes; size must not be 0.
// Holes are not read. If done is not nil, it is called with the number of bytes that
// are finished, by one goroutine at a time. An image that turns out to be shorter than
// size is filled with zeros, and cut is its real end; otherwise cut is -1.
func (s *SnapshotWriter) Image(ctx context.Context, f name.File, src Image, size int64, done func(int64)) (cut int64, err error) {
	if f.Format() != name.Fixed {
		return -1, s.at(f, errors.New("not the name of a fixed index"))
	}
	if s.ended {
		return -1, ErrReleased
	}
	x, err := index.NewFixedWriter(index.NewHeader(s.began), size, imageChunk)
	if err != nil {
		return -1, s.at(f, err)
	}
	w := &imageWriter{s: s, src: src, size: size, digests: make([]name.Digest, x.Len()), done: done, cut: -1}
	if err := w.store(ctx); err != nil {
		return -1, s.at(f, err)
	}
	for i, d := range w.digests {
		if err := x.Set(i, d); err != nil {
			return -1, s.at(f, err)
		}
	}
	text, csum, err := x.Finish()
	if err == nil {
		err = s.writeFile(s.file(f), text)
	}
	if err != nil {
		return -1, s.at(f, err)
	}
	s.add(f, size, csum)
	return w.cut, nil
}

// imageWriter stores the chunks of one image.
type imageWriter struct {
	s       *SnapshotWriter
	src     Image
	size    int64
	digests []name.Digest
	done    func(int64)
	cut     int64 // guarded by s.mu
}

// store reads the image and stores its chunks. It stores as many at a time as the
// snapshot has slots.
func (w *imageWriter) store(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	data := int64(0) // where the next data begin
	for i := range w.digests {
		off := int64(i) * imageChunk
		n := min(imageChunk, w.size-off)
		if data <= off {
			var err error
			if data, err = w.src.NextData(off); err != nil {
				return errors.Join(err, group.Wait())
			}
		}
		if data >= off+n && n == imageChunk {
			if err := w.hole(i); err != nil {
				return errors.Join(err, group.Wait())
			}
			continue
		}
		if w.s.slot(running) != nil {
			break
		}
		group.Go(func() error { return w.chunk(i, off, int(n)) })
	}
	err := group.Wait()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// chunk reads and stores one chunk.
func (w *imageWriter) chunk(i int, off int64, n int) error {
	b := w.s.bufs.Get().(*buffers)
	defer w.s.free(b)
	if cap(b.plain) < n {
		b.plain = make([]byte, 0, imageChunk)
	}
	plain := b.plain[:n]
	got, err := w.src.ReadAt(plain, off)
	switch {
	case got < n && (err == nil || errors.Is(err, io.EOF)):
		w.short(off + int64(got))
		clear(plain[got:])
	case got < n:
		return fmt.Errorf("reading at %d: %w", off+int64(got), err)
	}
	if n == imageChunk && isZero(plain) {
		return w.hole(i)
	}
	if err := w.s.put(b, plain, &w.digests[i]); err != nil {
		return err
	}
	w.advance(int64(n))
	return nil
}

// short notes where the image really ends.
func (w *imageWriter) short(at int64) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.cut < 0 || at < w.cut {
		w.cut = at
	}
}

func (w *imageWriter) advance(n int64) {
	if w.done == nil {
		return
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.done(n)
}

// hole makes the i-th chunk a chunk of zeros, which is stored only once.
func (w *imageWriter) hole(i int) error {
	d, err := w.s.zeroDigest()
	if err != nil {
		return err
	}
	w.digests[i] = d
	w.advance(imageChunk)
	return nil
}

// zeroDigest stores the chunk of zeros, unless it was stored before, and returns its
// digest.
func (s *SnapshotWriter) zeroDigest() (name.Digest, error) {
	s.mu.Lock()
	known := s.zero
	s.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	d, _, err := s.sink.Put(make([]byte, imageChunk), nil)
	if err != nil {
		return d, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zero = &d
	return d, nil
}

// isZero reports whether all bytes of p, at least one, are zero.
func isZero(p []byte) bool { return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) }
