package btrfs

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A decompressor returns at most limit bytes, and of what src begins with the part that is needed: stored
// bytes fill whole sectors.
type decompressor func(src []byte, limit, sectorSize int) ([]byte, error)

// decompressors are in the order of their types.
var decompressors = []decompressor{nil, unzlib, unlzo, unzstd}

var errTooLong = errors.New("more than there should be")

// extentKey finds a decompressed extent. What was not verified is not given to who wants it to be.
type extentKey struct {
	disk, diskSize, ram uint64
	method              uint8
	verified            bool
}

func (f *file) key(c piece) extentKey {
	return extentKey{c.disk, c.diskSize, c.ram, c.method, f.inode.flags&flagNoDataSum == 0}
}

// decompressed returns an extent as long as it should be.
func (f *file) decompressed(c piece, src []byte) ([]byte, error) {
	p, err := decompressors[c.method](src, int(c.ram), f.fs.sectorSize)
	// The end of a file may fill only a part of its last sector.
	if err == nil && len(p)+f.fs.sectorSize <= int(c.ram) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, f.inode.wrong("extent at address %d cannot be decompressed: %v", c.disk, err)
	}
	q := make([]byte, c.ram)
	copy(q, p)
	f.fs.extents.Put(f.key(c), q, int64(len(q)))
	return q, nil
}

// inlineContent gives a piece its part of content that lies in a tree.
func (f *file) inlineContent(c piece) error {
	p := c.inline
	if c.method != 0 {
		var err error
		p, err = decompressors[c.method](p, int(c.ram), f.fs.sectorSize)
		if err == nil && len(p) < int(c.ram) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return f.inode.wrong("extent in its item cannot be decompressed: %v", err)
		}
	}
	n := 0
	if c.offset < uint64(len(p)) {
		n = copy(c.p, p[c.offset:])
	}
	clear(c.p[n:])
	return nil
}

func unzlib(src []byte, limit, _ int) ([]byte, error) {
	z, err := zlib.NewReader(bytes.NewReader(src))
	if err != nil {
		return nil, err
	}
	p := make([]byte, limit+1) // one more, so that the end is seen, and its checksum verified
	n, err := io.ReadFull(z, p)
	switch {
	case err == nil:
		return nil, errTooLong
	case n == 0 && errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && n > 0:
		return p[:n], nil
	}
	return nil, err
}

// zstdDecoders work in the goroutine of their caller and have none of their own.
var zstdDecoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxExtent), zstd.WithDecoderMaxMemory(maxExtent))
	if err != nil {
		panic("btrfs: options of the zstd decoder: " + err.Error()) // constants above
	}
	return d
}}

func unzstd(src []byte, limit, _ int) ([]byte, error) {
	src, err := zstdFrame(src)
	if err != nil {
		return nil, err
	}
	d := zstdDecoders.Get().(*zstd.Decoder)
	defer zstdDecoders.Put(d)
	p, err := d.DecodeAll(src, make([]byte, 0, limit))
	if err == nil && len(p) > limit {
		err = errTooLong
	}
	return p, err
}

// zstdFrame returns the frame that src begins with; what follows it is no part of a stream.
func zstdFrame(src []byte) ([]byte, error) {
	const blockHeader = 3
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return nil, err
	}
	for at := h.HeaderSize; at+blockHeader <= len(src); {
		b := uint32(binary.LittleEndian.Uint16(src[at:])) | uint32(src[at+2])<<16
		at += blockHeader
		if b>>1&3 == 1 { // one byte, to be repeated
			at++
		} else {
			at += int(b >> 3)
		}
		if b&1 == 0 {
			continue
		}
		if h.HasCheckSum {
			at += 4
		}
		if at > len(src) {
			break
		}
		return src[:at], nil
	}
	return nil, io.ErrUnexpectedEOF
}
