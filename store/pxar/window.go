package pxar

import (
	"fmt"
	"io"
	"sync"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Sizes of reads. An entry without large attributes fits into entryAhead; a
// name together with the header and stat that follow it fits into childAhead.
const (
	nameAhead   = headerSize + maxName + 1
	childAhead  = nameAhead + headerSize + statSize
	entryAhead  = 512
	scanAhead   = 64 << 10
	maxWindow   = 128 << 10 // kept for the next user; above the largest item
	startWindow = 4 << 10
)

// window reads a stream up to limit through a small buffer.
type window struct {
	r     io.ReaderAt
	limit int64 // nothing at or behind it is looked at
	ahead int   // bytes to read at least, as long as they can be had
	off   int64 // position of buf[0]
	buf   []byte
}

var windows = sync.Pool{New: func() any { return &window{buf: make([]byte, 0, startWindow)} }}

// newWindow returns a window that ends at limit. The caller releases it.
func newWindow(r io.ReaderAt, limit int64, ahead int) *window {
	w := windows.Get().(*window)
	w.r, w.limit, w.ahead = r, limit, ahead
	return w
}

// release gives the buffer to the next user: nothing may point into it.
func (w *window) release() {
	w.r, w.buf = nil, w.buf[:0]
	if cap(w.buf) <= maxWindow {
		windows.Put(w)
	}
}

// bytes returns n bytes at pos, valid until w is used again.
func (w *window) bytes(pos int64, n int) ([]byte, error) {
	if pos < 0 || pos > w.limit || int64(n) > w.limit-pos {
		return nil, corrupt.At(pos, "item is cut off: %d bytes wanted before %d", n, w.limit)
	}
	if pos < w.off || pos-w.off > int64(len(w.buf)-n) {
		if err := w.fill(pos, n); err != nil {
			return nil, err
		}
	}
	i := int(pos - w.off)
	return w.buf[i : i+n : i+n], nil
}

// fill makes the window hold at least n bytes at pos, which lie before the
// limit. What it reads beyond n it does without when the source has trouble
// there: a damaged chunk is nobody's problem but its own content's.
func (w *window) fill(pos int64, n int) error {
	want := int(min(int64(max(n, w.ahead)), w.limit-pos))
	if cap(w.buf) < want {
		w.buf = make([]byte, 0, max(want, 2*cap(w.buf)))
	}
	w.off, w.buf = pos, w.buf[:0]
	got, err := w.read(w.buf[:want], n, pos)
	if got < n && want > n && err != io.EOF { //nolint:errorlint // io.ReaderAt promises io.EOF itself
		got, err = w.r.ReadAt(w.buf[:n], pos)
	}
	if got < n {
		return readError(pos, got, n, err)
	}
	w.buf = w.buf[:got]
	w.ahead = min(2*w.ahead, scanAhead)
	return nil
}

// read reads n bytes at pos, and as many more as are easily had.
func (w *window) read(p []byte, n int, pos int64) (int, error) {
	if s, ok := w.r.(Sparse); ok {
		return s.ReadSome(p, n, pos)
	}
	return w.r.ReadAt(p, pos)
}

// readError explains a read of got instead of n bytes that the stream should
// have.
func readError(pos int64, got, n int, err error) error {
	switch err {
	case io.EOF: //nolint:errorlint // only the source's own end is one
		return corrupt.At(pos+int64(got), "archive is shorter than declared")
	case nil:
		err = io.ErrNoProgress
	}
	return fmt.Errorf("read %d bytes at offset %d: %w", n, pos, err)
}
