package chunk

import (
	"context"
	"runtime"
	"time"

	"github.com/pbsfs/pbsfs/store/name"
)

// Backend is where the chunks of a datastore lie, as they are stored: encoded.
// It may be slow, and it may fail.
type Backend interface {
	// ReadChunk returns the chunk called d, in buf where its capacity is enough.
	// The error of a chunk that is not there matches [fs.ErrNotExist]; that of
	// one that cannot be a chunk matches [corrupt.Err]. It returns soon after ctx
	// has ended.
	ReadChunk(ctx context.Context, d name.Digest, buf []byte) ([]byte, error)
}

// Hold is a right to read that was taken for one loader.
type Hold interface {
	// Chunks returns the chunks of the datastore, valid until Release.
	Chunks() (Backend, error)
	// Release gives the right back.
	Release()
}

// Limits say what a backend is good for.
type Limits struct {
	// Parallel is how many chunks are loaded ahead at a time.
	Parallel int
	// Window is how many chunks are loaded ahead of one reader.
	Window int
	// Timeout is how long reading one chunk may take; 0 is as long as it takes.
	Timeout time.Duration
}

// LocalLimits are the limits of a directory of this machine: reading is decoding
// there, so that there is work for each processor. A disk that hangs is not given
// up: whoever waits can be interrupted.
func LocalLimits() Limits { return Limits{Parallel: runtime.GOMAXPROCS(0), Window: 16} }
