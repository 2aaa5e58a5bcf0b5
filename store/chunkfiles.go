package store

import (
	"context"
	"errors"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/name"
)

// ChunkFile is the file of a chunk.
type ChunkFile struct {
	Digest name.Digest
	// Bad is set for a chunk that a verification has renamed, because it is corrupt.
	Bad bool

	root backend.Backend
	path string
	size int64 // 0: to be asked for
}

// ChunkFiles calls fn for each chunk file of the datastore, directory by directory. It
// keeps the names of one directory in memory. An error of fn ends that and is returned
// as it is.
func ChunkFiles(ctx context.Context, right CanRead, fn func(ChunkFile) error) error {
	r, root, err := begin(ctx, right)
	if err != nil {
		return err
	}
	var own error
	err = root.ListChunks(ctx, func(c backend.ChunkName) error {
		if own = context.Cause(ctx); own == nil {
			own = fn(ChunkFile{Digest: c.Digest, Bad: c.Bad, root: root, path: c.Path, size: c.Size})
		}
		return own
	})
	if own != nil {
		return own
	}
	return r.ds.blame(ctx, root, err)
}

// Size returns the length of the file in bytes, and whether it is still there. It must
// be called by the function that was given the file.
func (c ChunkFile) Size(ctx context.Context) (n int64, ok bool, err error) {
	if c.size > 0 {
		return c.size, true, nil
	}
	info, err := c.root.Stat(ctx, c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	return info.Size, err == nil, err
}
