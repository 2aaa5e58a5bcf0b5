package ext

import (
	"encoding/binary"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const (
	directBlocks = 12
	maxIndirect  = 3
)

// pointed finds a block through direct pointers or up to three levels of blocks of pointers.
// These have no checksums.
func (c content) pointed(r io.ReaderAt, block uint64) (run, error) {
	if block < directBlocks {
		return c.pointers(c.inode.block[:directBlocks*4], block, block)
	}
	perBlock := uint64(c.fs.blockSize / 4)
	covered := uint64(1) // by one pointer of the level
	within := block - directBlocks
	level := 0
	for {
		if level++; level > maxIndirect {
			return run{}, corrupt.At(c.inode.off, "ext inode %d: block %d is more than its map can hold", c.inode.Number, block)
		}
		if within < covered*perBlock {
			break
		}
		covered *= perBlock
		within -= covered
	}
	place := uint64(binary.LittleEndian.Uint32(c.inode.block[(directBlocks+level-1)*4:]))
	covered *= perBlock // by the pointer that was just read
	for {
		if place == 0 {
			return run{start: block, count: covered - within}, nil
		}
		p, err := c.indirectBlock(r, place)
		if err != nil {
			return run{}, err
		}
		if covered /= perBlock; covered == 1 {
			return c.pointers(p, within, block)
		}
		place = uint64(binary.LittleEndian.Uint32(p[within/covered*4:]))
		within %= covered
	}
}

func (c content) indirectBlock(r io.ReaderAt, place uint64) ([]byte, error) {
	if err := c.fs.checkPlace(c.inode, place, 1); err != nil {
		return nil, err
	}
	return c.fs.verified(r, cacheKey{block: place, kind: kindIndirect}, "indirect block", func([]byte) error { return nil })
}

// pointers returns the range that begins with pointer i of p, which is for a block.
func (c content) pointers(p []byte, i, block uint64) (run, error) {
	at := func(i uint64) uint64 { return uint64(binary.LittleEndian.Uint32(p[i*4:])) }
	n := run{start: block, count: 1, place: at(i), data: at(i) != 0}
	for i++; i < uint64(len(p)/4); i++ {
		next := n.place + n.count
		if !n.data {
			next = 0
		}
		if at(i) != next {
			break
		}
		n.count++
	}
	if !n.data {
		return n, nil
	}
	return n, c.fs.checkPlace(c.inode, n.place, n.count)
}
