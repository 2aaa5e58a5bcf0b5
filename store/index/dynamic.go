package index

import (
	"encoding/binary"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

// dynamicEntrySize is the end offset and the digest (reference
// "blobs-chunks-indexes", section 5).
const dynamicEntrySize = 8 + digestSize

var dynamicMagic = [magicSize]byte{0x1c, 0x91, 0x4e, 0xa5, 0x19, 0xba, 0xb3, 0xcd}

// ParseDynamic reads a complete dynamic index file.
func ParseDynamic(file []byte) (*Index, error) { return Parse(name.Dynamic, file) }

func readDynamic(r io.Reader, length int64) (*Index, error) {
	x, _, err := begin(r, length, dynamicMagic, dynamicEntrySize)
	if err != nil {
		return nil, err
	}
	var last uint64
	err = x.read(r, func(i int, page []byte) (err error) {
		for ; len(page) > 0 && err == nil; i, page = i+1, page[dynamicEntrySize:] {
			end := binary.LittleEndian.Uint64(page)
			err = checkEnd(i, last, end)
			last = end
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	x.size = int64(last)
	return x, nil
}

// checkEnd checks where entry i ends; last is where the one before it does.
func checkEnd(i int, last, end uint64) error {
	at := int64(headerSize + i*dynamicEntrySize)
	switch {
	case end <= last:
		return corrupt.At(at, "dynamic index: entry %d ends at %d, the one before it at %d", i, end, last)
	case end-last > maxChunk:
		return corrupt.At(at, "dynamic index: entry %d has %d bytes, a chunk has at most %d", i, end-last, maxChunk)
	case end > maxSize:
		return corrupt.At(at, "dynamic index: entry %d ends at %d, behind %d", i, end, uint64(maxSize))
	}
	return nil
}
