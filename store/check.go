package store

import (
	"crypto/sha256"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/manifest"
)

// checkBlob compares an encoded blob with its line in the manifest.
func checkBlob(raw []byte, f manifest.File) error {
	if int64(len(raw)) != f.Size {
		return corrupt.New("%d bytes, the manifest says %d", len(raw), f.Size)
	}
	if sha256.Sum256(raw) != f.Csum {
		return corrupt.New("checksum differs from the manifest")
	}
	return nil
}

// checkIndex compares an index with its line in the manifest. It uses the checksum
// computed over the index's entries, not the one in its header.
func checkIndex(x *index.Index, f manifest.File) error {
	if x.Size() != f.Size {
		return corrupt.New("index of %d bytes, the manifest says %d", x.Size(), f.Size)
	}
	if x.Csum() != f.Csum {
		return corrupt.New("checksum of the index differs from the manifest")
	}
	return nil
}
