package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/name"
)

// ReadChunk returns the chunk called d as it is stored, in buf if its capacity is large
// enough. The error for a missing chunk is a [*backend.MissingChunkError]. A read from a local
// disk cannot be interrupted, so ctx is checked only before it.
func (r *Root) ReadChunk(ctx context.Context, d name.Digest, buf []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	path := ".chunks/" + d.Prefix() + "/" + d.String()
	raw, _, err := r.ReadFile(ctx, path, blob.MaxEncodedChunk, buf)
	if errors.Is(err, fs.ErrNotExist) { // a backup may be replacing it just now
		raw, _, err = r.ReadFile(ctx, path, blob.MaxEncodedChunk, buf)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &backend.MissingChunkError{Bad: r.badChunk(ctx, path)}
	case backend.NoFile(err):
		return nil, fmt.Errorf("%w: %w", corrupt.New("not a regular file"), err)
	case err != nil:
		return nil, err
	case len(raw) == 0:
		return nil, corrupt.New("file is empty (in the local cache of an S3 datastore the chunk is only in the bucket)")
	}
	return raw, nil
}

// badChunk returns the name that a verification has given to a corrupt chunk, "" if
// there is none.
func (r *Root) badChunk(ctx context.Context, path string) string {
	for i := range 10 {
		bad := fmt.Sprintf("%s.%d.bad", path, i)
		if _, err := r.Stat(ctx, bad); err == nil {
			return bad
		}
	}
	return ""
}
