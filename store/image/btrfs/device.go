package btrfs

import (
	"errors"
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// readRaw reads p at an offset of the image.
func (fs *FS) readRaw(r io.ReaderAt, p []byte, off int64, what string) error {
	if off < 0 || int64(len(p)) > fs.size || off > fs.size-int64(len(p)) {
		return corrupt.At(off, "%s: it lies behind the end of the image", what)
	}
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return corrupt.At(off+int64(n), "%s: the image ends within it", what)
	default:
		return fmt.Errorf("%s at offset %d: %w", what, off, err)
	}
}

// copies calls try with the offset of each copy of a range of addresses, until one is right. The
// range lies in one chunk.
func (fs *FS) copies(logical uint64, n int, what string, try func(off int64) error) error {
	c, err := fs.chunks.find(logical)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	within := logical - c.start
	if uint64(n) > c.length-within {
		return corrupt.New("%s at address %d: it leaves its chunk", what, logical)
	}
	if c.here == 0 {
		return fmt.Errorf("%s: a chunk with profile %s lies on another device: %w", what, c.profile(), image.ErrUnsupported)
	}
	var failed error
	for _, start := range c.copies[:c.here] {
		err := try(start + int64(within))
		if err == nil {
			return nil
		}
		if failed == nil {
			failed = err
		} else {
			failed = fmt.Errorf("%w; the other copy: %w", failed, err)
		}
	}
	if c.elsewhere {
		failed = fmt.Errorf("%w; the other copy lies on another device", failed)
	}
	return failed
}
