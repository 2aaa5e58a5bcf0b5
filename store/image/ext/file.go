package ext

import (
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// file is the content of a regular file.
type file struct{ content }

// Open returns the content of a regular file.
func (fs *FS) Open(r io.ReaderAt, number uint64) (image.File, error) {
	i, err := fs.object(r, number)
	if err != nil {
		return nil, err
	}
	if i.Type() != image.Regular {
		return nil, corrupt.At(i.off, "ext inode %d is no regular file", number)
	}
	c, err := fs.readable(i)
	if err != nil {
		return nil, err
	}
	return &file{c}, nil
}

// readable returns the content of an object, unless it is not there in the clear.
func (fs *FS) readable(i *inode) (content, error) {
	if i.has(flagEncrypted) {
		return content{}, fmt.Errorf("ext inode %d: %w", i.Number, image.ErrEncrypted)
	}
	if i.has(flagCompressed) {
		return content{}, fmt.Errorf("ext inode %d is compressed: %w", i.Number, image.ErrUnsupported)
	}
	return fs.content(i)
}

func (f *file) Size() int64 { return f.size }

func (f *file) ReadAt(r io.ReaderAt, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: negative offset", off)
	}
	if off >= f.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), f.size-off))
	if f.inode.has(flagInline) {
		copy(p, f.inline[off:])
	} else if err := f.readAt(r, p[:n], off); err != nil {
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
	if off >= f.size {
		return f.size, nil
	}
	if f.inode.has(flagInline) {
		if data {
			return off, nil
		}
		return f.size, nil
	}
	bs := int64(f.fs.blockSize)
	found := f.size
	err := f.runs(r, uint64(off/bs), uint64((f.size+bs-1)/bs), func(n run) (bool, error) {
		if n.data == data {
			found = max(off, int64(n.start)*bs)
		}
		return n.data != data, nil
	})
	return found, err
}
