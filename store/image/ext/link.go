package ext

import (
	"bytes"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// Readlink returns the target of a symbolic link.
func (fs *FS) Readlink(r io.ReaderAt, number uint64) (string, error) {
	i, err := fs.object(r, number)
	if err != nil {
		return "", err
	}
	if i.Type() != image.Symlink {
		return "", corrupt.At(i.off, "ext inode %d is no symbolic link", number)
	}
	target, err := fs.target(r, i)
	if err != nil {
		return "", err
	}
	if len(target) == 0 || bytes.IndexByte(target, 0) >= 0 {
		return "", corrupt.At(i.off, "ext inode %d: impossible target of a link", number)
	}
	return string(target), nil
}

func (fs *FS) target(r io.ReaderAt, i *inode) ([]byte, error) {
	if fs.isFast(i) && !i.has(flagEncrypted) {
		if i.Size >= int64(len(i.block)) || i.block[i.Size] != 0 {
			return nil, corrupt.At(i.off, "ext inode %d: the target does not fit in the inode", i.Number)
		}
		return i.block[:i.Size], nil
	}
	c, err := fs.readable(i)
	if err != nil {
		return nil, err
	}
	return c.readAll(r, int64(fs.blockSize))
}

// isFast says whether the target lies where others have the map of their content: then
// nothing is allocated but attributes.
func (fs *FS) isFast(i *inode) bool {
	if i.has(flagInline) {
		return false
	}
	if fs.incompat&incompatEAInode != 0 {
		return i.Size < int64(len(i.block))
	}
	attributes := int64(0)
	if i.xattrBlock != 0 {
		attributes = int64(fs.clusterSize / 512)
	}
	return i.Blocks == attributes
}
