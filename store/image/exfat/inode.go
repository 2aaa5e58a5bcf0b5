package exfat

import (
	"fmt"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/clusters"
)

const (
	dirMode      = image.Dir | 0o755
	fileMode     = image.Regular | 0o755
	readOnlyMode = image.Regular | 0o555
)

// Inode returns the attributes of an object. A directory has one link, which says that
// nobody has counted the directories in it.
func (f *FS) Inode(r io.ReaderAt, number uint64) (*image.Inode, error) {
	i := &image.Inode{Number: number, Mode: dirMode, Nlink: 1}
	if number == rootNumber {
		c, err := f.content(r, number)
		if err != nil {
			return nil, err
		}
		if err := c.Err(); err != nil {
			return nil, err
		}
		i.Size, i.Blocks = c.Size(), c.Size()/512
		return i, nil
	}
	s, err := f.set(r, number)
	if err != nil {
		return nil, err
	}
	i.Mtime, i.Size = s.mtime, s.size
	if s.size <= int64(f.count)*f.heap.Size { // else it is damage, which shows when it is read
		i.Blocks = (s.size + f.heap.Size - 1) / f.heap.Size * (f.heap.Size / 512)
	}
	if !s.dir() {
		i.Mode = fileMode
		if s.attr&attrRO != 0 {
			i.Mode = readOnlyMode
		}
	}
	return i, nil
}

// Open returns the content of a file.
func (f *FS) Open(r io.ReaderAt, number uint64) (image.File, error) {
	if number == rootNumber {
		return nil, fmt.Errorf("inode %d is a directory: %w", number, fs.ErrInvalid)
	}
	s, err := f.set(r, number)
	if err != nil {
		return nil, err
	}
	if s.dir() {
		return nil, fmt.Errorf("inode %d is a directory: %w", number, fs.ErrInvalid)
	}
	runs, err := f.runs(r, s)
	if err != nil {
		err = fmt.Errorf("inode %d: %w", number, err)
	}
	return clusters.NewContent(f.heap, runs, s.size, s.valid, err), nil
}

var _ image.FileSystem = (*FS)(nil)
