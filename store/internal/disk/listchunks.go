package disk

import (
	"errors"
	"io/fs"
	"slices"
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
// within it. Other files are left out.
func (r *Root) ListChunks(fn func(ChunkName) error) error {
	dirs, err := r.List(chunksDir)
	if err != nil {
		return err
	}
	slices.SortFunc(dirs, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, dir := range dirs {
		if !dir.Dir || len(dir.Name) != prefixLen {
			continue
		}
		entries, err := r.List(chunksDir + "/" + dir.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !NoFile(err) {
			return err
		}
		for _, e := range entries {
			c, ok := chunkName(e.Name)
			if e.Dir || !ok || c.Digest.Prefix() != dir.Name {
				continue
			}
			c.Path = chunksDir + "/" + dir.Name + "/" + e.Name
			if err := fn(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// prefixLen is the length of the name of a directory of chunks.
const prefixLen = 4

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
