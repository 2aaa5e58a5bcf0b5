package clusters

import (
	"fmt"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/image"
)

// Plain answers for what a format without links and attributes does not have.
type Plain struct{}

// Readlink fails: there are no symbolic links.
func (Plain) Readlink(io.ReaderAt, uint64) (string, error) {
	return "", fmt.Errorf("not a symbolic link: %w", fs.ErrInvalid)
}

// Xattrs returns none: there are no extended attributes.
func (Plain) Xattrs(io.ReaderAt, uint64) ([]image.Xattr, error) { return nil, nil }
