package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const (
	magicSize   = 8
	pointerSize = 8 // the offset of the root block, at the end of the stream
	minBlock    = 2 // an empty directory

	// firstRead is how much is read of a directory whose length is not
	// known yet. Most are shorter.
	firstRead = 4096
	// readStep bounds how far memory runs ahead of the bytes that there
	// really are.
	readStep = 1 << 20
)

var magic = [magicSize]byte{0x91, 0xfd, 0x60, 0xf9, 0xc4, 0x67, 0x58, 0xd5}

// Catalog is a catalog whose frame was checked. It does not hold the stream.
type Catalog struct {
	size int64 // of the stream
	root int64 // offset of the root block
}

// Open checks the frame of the stream of size bytes that r reads.
func Open(r io.ReaderAt, size int64) (*Catalog, error) {
	if size < magicSize+minBlock+pointerSize {
		return nil, corrupt.At(0, "catalog of %d bytes is too short", size)
	}
	var head [magicSize]byte
	if err := readFull(r, head[:], 0); err != nil {
		return nil, err
	}
	if head != magic {
		return nil, corrupt.At(0, "catalog has magic number %x, want %x", head, magic)
	}
	var pointer [pointerSize]byte
	if err := readFull(r, pointer[:], size-pointerSize); err != nil {
		return nil, err
	}
	root := binary.LittleEndian.Uint64(pointer[:])
	if root < magicSize || root >= uint64(size-pointerSize) {
		return nil, corrupt.At(size-pointerSize, "catalog of %d bytes has its root at %d", size, root)
	}
	return &Catalog{size: size, root: int64(root)}, nil
}

// readFull fills buf from off. A stream that ends early is corrupt: its length
// comes from the index.
func readFull(r io.ReaderAt, buf []byte, off int64) error {
	n, err := r.ReadAt(buf, off)
	switch {
	case n == len(buf):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return corrupt.At(off+int64(n), "catalog ends early")
	}
	return fmt.Errorf("read catalog at offset %d: %w", off, err)
}

// read reads the directory block at start, which must end at limit or before
// and have a table of at most maxLen bytes. It uses the memory of the table
// that t was before.
func (t *table) read(r io.ReaderAt, start, limit, maxLen int64) error {
	buf := grow(t.block[:0], min(limit-start, firstRead))
	if err := readFull(r, buf, start); err != nil {
		return err
	}
	length, n := unsigned(buf)
	switch {
	case n == 0:
		return corrupt.At(start, "catalog: directory has no valid length")
	case length == 0:
		return corrupt.At(start, "catalog: directory has no table")
	case length > uint64(limit-start-int64(n)):
		return corrupt.At(start, "catalog: directory of %d bytes leaves the %d there are for it", length, limit-start)
	case length > uint64(maxLen):
		return corrupt.At(start, "catalog: directory of %d bytes, want at most %d", length, maxLen)
	}
	size := int64(n) + int64(length)
	buf = buf[:min(int64(len(buf)), size)]
	for have := int64(len(buf)); have < size; have = int64(len(buf)) {
		buf = grow(buf, min(size-have, readStep))
		if err := readFull(r, buf[have:], start+have); err != nil {
			return err
		}
	}
	*t = table{start: start, size: size, block: buf, buf: buf[n:]}
	return t.init()
}

// grow makes buf longer by n bytes of any content.
func grow(buf []byte, n int64) []byte {
	return slices.Grow(buf, int(n))[:int64(len(buf))+n]
}
