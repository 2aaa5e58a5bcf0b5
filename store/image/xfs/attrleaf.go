package xfs

import (
	"fmt"
	"io"
	"slices"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	attrLeafMagic   = 0xfbee
	attrLeafMagicV5 = 0x3bee
)

// leaves lists attributes that are in blocks: one leaf, or a tree of nodes over leaves,
// which have links from one to the next.
func (a *attributes) leaves(r io.ReaderAt) error {
	block, err := a.firstLeaf(r)
	if err != nil {
		return err
	}
	visited := map[uint32]bool{}
	for {
		if visited[block] {
			return corrupt.At(a.in.off, "inode %d: attributes: leaf %d comes twice", a.in.number, block)
		}
		visited[block] = true
		b, off, err := a.block(r, block)
		if err != nil {
			return err
		}
		if err := a.leaf(r, b, off); err != nil {
			return err
		}
		if block = be.Uint32(b); block == 0 {
			return nil
		}
	}
}

// firstLeaf goes down to the first leaf.
func (a *attributes) firstLeaf(r io.ReaderAt) (uint32, error) {
	block := uint32(0)
	for level := maxDepth + 1; ; {
		b, off, err := a.block(r, block)
		if err != nil {
			return 0, err
		}
		x, ok, err := a.fs.sb.decodeNode(b, off)
		if err != nil || !ok {
			return block, err
		}
		if x.level >= level {
			return 0, corrupt.At(off, "inode %d: attributes: node of level %d", a.in.number, x.level)
		}
		level, block = x.level, x.to(0)
	}
}

// block reads a node or a leaf.
func (a *attributes) block(r io.ReaderAt, block uint32) ([]byte, int64, error) {
	e, ok, err := a.fork.at(r, uint64(block))
	if err != nil {
		return nil, 0, err
	}
	if !ok || e.start > uint64(block) || e.unwritten {
		return nil, 0, corrupt.At(a.in.off, "inode %d: attributes: block %d is missing", a.in.number, block)
	}
	where := e.from(uint64(block)).block
	off, _ := a.fs.sb.position(where, 1)
	b, err := a.fs.block(r, where, a.in.number, attrLayout, func([]byte, int64) error { return nil })
	return b, off, err
}

// leaf takes the attributes of a leaf. Its header has the number of them, and then come
// hash, place and flags of each.
func (a *attributes) leaf(r io.ReaderAt, b []byte, off int64) error {
	magic, countAt, header := uint16(attrLeafMagic), 12, 32
	if a.fs.sb.v5 {
		magic, countAt, header = attrLeafMagicV5, 56, 80
	}
	count := int(be.Uint16(b[countAt:]))
	if be.Uint16(b[8:]) != magic || header+count*hashSize > len(b) {
		return corrupt.At(off, "inode %d: attributes: magic number %#x, %d of them", a.in.number, be.Uint16(b[8:]), count)
	}
	for i := range count {
		entry := b[header+i*hashSize:]
		place, flags := int(be.Uint16(entry[4:])), entry[6]
		if !shown(flags) {
			continue
		}
		if place < header+count*hashSize || place >= len(b) {
			a.add(corrupt.At(off, "inode %d: attribute %d lies at %d of a block", a.in.number, i, place))
			continue
		}
		a.add(a.entry(r, b[place:], off+int64(place), flags))
		if a.bytes > maxAttributes {
			return fmt.Errorf("inode %d: more than %d bytes of attributes: %w", a.in.number, maxAttributes, image.ErrUnsupported)
		}
		if a.many() {
			return nil
		}
	}
	return nil
}

// entry takes one attribute: lengths of value and name, name, and value; or, if the value
// is elsewhere, its first block, its length, and length and name.
func (a *attributes) entry(r io.ReaderAt, b []byte, off int64, flags uint8) error {
	bad := corrupt.At(off, "inode %d: an attribute leaves its block", a.in.number)
	if flags&attrLocal != 0 {
		if len(b) < 3 || len(b) < 3+int(b[2])+int(be.Uint16(b)) {
			return bad
		}
		name := b[3:][:b[2]]
		a.take(flags, string(name), slices.Clone(b[3+len(name):][:be.Uint16(b)]))
		return nil
	}
	if len(b) < 9 || len(b) < 9+int(b[8]) {
		return bad
	}
	block, n := be.Uint32(b), be.Uint32(b[4:])
	if n > maxValue {
		return corrupt.At(off, "inode %d: attribute with a value of %d bytes", a.in.number, n)
	}
	value, err := a.remote(r, uint64(block), int(n))
	if err != nil {
		return err
	}
	a.take(flags, string(b[9:][:b[8]]), value)
	return nil
}

// remote reads a value that has blocks of its own. In v5 each of them has a header.
func (a *attributes) remote(r io.ReaderAt, block uint64, n int) ([]byte, error) {
	header, size := a.fs.remoteHeader(), int(a.fs.sb.blockSize)
	blocks := (n + size - header - 1) / (size - header)
	all, _, err := a.fs.mapped(r, a.fork, block, uint64(blocks), valueLayout.what)
	if err != nil {
		return nil, err
	}
	value := make([]byte, 0, n)
	for i := range blocks {
		off, err := a.lies(r, block+uint64(i))
		if err != nil {
			return nil, err
		}
		b := all[i*size:][:size]
		part := b[header:min(size, header+n-len(value))]
		if err := a.fs.checkRemote(b, off, a.in.number, valueLayout, valueMagic, len(value), len(part)); err != nil {
			return nil, err
		}
		value = append(value, part...)
	}
	return value, nil
}

// lies returns where a block of the fork lies that was read before.
func (a *attributes) lies(r io.ReaderAt, block uint64) (int64, error) {
	e, ok, err := a.fork.at(r, block)
	if err != nil || !ok || e.start > block {
		return 0, err
	}
	off, _ := a.fs.sb.position(e.from(block).block, 1)
	return off, nil
}
