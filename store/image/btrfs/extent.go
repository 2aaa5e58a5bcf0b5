package btrfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/pbsfs/pbsfs/store/image"
)

const (
	inlineHeader = 21
	extentSize   = 53
	maxExtent    = 128 << 10 // of compressed extents, before and after
)

// Types of extents.
const (
	extentInline = iota
	extentRegular
	extentPrealloc
)

// extent is a range of a file.
type extent struct {
	start, end int64 // in the file
	data       bool  // no hole, and written
	inline     []byte
	method     uint8 // of compression

	disk, diskSize uint64 // address of what is stored, and its length
	ram            uint64 // length after decompression
	offset         uint64 // of start, in what is stored, or decompressed
}

// parseExtent decodes the item for the range that begins at start.
func (f *file) parseExtent(start uint64, p []byte) (e extent, err error) {
	wrong := func(reason string) (extent, error) {
		return e, f.inode.wrong("extent at %d: %s", start, reason)
	}
	if len(p) < inlineHeader {
		return wrong("its item is too short")
	}
	le := binary.LittleEndian
	e = extent{start: int64(start), ram: le.Uint64(p[8:]), method: p[16]}
	if p[17] != 0 || p[18] != 0 || p[19] != 0 {
		return e, fmt.Errorf("btrfs object %d in tree %d has an extent with encryption or another encoding: %w", f.inode.object, f.inode.tree.id, image.ErrUnsupported)
	}
	if int(e.method) >= len(decompressors) {
		return e, fmt.Errorf("btrfs object %d in tree %d has an extent with compression of type %d: %w", f.inode.object, f.inode.tree.id, e.method, image.ErrUnsupported)
	}
	sector := uint64(f.fs.sectorSize)
	if start%sector != 0 || start > math.MaxInt64 {
		return wrong("impossible place")
	}
	if p[20] == extentInline {
		e.inline, e.data = p[inlineHeader:], true
		if start != 0 || e.ram > maxExtent || e.method == 0 && e.ram != uint64(len(e.inline)) {
			return wrong("impossible length of content in its item")
		}
		e.end = int64((e.ram + sector - 1) / sector * sector)
		return e, nil
	}
	if p[20] > extentPrealloc || len(p) != extentSize {
		return wrong("impossible type or size of its item")
	}
	e.disk, e.diskSize, e.offset = le.Uint64(p[21:]), le.Uint64(p[29:]), le.Uint64(p[37:])
	length := le.Uint64(p[45:])
	e.data = e.disk != 0 && p[20] == extentRegular
	if length == 0 || length%sector != 0 || length > math.MaxInt64-start {
		return wrong("impossible length")
	}
	e.end = int64(start + length)
	if !e.data {
		return e, nil
	}
	limit := e.diskSize
	if e.method != 0 {
		if limit = e.ram; e.ram > maxExtent || e.diskSize > maxExtent {
			return wrong("too large for one that is compressed")
		}
	}
	switch {
	case e.disk%sector != 0 || e.diskSize%sector != 0 || e.offset%sector != 0 || e.diskSize == 0:
		return wrong("impossible place on disk")
	case e.offset > limit || length > limit-e.offset || e.disk > math.MaxInt64 || e.diskSize > math.MaxInt64:
		return wrong("it is longer than what is stored")
	}
	return e, nil
}

// after returns what is left of an extent from a place in the file on.
func (e extent) after(off int64) extent {
	if n := off - e.start; n > 0 {
		e.start, e.offset = off, e.offset+uint64(n)
	}
	return e
}

// extentsOf calls fn with ranges of a file, without a gap from off up to end, until it returns false.
// The last one may be longer.
func (f *file) extentsOf(r io.ReaderAt, off, end int64, fn func(e extent) (bool, error)) error {
	in := f.inode
	from, to := key{in.object, extentData, uint64(off)}, key{in.object, extentData, uint64(end - 1)}
	k, _, err := f.fs.floor(r, in.tree, from)
	if err != nil {
		return err
	}
	if k.object == in.object && k.kind == extentData {
		from = k
	}
	var failed error
	more, done := true, int64(0) // done: where the last item ended
	wrong := damage{max: 1}
	f.fs.scan(r, in.tree, from, to, &wrong, func(k key, p []byte) bool {
		var e extent
		if e, failed = f.parseExtent(k.offset, p); failed != nil {
			return false
		}
		if e.start < done {
			failed = in.wrong("extents overlap at %d", e.start)
			return false
		}
		done = e.end
		if e.end <= off {
			return true
		}
		if e.start > off {
			if more, failed = fn(extent{start: off, end: e.start}); failed != nil || !more {
				return false
			}
		}
		more, failed = fn(e.after(off))
		off = e.end
		return failed == nil && more && off < end
	})
	if failed != nil {
		return failed
	}
	if err := wrong.err(); err != nil {
		return err
	}
	if more && off < end {
		_, err = fn(extent{start: off, end: end})
	}
	return err
}
