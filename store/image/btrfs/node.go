package btrfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const (
	nodeHeader  = 101
	itemSize    = 25
	pointerSize = 33
	// readAhead is the range of addresses in which the neighbours of a tree block are read with it.
	readAhead = 128 << 10
)

// node is a tree block whose checksum and layout were verified. Nobody changes it.
type node struct {
	p                        []byte
	off                      int64 // in the image
	block, generation, owner uint64
	level                    uint8
	count                    int
}

func (n *node) entry(i int) []byte {
	if n.level == 0 {
		return n.p[nodeHeader+i*itemSize:][:itemSize]
	}
	return n.p[nodeHeader+i*pointerSize:][:pointerSize]
}

func (n *node) key(i int) key { return parseKey(n.entry(i)) }

// pointer returns the address and the generation of a child.
func (n *node) pointer(i int) (block, generation uint64) {
	p := n.entry(i)
	return binary.LittleEndian.Uint64(p[17:]), binary.LittleEndian.Uint64(p[25:])
}

// item returns what a leaf has for a key.
func (n *node) item(i int) []byte {
	p := n.entry(i)
	return n.p[nodeHeader+int(binary.LittleEndian.Uint32(p[17:])):][:binary.LittleEndian.Uint32(p[21:])]
}

// from returns the first entry that is not before k.
func (n *node) from(k key) int {
	return sort.Search(n.count, func(i int) bool { return n.key(i).compare(k) >= 0 })
}

// floor returns the last entry that is not behind k, -1 if there is none.
func (n *node) floor(k key) int {
	i := n.from(k)
	if i < n.count && n.key(i) == k {
		return i
	}
	return i - 1
}

// parseNode verifies a tree block at an address.
func (fs *FS) parseNode(p []byte, block uint64, off int64) (*node, error) {
	le := binary.LittleEndian
	wrong := func(reason string) (*node, error) {
		return nil, corrupt.At(off, "btrfs tree block of address %d: %s", block, reason)
	}
	switch {
	case !fs.sum.matches(p[checksumField:], p):
		return wrong("wrong checksum")
	case le.Uint64(p[0x30:]) != block:
		return wrong("it belongs to another address")
	case [16]byte(p[0x20:]) != fs.metadataID:
		return wrong("it belongs to another file system")
	}
	n := &node{p: p, off: off, block: block, generation: le.Uint64(p[0x50:]), owner: le.Uint64(p[0x58:]), level: p[0x64]}
	count, size := le.Uint32(p[0x60:]), itemSize
	if n.level > 0 {
		size = pointerSize
	}
	if n.level > maxLevel || uint64(count)*uint64(size) > uint64(len(p)-nodeHeader) || count == 0 && n.level > 0 {
		return wrong("impossible level or number of entries")
	}
	n.count = int(count)
	for i := 1; i < n.count; i++ {
		if n.key(i-1).compare(n.key(i)) >= 0 {
			return wrong("its keys are not in order")
		}
	}
	if n.level == 0 && !n.itemsFit() {
		return wrong("items leave their place")
	}
	return n, nil
}

// itemsFit says whether the items fill the end of a leaf, from the last one to the first.
func (n *node) itemsFit() bool {
	end := uint64(len(n.p) - nodeHeader)
	for i := range n.count {
		p := n.entry(i)
		off, size := uint64(binary.LittleEndian.Uint32(p[17:])), uint64(binary.LittleEndian.Uint32(p[21:]))
		if off+size != end || off < uint64(n.count*itemSize) {
			return false
		}
		end = off
	}
	return true
}

// reference is what a parent says about a tree block.
type reference struct {
	tree              uint64 // that it is read for
	block, generation uint64
	level             uint8
	first             *key // its first key, unknown of the top of a tree
	limit             key  // its keys are before this one
}

// fits checks that a tree block is the one that is meant.
func (n *node) fits(ref reference) error {
	wrong := func(reason string) error {
		return corrupt.At(n.off, "btrfs tree block of address %d: %s", n.block, reason)
	}
	switch {
	case n.level != ref.level:
		return wrong("wrong level")
	case n.generation != ref.generation:
		return wrong(fmt.Sprintf("it is of generation %d, not %d", n.generation, ref.generation))
	case isSubvolume(ref.tree) && !isSubvolume(n.owner) && n.owner != relocTree, !isSubvolume(ref.tree) && n.owner != ref.tree:
		return wrong("it belongs to another tree")
	case ref.first != nil && (n.count == 0 || n.key(0) != *ref.first):
		return wrong("its first key is not that of the pointer to it")
	case n.count > 0 && n.key(n.count-1).compare(ref.limit) >= 0:
		return wrong("its last key belongs to its neighbour")
	}
	return nil
}

func isSubvolume(tree uint64) bool { return tree == fsTree || tree >= firstFree && tree <= lastFree }

// node returns the tree block that is meant, from memory or from one of its copies.
func (fs *FS) node(r io.ReaderAt, ref reference) (*node, error) {
	if n, ok := fs.nodes.Get(ref.block); ok && n.fits(ref) == nil {
		return n, nil
	}
	var found *node
	err := fs.copies(ref.block, fs.nodeSize, "btrfs tree block", func(off int64) error {
		p := make([]byte, fs.nodeSize)
		if err := fs.readRaw(r, p, off, "btrfs tree block"); err != nil {
			return err
		}
		n, err := fs.parseNode(p, ref.block, off)
		if err != nil {
			return err
		}
		found = n
		return n.fits(ref)
	})
	if err != nil {
		return nil, err
	}
	fs.remember(found)
	return found, nil
}

func (fs *FS) remember(n *node) { fs.nodes.Put(n.block, n, int64(len(n.p))) }

// child returns a child of a tree block, whose keys are before limit.
func (fs *FS) child(r io.ReaderAt, tree uint64, parent *node, i int, limit key) (*node, error) {
	block, generation := parent.pointer(i)
	first := parent.key(i)
	if i+1 < parent.count {
		limit = parent.key(i + 1)
	}
	if _, ok := fs.nodes.Get(block); !ok {
		fs.readNeighbours(r, parent, block)
	}
	return fs.node(r, reference{tree, block, generation, parent.level - 1, &first, limit})
}

// neighbours keeps buffers for reading ahead.
var neighbours = sync.Pool{New: func() any { return new([readAhead]byte) }}

// readNeighbours remembers children that lie near one of them, which is wanted: a listing will
// want them next. What it cannot read or verify is left to those who want just that.
func (fs *FS) readNeighbours(r io.ReaderAt, parent *node, block uint64) {
	c, err := fs.chunks.find(block)
	if err != nil || c.here == 0 {
		return
	}
	start := max(block&^(readAhead-1), c.start)
	end := min(start+readAhead, c.end())
	var blocks []uint64
	for i := range parent.count {
		if b, _ := parent.pointer(i); b >= start && b <= end && end-b >= uint64(fs.nodeSize) {
			blocks = append(blocks, b)
		}
	}
	if len(blocks) < 2 {
		return
	}
	start, end = slices.Min(blocks), slices.Max(blocks)+uint64(fs.nodeSize)
	off := c.copies[0] + int64(start-c.start)
	buf := neighbours.Get().(*[readAhead]byte)
	defer neighbours.Put(buf)
	p := buf[:end-start]
	if fs.readRaw(r, p, off, "btrfs tree blocks") != nil {
		return
	}
	for _, b := range blocks {
		q := slices.Clone(p[b-start:][:fs.nodeSize]) // so that one does not keep all
		if n, err := fs.parseNode(q, b, off+int64(b-start)); err == nil {
			fs.remember(n)
		}
	}
}
