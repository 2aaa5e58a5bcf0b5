package xfs

import (
	"io"
	"math/bits"
	"sort"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// The index of a directory: a block of hashes, or a tree of nodes over such blocks. The
// attributes have a tree of the same nodes.
const (
	leafAloneMagic   = 0xd2f1
	leafAloneMagicV5 = 0x3df1
	leafMagic        = 0xd2ff
	leafMagicV5      = 0x3dff
	nodeMagic        = 0xfebe
	nodeMagicV5      = 0x3ebe
	maxDepth         = 5 // of nodes
	hashSize         = 8 // of a hash and what belongs to it
	maxSiblings      = 64
)

// index is a block of the tree: pairs of a hash and where it leads.
type index struct {
	pairs []byte
	leaf  bool
	next  uint32 // leaf to the right, 0 if none
	level int    // of a node
}

func (x index) count() int        { return len(x.pairs) / hashSize }
func (x index) hash(i int) uint32 { return be.Uint32(x.pairs[i*hashSize:]) }
func (x index) to(i int) uint32   { return be.Uint32(x.pairs[i*hashSize+4:]) }

// search returns the first pair with at least a hash.
func (x index) search(hash uint32) int {
	return sort.Search(x.count(), func(i int) bool { return x.hash(i) >= hash })
}

// indexHeader is the size of the header of a node, and of a leaf of a directory.
func (s *superblock) indexHeader() int {
	if s.v5 {
		return 64
	}
	return 16
}

// decodeNode takes a node apart. It returns false for another kind of block.
func (s *superblock) decodeNode(b []byte, off int64) (index, bool, error) {
	want, at := uint16(nodeMagic), 12
	if s.v5 {
		want, at = nodeMagicV5, 56
	}
	if be.Uint16(b[8:]) != want {
		return index{}, false, nil
	}
	header, n := s.indexHeader(), int(be.Uint16(b[at:]))
	x := index{level: int(be.Uint16(b[at+2:]))}
	if n < 1 || header+n*hashSize > len(b) || x.level < 1 || x.level > maxDepth {
		return index{}, true, corrupt.At(off, "node of level %d with %d hashes", x.level, n)
	}
	x.pairs = b[header:][:n*hashSize]
	return x, true, nil
}

// decodeIndex takes a block of a directory's index apart.
func (d *directory) decodeIndex(b []byte, off int64) (index, error) {
	s := d.fs.sb
	if x, ok, err := s.decodeNode(b, off); ok || err != nil {
		return x, err
	}
	alone, many, at := uint16(leafAloneMagic), uint16(leafMagic), 12
	if s.v5 {
		alone, many, at = leafAloneMagicV5, leafMagicV5, 56
	}
	magic := be.Uint16(b[8:])
	header, n := s.indexHeader(), int(be.Uint16(b[at:]))
	if magic != alone && magic != many || header+n*hashSize > len(b) {
		return index{}, corrupt.At(off, "index of directory %d: magic number %#x, %d hashes", d.in.number, magic, n)
	}
	x := index{pairs: b[header:][:n*hashSize], leaf: true}
	if magic == many {
		x.next = be.Uint32(b)
	}
	return x, nil
}

// indexBlock reads a block of the index.
func (d *directory) indexBlock(r io.ReaderAt, block uint32) (index, error) {
	check := func(b []byte, off int64) error {
		if err := d.fs.verify(b, off, d.in.number, indexLayout); err != nil {
			return err
		}
		_, err := d.decodeIndex(b, off)
		return err
	}
	b, off, err := d.read(r, uint64(block), d.per, indexLayout, check)
	if err != nil {
		return index{}, err
	}
	return d.decodeIndex(b, off)
}

// find looks a name up in the index. It is sure that a name is not there if the log is clean, checksums say
// that the index is as it was written, and the hash is one that does not depend on who
// wrote it.
func (d *directory) find(r io.ReaderAt, name string) (found image.Entry, sure bool, err error) {
	first := uint32(indexOffset / d.fs.sb.blockSize)
	e, ok, err := d.fork.at(r, uint64(first))
	if err != nil || !ok || e.start > uint64(first) {
		return image.Entry{}, false, err // all is in one block
	}
	hash := hashName(name, d.fs.sb.ci)
	x, err := d.leaf(r, first, hash)
	if err != nil {
		return image.Entry{}, false, err
	}
	lowest := uint64(1 << 63)
	for range maxSiblings {
		i := x.search(hash)
		for ; i < x.count() && x.hash(i) == hash; i++ {
			if at := uint64(x.to(i)) * 8; at > 0 && at < lowest {
				e, err := d.entryAt(r, at)
				if err != nil {
					return image.Entry{}, false, err
				}
				if e.Name == name {
					found, lowest = e, at
				}
			}
		}
		if i < x.count() || x.next == 0 {
			return found, d.fs.sb.v5 && !d.fs.sb.ci && !d.fs.dirty, nil
		}
		if x, err = d.indexBlock(r, x.next); err != nil {
			return image.Entry{}, false, err
		}
		if !x.leaf {
			return image.Entry{}, false, corrupt.New("index of directory %d: a node beside leaves", d.in.number)
		}
	}
	return image.Entry{}, false, nil
}

// leaf goes down to the first leaf that may have a hash.
func (d *directory) leaf(r io.ReaderAt, block, hash uint32) (index, error) {
	x, err := d.indexBlock(r, block)
	for level := maxDepth + 1; err == nil && !x.leaf; {
		if x.level >= level {
			return x, corrupt.New("index of directory %d: block %d is of level %d", d.in.number, block, x.level)
		}
		level = x.level
		block = x.to(min(x.search(hash), x.count()-1))
		x, err = d.indexBlock(r, block)
	}
	return x, err
}

// entryAt returns the entry at a place of the directory.
func (d *directory) entryAt(r io.ReaderAt, at uint64) (image.Entry, error) {
	size := uint64(d.fs.sb.dirSize)
	if at >= indexOffset {
		return image.Entry{}, corrupt.New("index of directory %d: it leads to %#x", d.in.number, at)
	}
	b, err := d.block(r, at/size)
	if err != nil {
		return image.Entry{}, err
	}
	end, err := d.namesEnd(b)
	if err != nil {
		return image.Entry{}, err
	}
	e, _, err := d.entry(b, int(at%size), end)
	return e, err
}

// hashName is the hash of a name in directories, and of attributes. Where case does not
// count, it is that of the name with small letters.
func hashName(name string, ci bool) uint32 {
	hash := uint32(0)
	for i := range len(name) {
		c := name[i]
		if ci && c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		hash = uint32(c) ^ bits.RotateLeft32(hash, 7)
	}
	return hash
}
