package btrfs

import (
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/store/image"
)

// file is the content of a regular file.
type file struct {
	fs    *FS
	inode *inode
}

// Open returns the content of a regular file.
func (f *FS) Open(r io.ReaderAt, number uint64) (image.File, error) {
	i, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	if i.Type() != image.Regular {
		return nil, i.wrong("it is no regular file")
	}
	return &file{f, i}, nil
}

func (f *file) Size() int64 { return f.inode.Size }

func (f *file) ReadAt(r io.ReaderAt, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: negative offset", off)
	}
	if off >= f.Size() {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), f.Size()-off))
	if err := f.read(r, p[:n], off); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) NextData(r io.ReaderAt, off int64) (int64, error) { return f.next(r, off, true) }

func (f *file) NextHole(r io.ReaderAt, off int64) (int64, error) { return f.next(r, off, false) }

// next returns the first offset at or after off that is in data, or is not.
func (f *file) next(r io.ReaderAt, off int64, data bool) (int64, error) {
	off = max(off, 0)
	found := f.Size()
	if off >= found {
		return found, nil
	}
	err := f.extentsOf(r, off, found, func(e extent) (bool, error) {
		if e.data == data {
			found = max(off, e.start)
		}
		return e.data != data, nil
	})
	return found, err
}
