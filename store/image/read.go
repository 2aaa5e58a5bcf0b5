package image

import (
	"errors"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// ReadFull reads all of p. The end of the disk within p is damage: the file system says that
// it is larger.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return corrupt.At(off+int64(n), "disk ends")
	}
	return err
}
