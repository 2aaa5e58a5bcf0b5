package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

// MissingChunkError says that a chunk has no file. It matches [fs.ErrNotExist].
type MissingChunkError struct {
	// Bad is the file to which a verification has moved the chunk, "" if there is none.
	Bad string
}

// Error says what is known of the chunk.
func (e *MissingChunkError) Error() string {
	if e.Bad == "" {
		return "missing from the datastore"
	}
	return fmt.Sprintf("marked corrupt by a verification (%s); a new backup of the same data would bring it back", e.Bad)
}

// Is makes errors.Is(e, fs.ErrNotExist) true.
func (e *MissingChunkError) Is(target error) bool { return target == fs.ErrNotExist }

// ReadChunk returns the chunk called d as it is stored, in buf if its capacity is large
// enough. The error for a missing chunk is a [*MissingChunkError]. A read from a local
// disk cannot be interrupted, so ctx is checked only before it.
func (r *Root) ReadChunk(ctx context.Context, d name.Digest, buf []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	path := ".chunks/" + d.Prefix() + "/" + d.String()
	raw, _, err := r.ReadFile(path, blob.MaxEncodedChunk, buf)
	if errors.Is(err, fs.ErrNotExist) { // a backup may be replacing it just now
		raw, _, err = r.ReadFile(path, blob.MaxEncodedChunk, buf)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &MissingChunkError{Bad: r.badChunk(path)}
	case NoFile(err):
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
func (r *Root) badChunk(path string) string {
	for i := range 10 {
		bad := fmt.Sprintf("%s.%d.bad", path, i)
		if _, err := r.Stat(bad); err == nil {
			return bad
		}
	}
	return ""
}
