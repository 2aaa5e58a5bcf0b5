package chunk

import (
	"context"
	"runtime"
	"time"

	"github.com/pbsfs/pbsfs/store/name"
)

// Backend holds the chunks of a datastore, as they are stored: encoded. It may be slow,
// and it may fail.
type Backend interface {
	// ReadChunk returns the chunk called d, in buf if its capacity is large enough. The
	// error for a missing chunk matches [fs.ErrNotExist]; the error for a file that
	// cannot be a chunk matches [corrupt.Err]. ReadChunk returns soon after ctx has
	// ended.
	ReadChunk(ctx context.Context, d name.Digest, buf []byte) ([]byte, error)
}

// Copying is a Backend that may return a copy of a chunk, kept nearer than the chunk.
type Copying interface {
	// ReadAnew is ReadChunk after what that returned was found to be wrong.
	ReadAnew(ctx context.Context, d name.Digest, buf []byte) ([]byte, error)
}

// Hold is a right to read that was taken for one loader.
type Hold interface {
	// Chunks returns the chunks of the datastore, valid until Release.
	Chunks() (Backend, error)
	// Release releases the right.
	Release()
}

// Limits describe what a backend can do.
type Limits struct {
	// Parallel is how many chunks are loaded ahead at a time.
	Parallel int
	// Window is how many chunks are loaded ahead of one reader.
	Window int
	// Timeout bounds the time to read one chunk; 0 means no bound.
	Timeout time.Duration
	// Busy bounds the bytes that the loads under way take, for the chunks as read and as
	// decoded. A single load may take more.
	Busy int64
}

// Overhead bounds the bytes that loads under way and kept buffers take besides the cache.
func (l Limits) Overhead() int64 { return l.Busy + maxFree }

// LocalLimits returns the limits of a directory of this machine. There, most of the
// work is decoding, so all processors can be used. A read from a disk that hangs has no
// timeout, but a caller that waits for it can be interrupted.
func LocalLimits() Limits { return Limits{Parallel: runtime.GOMAXPROCS(0), Window: 16, Busy: 32 << 20} }
