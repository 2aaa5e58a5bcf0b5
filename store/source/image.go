package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Image is a file or block device that is stored as a disk image.
type Image struct {
	f    *os.File
	size int64
}

// ErrEmpty says that an image is empty. No index can be made of it.
var ErrEmpty = errors.New("empty: there is nothing to store")

// OpenImage opens the regular file or block device at path. It follows links. The
// caller must Close the image.
func OpenImage(ctx context.Context, path string) (*Image, error) {
	f, err := OpenFile(ctx, path)
	if err != nil {
		return nil, err
	}
	i := &Image{f: f}
	if err := i.measure(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return i, nil
}

func (i *Image) measure() error {
	info, err := i.f.Stat()
	if err != nil {
		return err
	}
	mode := info.Mode()
	if !mode.IsRegular() && mode&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice {
		return errors.New("neither a regular file nor a block device")
	}
	if i.size, err = i.f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if i.size == 0 {
		return ErrEmpty
	}
	return nil
}

// Size returns the length of the image, in bytes.
func (i *Image) Size() int64 { return i.size }

// ReadAt implements [io.ReaderAt].
func (i *Image) ReadAt(p []byte, off int64) (int, error) { return i.f.ReadAt(p, off) }

// NextData returns the first offset at or after off with data. If no holes are known,
// that is off itself. After the last data it is the size.
func (i *Image) NextData(off int64) (int64, error) {
	at, err := unix.Seek(int(i.f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return i.size, nil
	case err != nil:
		return off, nil
	}
	return at, nil
}

// Close closes the file.
func (i *Image) Close() error { return i.f.Close() }
