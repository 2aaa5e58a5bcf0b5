package backend

import (
	"strings"

	"github.com/pbsfs/pbsfs/store/name"
)

// ChunkName is a file among the chunks.
type ChunkName struct {
	Digest name.Digest
	// Bad is set for a chunk that a verification has renamed, because it is corrupt.
	Bad bool
	// Path is that of the file, below the datastore.
	Path string
	// Size is the length of the file in bytes, if the listing tells it, else 0.
	Size int64
}

// ParseChunkName reads the name of a chunk file, "DIGEST" or "DIGEST.N.bad", without its
// directory.
func ParseChunkName(s string) (ChunkName, bool) {
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
