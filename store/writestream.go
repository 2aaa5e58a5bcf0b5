package store

import (
	"bufio"
	"context"
	"errors"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/internal/cdc"
	"github.com/pbsfs/pbsfs/store/name"
)

// The average length of the chunks of streams, in bytes. Official clients cut them in
// the same way (reference "chunking").
const (
	streamChunk  = 4 << 20
	catalogChunk = 512 << 10
)

// streamBuffer is the size of the buffer for the small writes of encoders.
const streamBuffer = 1 << 20

// buffers are the memory for hashing, compressing and writing a chunk.
type buffers struct{ plain, encoded []byte }

// StreamWriter writes a stream of bytes as a dynamic index. The content decides where
// the stream is cut, and several goroutines store the chunks.
type StreamWriter struct {
	s       *SnapshotWriter
	file    name.File
	buf     *bufio.Writer
	pipe    *io.PipeWriter
	chunker *cdc.Chunker
	done    chan struct{} // closed when everything is stored, or err is set

	err  error // why not everything is stored; set before done is closed
	cuts []*cut
}

// cut is a chunk of a stream, in the stream's order.
type cut struct {
	end    int64
	digest name.Digest
}

// Stream begins a file with a dynamic index. The caller must Close it, which completes
// the file. Before that, or if it fails, the snapshot cannot be finished. When ctx
// ends, writing fails.
func (s *SnapshotWriter) Stream(ctx context.Context, f name.File) (*StreamWriter, error) {
	if f.Format() != name.Dynamic {
		return nil, s.at(f, errors.New("not the name of a dynamic index"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, ErrReleased
	}
	average := streamChunk
	if f == name.Catalog {
		average = catalogChunk
	}
	r, p := io.Pipe()
	w := &StreamWriter{
		s: s, file: f, pipe: p, buf: bufio.NewWriterSize(p, streamBuffer),
		chunker: cdc.New(r, average), done: make(chan struct{}),
	}
	s.streams[w] = true
	go func() {
		defer close(w.done)
		w.err = w.store(ctx)
		_ = r.CloseWithError(w.err) // later writes get the error
	}()
	return w, nil
}

// Write adds to the stream.
func (w *StreamWriter) Write(p []byte) (int, error) {
	n, err := w.buf.Write(p)
	return n, w.s.at(w.file, err)
}

// Suggest says that a cut before the byte at off is useful. That byte must not have
// been written yet. Offsets must ascend.
func (w *StreamWriter) Suggest(off int64) { w.chunker.Suggest(off) }

// Close completes the stream. An empty stream is an error, because an index must have
// chunks.
func (w *StreamWriter) Close() error {
	err := w.buf.Flush()
	_ = w.pipe.CloseWithError(err) // nil is the end of the stream
	<-w.done
	if w.err != nil {
		err = w.err
	}
	if err == nil {
		err = w.finish()
	}
	return w.s.at(w.file, err)
}

// abort ends the stream without a result.
func (w *StreamWriter) abort(err error) {
	_ = w.pipe.CloseWithError(err)
	<-w.done
}

// store cuts the stream. As many goroutines as the snapshot has slots store its chunks,
// which bounds the memory.
func (w *StreamWriter) store(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	end := int64(0)
	for running.Err() == nil {
		b := w.s.bufs.Get().(*buffers)
		if cap(b.plain) < w.chunker.Max() {
			b.plain = make([]byte, 0, w.chunker.Max())
		}
		data, err := w.chunker.Next(b.plain)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		end += int64(len(data))
		at := &cut{end: end}
		w.cuts = append(w.cuts, at)
		if err := w.s.slot(running); err != nil {
			break
		}
		group.Go(func() error {
			defer w.s.free(b)
			return w.s.put(b, data, &at.digest)
		})
	}
	err := group.Wait()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// slot waits until a chunk may be stored.
func (s *SnapshotWriter) slot(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// free frees a slot and the buffers that were used in it.
func (s *SnapshotWriter) free(b *buffers) {
	s.bufs.Put(b)
	<-s.slots
}

// put stores a chunk.
func (s *SnapshotWriter) put(b *buffers, data []byte, digest *name.Digest) (err error) {
	*digest, b.encoded, err = s.sink.Put(data, b.encoded)
	return err
}

// finish writes the index.
func (w *StreamWriter) finish() error {
	x := index.NewDynamicWriter(index.NewHeader(w.s.began))
	for _, c := range w.cuts {
		if err := x.Add(c.end, c.digest); err != nil {
			return err
		}
	}
	size := x.Size()
	text, csum, err := x.Finish()
	if err != nil {
		return err
	}
	if err := w.s.writeFile(w.s.file(w.file), text); err != nil {
		return err
	}
	w.s.add(w.file, size, csum)
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	delete(w.s.streams, w)
	return nil
}
