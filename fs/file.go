package fs

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/pbsfs/pbsfs/store/tree"
)

// fileHandle is an open file. Content is read only through it.
type fileHandle struct {
	*handle
	file tree.File
}

// Read fills dest; it reads less only at the end of the file. A read that cannot be
// filled for any other reason is an error, because the kernel would take the rest for
// zeros.
func (h *fileHandle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	ctx, answered := patient(ctx)
	defer answered()
	var n int
	var err error
	if f, ok := h.file.(tree.Salvaged); ok {
		n, err = h.readPast(ctx, f, dest, off)
	} else {
		n, err = h.file.ReadAt(ctx, h.right, dest, off)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, h.fsys.fail(err)
	}
	h.fsys.reads.Add(1)
	h.fsys.bytes.Add(uint64(n))
	return fuse.ReadResultData(dest[:n]), 0
}

// The whence values of LSEEK that reach a file system:
const (
	seekData = 3
	seekHole = 4
)

// Lseek finds data and holes. A file without information on holes counts as data up to
// its end.
func (h *fileHandle) Lseek(ctx context.Context, uoff uint64, whence uint32) (uint64, syscall.Errno) {
	size := h.file.Size()
	off := int64(uoff)
	if off < 0 || off >= size {
		return 0, syscall.ENXIO
	}
	sparse, ok := h.file.(tree.Sparse)
	var err error
	pos := off
	switch {
	case whence != seekData && whence != seekHole:
		return 0, syscall.EINVAL
	case !ok && whence == seekHole:
		pos = size
	case !ok:
	case whence == seekData:
		pos, err = sparse.NextData(ctx, h.right, off)
	default:
		pos, err = sparse.NextHole(ctx, h.right, off)
	}
	if err != nil {
		return 0, h.fsys.fail(err)
	}
	if whence == seekData && pos >= size {
		return 0, syscall.ENXIO
	}
	return uint64(pos), 0
}

// Flush has nothing to write back.
func (h *fileHandle) Flush(context.Context) syscall.Errno { return 0 }

// Fsync has nothing to write back.
func (h *fileHandle) Fsync(context.Context, uint32) syscall.Errno { return 0 }

// Release ends the operation.
func (h *fileHandle) Release(context.Context) syscall.Errno {
	h.release()
	return 0
}
