package xfs

import (
	"io"
	"slices"
	"sort"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// How a fork is kept.
const (
	formatDevice  = 0
	formatLocal   = 1
	formatExtents = 2
	formatBtree   = 3
)

// extent is a piece of a fork. All numbers are of blocks.
type extent struct {
	start     uint64 // in the fork
	block     uint64 // on the disk
	count     uint64
	unwritten bool
}

func (e extent) end() uint64 { return e.start + e.count }

// from returns what is left of an extent from block of the fork on.
func (e extent) from(block uint64) extent {
	skip := block - e.start
	return extent{block, e.block + skip, e.count - skip, e.unwritten}
}

const extentSize = 16

// decodeExtent takes the 128 bits of a record apart: flag, 54 bits of start, 52 of block, 21 of count.
func decodeExtent(b []byte) extent {
	high, low := be.Uint64(b), be.Uint64(b[8:])
	return extent{
		unwritten: high>>63 != 0,
		start:     high << 1 >> 10,
		block:     high&(1<<9-1)<<43 | low>>21,
		count:     low & (1<<21 - 1),
	}
}

// sound says whether an extent lies in one group, and behind those that end at from.
func (s *superblock) sound(e extent, from uint64) bool {
	_, ok := s.position(e.block, e.count)
	return ok && e.count > 0 && e.start >= from
}

// fork is the map of an inode's content, or of its attributes. It is immutable.
type fork struct {
	fs      *FS
	owner   uint64
	local   []byte   // if the content is in the inode
	extents []extent // if they are in the inode
	root    []byte   // if they are in a btree
}

// newFork takes a fork from the bytes that an inode has for it.
func newFork(f *FS, in *inode, format uint8, b []byte, count uint64) (*fork, error) {
	k := &fork{fs: f, owner: in.number}
	switch format {
	case formatLocal:
		k.local = slices.Clone(b)
	case formatExtents:
		if count > uint64(len(b)/extentSize) {
			return nil, corrupt.At(in.off, "inode %d: %d extents in %d bytes", in.number, count, len(b))
		}
		k.extents = make([]extent, count)
		from := uint64(0)
		for i := range k.extents {
			e := decodeExtent(b[i*extentSize:])
			if !f.sb.sound(e, from) {
				return nil, corrupt.At(in.off, "inode %d: extent %d: %d blocks at %#x for block %d", in.number, i, e.count, e.block, e.start)
			}
			k.extents[i], from = e, e.end()
		}
	case formatBtree:
		k.root = slices.Clone(b)
		if err := k.checkRoot(in.off); err != nil {
			return nil, err
		}
	default:
		return nil, corrupt.At(in.off, "inode %d: fork of format %d", in.number, format)
	}
	return k, nil
}

// at returns the extent that holds a block of the fork, or else the next one after it.
func (k *fork) at(r io.ReaderAt, block uint64) (extent, bool, error) {
	if k.root != nil {
		return k.search(r, block)
	}
	i := sort.Search(len(k.extents), func(i int) bool { return k.extents[i].end() > block })
	if i == len(k.extents) {
		return extent{}, false, nil
	}
	return k.extents[i], true, nil
}
