package ext

import (
	"encoding/binary"
	"io"
	"math"
	"sort"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const (
	extentMagic    = 0xf30a
	extentSize     = 12      // of the header, too
	maxExtentDepth = 5       // more is never needed
	maxWritten     = 1 << 15 // blocks of an extent; a larger number says that it was not written
)

// extentNode is a node of an extent tree.
type extentNode struct {
	entries []byte // of 12 bytes each
	depth   int
}

func (n extentNode) len() int { return len(n.entries) / extentSize }

// first returns the first block of the file that entry i is about.
func (n extentNode) first(i int) uint64 {
	return uint64(binary.LittleEndian.Uint32(n.entries[i*extentSize:]))
}

// before returns the last entry that begins at or before block; -1 if there is none.
func (n extentNode) before(block uint64) int {
	return sort.Search(n.len(), func(i int) bool { return n.first(i) > block }) - 1
}

// child returns where the node below entry i lies.
func (n extentNode) child(i int) uint64 {
	e := n.entries[i*extentSize:]
	return uint64(binary.LittleEndian.Uint32(e[4:])) | uint64(binary.LittleEndian.Uint16(e[8:]))<<32
}

// leaf decodes entry i of a leaf.
func (n extentNode) leaf(i int) run {
	e := n.entries[i*extentSize:]
	le := binary.LittleEndian
	x := run{start: uint64(le.Uint32(e)), count: uint64(le.Uint16(e[4:])), place: uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32, data: true}
	if x.count > maxWritten {
		x.count, x.data = x.count-maxWritten, false
	}
	return x
}

// extent finds a block in the extent tree. Each node lies within what the entry above it
// covers, so that a walk through a file never meets a node twice.
func (c content) extent(r io.ReaderAt, block uint64) (run, error) {
	n, reason := parseExtents(c.inode.block[:])
	if reason != "" {
		return run{}, corrupt.At(c.inode.off, "ext inode %d: root of the extent tree: %s", c.inode.Number, reason)
	}
	start, end := uint64(0), uint64(math.MaxUint32+1) // what n covers
	for n.depth > 0 {
		i := n.before(block)
		if i < 0 {
			return run{start: block, count: n.first(0) - block}, nil
		}
		if i+1 < n.len() {
			end = n.first(i + 1)
		}
		start = n.first(i)
		var err error
		if n, err = c.extentNode(r, n.child(i), n.depth-1, start, end); err != nil {
			return run{}, err
		}
	}
	return c.inLeaf(n, block, end)
}

func (c content) inLeaf(n extentNode, block, end uint64) (run, error) {
	i := n.before(block)
	if i+1 < n.len() {
		end = n.first(i + 1)
	}
	if i >= 0 {
		x := n.leaf(i)
		if block < x.end() {
			if err := c.fs.checkPlace(c.inode, x.place, x.count); err != nil {
				return run{}, err
			}
			skip := block - x.start
			return run{block, x.count - skip, x.place + skip, x.data}, nil
		}
	}
	return run{start: block, count: end - block}, nil
}

// extentNode reads the node at a place, that has to cover blocks from start up to end.
func (c content) extentNode(r io.ReaderAt, place uint64, depth int, start, end uint64) (extentNode, error) {
	key := cacheKey{place, uint32(c.inode.Number), kindExtents}
	wrong := func(reason string) error {
		return corrupt.At(c.fs.at(place), "extent block of ext inode %d: %s", c.inode.Number, reason)
	}
	if err := c.fs.checkPlace(c.inode, place, 1); err != nil {
		return extentNode{}, err
	}
	p, err := c.fs.verified(r, key, "extent block", func(p []byte) error {
		if !c.extentBlockIsRight(p) {
			return wrong("wrong checksum")
		}
		if _, reason := parseExtents(p); reason != "" {
			return wrong(reason)
		}
		return nil
	})
	if err != nil {
		return extentNode{}, err
	}
	n, reason := parseExtents(p)
	switch last := n.len() - 1; {
	case reason != "":
		return n, wrong(reason)
	case n.depth != depth:
		return n, wrong("wrong depth")
	case n.len() == 0:
		return n, wrong("it is empty")
	case n.first(0) < start || n.first(last) >= end || depth == 0 && n.leaf(last).end() > end:
		return n, wrong("it covers blocks that belong to another one")
	}
	return n, nil
}

func (c content) extentBlockIsRight(p []byte) bool {
	if !c.fs.checksums() {
		return true
	}
	tail := extentSize * (1 + int(binary.LittleEndian.Uint16(p[4:])))
	return tail+4 <= len(p) && chksum(c.inode.seed, p[:tail]) == binary.LittleEndian.Uint32(p[tail:])
}

// parseExtents decodes a node, and says what is wrong with it.
func parseExtents(p []byte) (extentNode, string) {
	le := binary.LittleEndian
	entries, limit, depth := int(le.Uint16(p[2:])), int(le.Uint16(p[4:])), int(le.Uint16(p[6:]))
	switch {
	case le.Uint16(p) != extentMagic:
		return extentNode{}, "wrong magic"
	case entries > limit || extentSize*(1+limit) > len(p):
		return extentNode{}, "more entries than there is room"
	case depth > maxExtentDepth:
		return extentNode{}, "too deep"
	case depth > 0 && entries == 0:
		return extentNode{}, "it is empty"
	}
	n := extentNode{p[extentSize:][:entries*extentSize], depth}
	for i := range entries {
		if i > 0 && n.first(i) <= n.first(i-1) {
			return n, "entries are not in order"
		}
		if depth > 0 {
			continue
		}
		if x := n.leaf(i); x.count == 0 || x.end() > math.MaxUint32+1 || i+1 < entries && x.end() > n.first(i+1) {
			return n, "entries overlap"
		}
	}
	return n, ""
}
