package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// bufferSize is how much is read at once.
const bufferSize = 1 << 20

// Copy writes the content of a file. It returns nil only if that was all of it.
func Copy(ctx context.Context, right store.CanRead, f tree.File, w io.Writer) error {
	return copyThrough(ctx, right, f, w, make([]byte, min(bufferSize, f.Size())))
}

// copyThrough is Copy with a buffer of the caller's, which may be empty for an empty
// file only.
func copyThrough(ctx context.Context, right store.CanRead, f tree.File, w io.Writer, buf []byte) error {
	size := f.Size()
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p := buf[:min(int64(len(buf)), size-off)]
		if err := readFull(ctx, right, f, p, off); err != nil {
			return err
		}
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		off += int64(len(p))
	}
	return nil
}

// readFull fills p. A file that is shorter than its size is an error, never its end.
func readFull(ctx context.Context, right store.CanRead, f tree.File, p []byte, off int64) error {
	n, err := f.ReadAt(ctx, right, p, off)
	switch {
	case n == len(p) && (err == nil || errors.Is(err, io.EOF)):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%d bytes at offset %d instead of %d: %w", n, off, len(p), io.ErrUnexpectedEOF)
	}
	return err
}

// Seeker reads a file from any offset, for [net/http.ServeContent], which cannot tell a
// read error from the end: [Seeker.Err] does. It is not safe for concurrent use.
type Seeker struct {
	ctx   context.Context // of the request: an io.Reader is given none
	right store.CanRead
	f     tree.File
	off   int64
	err   error
}

var _ io.ReadSeeker = (*Seeker)(nil)

// NewSeeker returns a Seeker at the beginning of a file. It may be used as long as ctx
// and the right last.
func NewSeeker(ctx context.Context, right store.CanRead, f tree.File) *Seeker {
	return &Seeker{ctx: ctx, right: right, f: f}
}

// Read reads from the present offset. After an error each Read returns that error.
func (s *Seeker) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	left := s.f.Size() - s.off
	if left <= 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), left)]
	if s.ctx.Err() != nil {
		s.err = context.Cause(s.ctx)
	} else {
		s.err = readFull(s.ctx, s.right, s.f, p, s.off)
	}
	if s.err != nil {
		return 0, s.err
	}
	s.off += int64(len(p))
	return len(p), nil
}

// Seek sets the offset. It may be beyond the end, where Read returns [io.EOF].
func (s *Seeker) Seek(offset int64, whence int) (int64, error) {
	base := int64(0)
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		base = s.off
	case io.SeekEnd:
		base = s.f.Size()
	default:
		return 0, fmt.Errorf("seek: whence %d: %w", whence, fs.ErrInvalid)
	}
	to := base + offset
	if to < 0 { // an overflow, too
		return 0, fmt.Errorf("seek: offset %d: %w", to, fs.ErrInvalid)
	}
	s.off = to
	return to, nil
}

// Err returns the first error of Read, nil if there was none. The end of the file is
// none.
func (s *Seeker) Err() error { return s.err }
