package btrfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	inodeSize     = 160
	flagNoDataSum = 1 << 0
)

// inode is an object with what its content needs.
type inode struct {
	image.Inode

	tree   tree
	object uint64 // in the tree
	flags  uint64
}

func (i *inode) wrong(format string, args ...any) error {
	return corrupt.New("btrfs object %d in tree %d: %s", i.object, i.tree.id, fmt.Sprintf(format, args...))
}

// Inode returns the attributes of an object.
func (f *FS) Inode(r io.ReaderAt, number uint64) (*image.Inode, error) {
	o, err := f.object(number)
	if err != nil {
		return nil, err
	}
	if o.vacant {
		i, err := f.vacant(r, o)
		if err != nil {
			return nil, err
		}
		i.Number = number
		return i, nil
	}
	i, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	return &i.Inode, nil
}

// inode reads an object that is no empty directory in place of a subvolume.
func (f *FS) inode(r io.ReaderAt, number uint64) (*inode, error) {
	o, err := f.object(number)
	if err != nil {
		return nil, err
	}
	if o.vacant {
		return nil, corrupt.New("btrfs object %d: it has no content", number)
	}
	t, err := f.needed(r, o.tree)
	if err != nil {
		return nil, err
	}
	i, err := f.inodeOf(r, t, o.object)
	if isNotExist(err) {
		return nil, corrupt.New("btrfs object %d in tree %d: there is none", o.object, o.tree)
	}
	if err != nil {
		return nil, err
	}
	i.Number = number
	return i, nil
}

// inodeOf reads an object of a tree, [fs.ErrNotExist] if there is none.
func (f *FS) inodeOf(r io.ReaderAt, t root, number uint64) (*inode, error) {
	p, err := f.get(r, t.tree, key{number, inodeItem, 0})
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fmt.Errorf("btrfs object %d in tree %d: %w", number, t.id, fs.ErrNotExist)
	}
	i := &inode{tree: t.tree, object: number}
	if len(p) < inodeSize {
		return nil, i.wrong("its item is too short")
	}
	le := binary.LittleEndian
	size, allocated, sector := le.Uint64(p[16:]), le.Uint64(p[24:]), uint64(f.sectorSize)
	if size > math.MaxInt64 || allocated > math.MaxInt64-sector {
		return nil, i.wrong("impossible size")
	}
	i.flags = le.Uint64(p[64:])
	i.Inode = image.Inode{
		Mode: le.Uint32(p[52:]), Nlink: le.Uint32(p[40:]), UID: le.Uint32(p[44:]), GID: le.Uint32(p[48:]), Size: int64(size),
		Blocks: int64((allocated + sector - 1) / sector * sector / 512), Mtime: parseTime(p[136:]),
	}
	switch i.Type() {
	case image.CharDevice, image.BlockDevice:
		d := le.Uint64(p[56:])
		i.Rdev = image.Device{Major: uint32(d >> 20), Minor: uint32(d & (1<<20 - 1))}
	case image.Regular, image.Dir, image.Symlink, image.Fifo, image.Socket:
	default:
		return nil, i.wrong("impossible type")
	}
	if i.Nlink == 0 {
		return nil, i.wrong("it is deleted")
	}
	return i, nil
}

func parseTime(p []byte) image.Time {
	t := image.Time{Sec: int64(binary.LittleEndian.Uint64(p)), Nsec: binary.LittleEndian.Uint32(p[8:])}
	t.Sec, t.Nsec = t.Sec+int64(t.Nsec/1e9), t.Nsec%1e9 // the field has room for more
	return t
}
