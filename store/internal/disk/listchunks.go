package disk

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/store/internal/backend"
)

// ListChunks calls fn for the chunk files, one directory after the other, in no order
// within it. Other files are left out.
func (r *Root) ListChunks(ctx context.Context, fn func(backend.ChunkName) error) error {
	dirs, err := r.List(ctx, chunksDir)
	if err != nil {
		return err
	}
	slices.SortFunc(dirs, func(a, b backend.Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, dir := range dirs {
		if !dir.Dir || len(dir.Name) != prefixLen {
			continue
		}
		entries, err := r.List(ctx, chunksDir+"/"+dir.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !backend.NoFile(err) {
			return err
		}
		for _, e := range entries {
			c, ok := backend.ParseChunkName(e.Name)
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
