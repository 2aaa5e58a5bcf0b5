package xfs

import (
	"io"
	"math"
	"sort"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// A btree of extents: the root is in the inode, and has keys and pointers, like the other
// nodes; leaves have extents.
const (
	bmapMagic   = "BMAP"
	bmapMagicV5 = "BMA3"
	maxLevel    = 9  // of the root; the leaves are level 0
	rootHeader  = 4  // level and number of records
	keySize     = 8  // first block of the fork
	pointerSize = 8  // block on the disk
	recordSize  = 16 // key and pointer
)

// node is a block of the tree, or its root, without the header.
type node struct {
	b     []byte
	count int
	max   int // pointers begin after as many keys
}

func (n node) key(i int) uint64     { return be.Uint64(n.b[i*keySize:]) }
func (n node) pointer(i int) uint64 { return be.Uint64(n.b[n.max*keySize+i*pointerSize:]) }
func (n node) extent(i int) extent  { return decodeExtent(n.b[i*extentSize:]) }

func (k *fork) checkRoot(off int64) error {
	if len(k.root) < rootHeader+recordSize {
		return corrupt.At(off, "inode %d: %d bytes for the root of a btree", k.owner, len(k.root))
	}
	level, n := k.rootNode()
	if level < 1 || level > maxLevel || n.count < 1 || n.count > n.max {
		return corrupt.At(off, "inode %d: root of a btree of level %d with %d of %d records", k.owner, level, n.count, n.max)
	}
	for i := 1; i < n.count; i++ {
		if n.key(i) <= n.key(i-1) {
			return corrupt.At(off, "inode %d: root of a btree: keys out of order", k.owner)
		}
	}
	return nil
}

func (k *fork) rootNode() (level int, n node) {
	b := k.root[rootHeader:]
	return int(be.Uint16(k.root)), node{b, int(be.Uint16(k.root[2:])), len(b) / recordSize}
}

// bmapHeader is the size of the header of a block of the tree.
func (s *superblock) bmapHeader() int {
	if s.v5 {
		return 72
	}
	return 24
}

// node reads a block of the tree.
func (k *fork) node(r io.ReaderAt, block uint64, level int) (node, error) {
	header := k.fs.sb.bmapHeader()
	take := func(b []byte) node {
		return node{b[header:], int(be.Uint16(b[6:])), (len(b) - header) / recordSize}
	}
	b, err := k.fs.block(r, block, k.owner, bmapLayout, func(b []byte, off int64) error {
		return k.checkNode(b, take(b), off)
	})
	if err != nil {
		return node{}, err
	}
	if got := int(be.Uint16(b[4:])); got != level {
		return node{}, corrupt.New("extent btree of inode %d: block %#x is of level %d, not %d", k.owner, block, got, level)
	}
	return take(b), nil
}

// checkNode looks at a block that is read for the first time.
func (k *fork) checkNode(b []byte, n node, off int64) error {
	magic := bmapMagic
	if k.fs.sb.v5 {
		magic = bmapMagicV5
	}
	if string(b[:4]) != magic || n.count < 1 || n.count > n.max {
		return corrupt.At(off, "extent btree of inode %d: magic number %q, %d of %d records", k.owner, b[:4], n.count, n.max)
	}
	from := uint64(0)
	for i := range n.count {
		if be.Uint16(b[4:]) == 0 {
			e := n.extent(i)
			if !k.fs.sb.sound(e, from) {
				return corrupt.At(off, "extent btree of inode %d: record %d: %d blocks at %#x for block %d", k.owner, i, e.count, e.block, e.start)
			}
			from = e.end()
		} else if i > 0 && n.key(i) <= n.key(i-1) {
			return corrupt.At(off, "extent btree of inode %d: keys out of order", k.owner)
		}
	}
	return nil
}

// search is at for a tree. The leaf where a block belongs may end before it: then it is the
// first extent of the next leaf.
func (k *fork) search(r io.ReaderAt, block uint64) (extent, bool, error) {
	for range 2 {
		leaf, low, high, err := k.leaf(r, block)
		if err != nil {
			return extent{}, false, err
		}
		if leaf.extent(0).start < low || leaf.extent(leaf.count-1).start >= high {
			return extent{}, false, corrupt.New("extent btree of inode %d: a leaf leaves the blocks %d to %d", k.owner, low, high)
		}
		i := sort.Search(leaf.count, func(i int) bool { return leaf.extent(i).end() > block })
		if i < leaf.count {
			return leaf.extent(i), true, nil
		}
		if high == math.MaxUint64 {
			return extent{}, false, nil
		}
		block = high
	}
	return extent{}, false, corrupt.New("extent btree of inode %d: nothing at block %d", k.owner, block)
}

// leaf goes down to the leaf where a block belongs, and says which blocks belong there.
func (k *fork) leaf(r io.ReaderAt, block uint64) (n node, low, high uint64, err error) {
	level, n := k.rootNode()
	high = math.MaxUint64
	for ; level > 0; level-- {
		i := max(sort.Search(n.count, func(i int) bool { return n.key(i) > block })-1, 0)
		low = max(low, n.key(i))
		if i+1 < n.count {
			high = min(high, n.key(i+1))
		}
		if n, err = k.node(r, n.pointer(i), level-1); err != nil {
			return node{}, 0, 0, err
		}
	}
	return n, low, high, nil
}
