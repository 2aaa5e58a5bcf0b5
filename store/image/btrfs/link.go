package btrfs

import (
	"bytes"
	"io"

	"github.com/pbsfs/pbsfs/store/image"
)

const maxTarget = 4095

// Readlink returns the target of a symbolic link.
func (f *FS) Readlink(r io.ReaderAt, number uint64) (string, error) {
	i, err := f.inode(r, number)
	if err != nil {
		return "", err
	}
	if i.Type() != image.Symlink {
		return "", i.wrong("it is no symbolic link")
	}
	if i.Size == 0 || i.Size > maxTarget {
		return "", i.wrong("impossible length of the target")
	}
	p := make([]byte, i.Size)
	if err := (&file{f, i}).read(r, p, 0); err != nil {
		return "", err
	}
	if bytes.IndexByte(p, 0) >= 0 {
		return "", i.wrong("impossible target")
	}
	return string(p), nil
}
