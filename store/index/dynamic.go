package index

import (
	"encoding/binary"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// dynamicEntrySize is the end offset and the digest (reference
// "blobs-chunks-indexes", section 5).
const dynamicEntrySize = 8 + digestSize

var dynamicMagic = [magicSize]byte{0x1c, 0x91, 0x4e, 0xa5, 0x19, 0xba, 0xb3, 0xcd}

// ParseDynamic reads a complete dynamic index file. The index keeps file.
func ParseDynamic(file []byte) (*Index, error) {
	x, err := newIndex(file, dynamicMagic, dynamicEntrySize)
	if err != nil {
		return nil, err
	}
	var last uint64
	for i := range x.Len() {
		end := binary.LittleEndian.Uint64(x.entry(i))
		at := int64(headerSize + i*dynamicEntrySize)
		switch {
		case end <= last:
			return nil, corrupt.At(at, "dynamic index: entry %d ends at %d, the one before it at %d", i, end, last)
		case end-last > maxChunk:
			return nil, corrupt.At(at, "dynamic index: entry %d has %d bytes, a chunk has at most %d", i, end-last, maxChunk)
		case end > maxSize:
			return nil, corrupt.At(at, "dynamic index: entry %d ends at %d, behind %d", i, end, uint64(maxSize))
		}
		last = end
	}
	x.size = int64(last)
	x.csum = x.sum()
	return x, nil
}
