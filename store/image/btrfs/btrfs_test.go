package btrfs

import (
	"io"
	"testing"

	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

func open(r io.ReaderAt, size int64) (image.FileSystem, error) {
	fs, err := Open(r, size)
	if err != nil {
		return nil, err
	}
	return fs, nil
}

// format returns a format that mkfs.btrfs makes, and how it is mounted.
func format(mount string, options ...string) imagetest.Format {
	return imagetest.Format{
		Type: "btrfs", Size: 300 << 20, Mount: mount,
		Mkfs: append([]string{"mkfs.btrfs", "-q"}, options...),
	}
}

func TestEverythingIsAsTheKernelShowsIt(t *testing.T) {
	for name, f := range map[string]imagetest.Format{
		"default":                     format(""),
		"zlib":                        format("compress-force=zlib", "--csum", "xxhash"),
		"lzo":                         format("compress-force=lzo", "--csum", "sha256"),
		"zstd":                        format("compress-force=zstd", "--csum", "blake2"),
		"holes as items, small nodes": format("", "-O", "^no-holes", "--nodesize", "4096"),
		"mixed chunks":                format("", "--mixed"),
	} {
		t.Run(name, func(t *testing.T) {
			im := imagetest.New(t, f)
			im.Update(t, func(dir string) {
				imagetest.Populate(t, dir, imagetest.Content{Entries: 300})
			})
			im.Compare(t, open)
		})
	}
}
