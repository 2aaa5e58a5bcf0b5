package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pbsfs/pbsfs/store/name"
)

// ChunkName is a file in a directory of chunks.
type ChunkName struct {
	Digest name.Digest
	// Bad is set for a chunk that a verification has renamed, because it is corrupt.
	Bad bool
	// Path is that of the file, below the datastore.
	Path string
}

// ListChunks calls fn for the chunk files, one directory after the other, in no order
// within it. Other files are left out, and so are directories that are not there.
func (r *Root) ListChunks(fn func(ChunkName) error) error {
	for i := range prefixes {
		dir := fmt.Sprintf(".chunks/%04x", i)
		entries, err := r.List(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !NoFile(err) {
			return err
		}
		for _, e := range entries {
			c, ok := chunkName(e.Name)
			if e.Dir || !ok || c.Digest.Prefix() != dir[len(dir)-4:] {
				continue
			}
			c.Path = dir + "/" + e.Name
			if err := fn(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// chunkName reads the name of a chunk file, "DIGEST" or "DIGEST.N.bad".
func chunkName(s string) (ChunkName, bool) {
	digest, rest, marked := strings.Cut(s, ".")
	d, err := name.ParseDigest(digest)
	if err != nil {
		return ChunkName{}, false
	}
	if marked && (len(rest) != len("0.bad") || rest[0] < '0' || rest[0] > '9' || rest[1:] != ".bad") {
		return ChunkName{}, false
	}
	return ChunkName{Digest: d, Bad: marked}, true
}
