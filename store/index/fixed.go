package index

import (
	"encoding/binary"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// The header fields of a fixed index that are read (reference
// "blobs-chunks-indexes", section 4). An entry is a digest.
const (
	fixedSizeOff      = 64
	fixedChunkSizeOff = 72
)

var fixedMagic = [magicSize]byte{0x2f, 0x7f, 0x41, 0xed, 0x91, 0xfd, 0x0f, 0xcd}

func readFixed(r io.Reader, length int64) (*Index, error) {
	x, header, err := begin(r, length, fixedMagic, digestSize)
	if err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint64(header[fixedSizeOff:])
	chunkSize := binary.LittleEndian.Uint64(header[fixedChunkSizeOff:])
	switch {
	case chunkSize == 0 || chunkSize > maxChunk || chunkSize&(chunkSize-1) != 0:
		return nil, corrupt.At(fixedChunkSizeOff, "fixed index has chunk size %d, want a power of two up to %d", chunkSize, maxChunk)
	case size == 0 || size > maxSize:
		return nil, corrupt.At(fixedSizeOff, "fixed index has size %d, want 1 to %d", size, uint64(maxSize))
	}
	// Not (size+chunkSize-1)/chunkSize, which could wrap for other limits.
	want := (size-1)/chunkSize + 1
	if have := uint64(x.Len()); have != want {
		return nil, corrupt.At(headerSize, "fixed index has %d entries, its size of %d needs %d", have, size, want)
	}
	x.size, x.chunkSize = int64(size), int64(chunkSize)
	if err := x.read(r, func(int, []byte) error { return nil }); err != nil {
		return nil, err
	}
	return x, nil
}
