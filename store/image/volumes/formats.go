package volumes

import (
	"io"

	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/btrfs"
	"github.com/pbsfs/pbsfs/store/image/exfat"
	"github.com/pbsfs/pbsfs/store/image/ext"
	"github.com/pbsfs/pbsfs/store/image/fat"
	"github.com/pbsfs/pbsfs/store/image/ntfs"
	"github.com/pbsfs/pbsfs/store/image/xfs"
)

// decoder opens a file system, if it is one of its format.
type decoder func(io.ReaderAt, int64) (image.FileSystem, error)

// decoders are tried in this order. FAT comes last, because it has no mark.
var decoders = []decoder{
	opens(ext.Open),
	opens(xfs.Open),
	opens(btrfs.Open),
	opens(ntfs.Open),
	opens(exfat.Open),
	opens(fat.Open),
}

// opens makes a decoder of the Open of a package.
func opens[FS image.FileSystem](open func(io.ReaderAt, int64) (FS, error)) decoder {
	return func(r io.ReaderAt, size int64) (image.FileSystem, error) {
		f, err := open(r, size)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
}
