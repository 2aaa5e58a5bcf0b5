package tree

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store"
)

// File is the content of an open file. It only holds memory: each read takes a right.
type File interface {
	// Size returns the length of the content in bytes.
	Size() int64
	// ReadAt reads len(p) bytes from offset off. It reads less only at the end, where
	// it returns [io.EOF].
	ReadAt(ctx context.Context, right store.CanRead, p []byte, off int64) (int, error)
}

// Sparse is a File that knows its holes.
type Sparse interface {
	File
	// NextData and NextHole return the first offset at or after off that lies in data,
	// or in a hole. The end of the file counts as a hole. If no data follows, NextData
	// returns the size.
	NextData(ctx context.Context, right store.CanRead, off int64) (int64, error)
	NextHole(ctx context.Context, right store.CanRead, off int64) (int64, error)
}

var (
	_ File   = Bytes(nil)
	_ File   = store.Extent{}
	_ Sparse = (*store.Stream)(nil)
)

// Bytes is a small file that was read whole when it was opened.
type Bytes []byte

func (b Bytes) Size() int64 { return int64(len(b)) }

func (b Bytes) ReadAt(_ context.Context, _ store.CanRead, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, fs.ErrInvalid)
	}
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
