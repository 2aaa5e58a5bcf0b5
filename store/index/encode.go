package index

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/pbsfs/pbsfs/store/name"
)

// Header is what a new index says about itself.
type Header struct {
	UUID [16]byte
	Time time.Time // when it was made, cut to the second
}

// NewHeader returns a header of that time with a random UUID.
func NewHeader(t time.Time) Header {
	h := Header{Time: t}
	_, _ = rand.Read(h.UUID[:])       // never fails
	h.UUID[6] = h.UUID[6]&0x0f | 0x40 // version 4
	h.UUID[8] = h.UUID[8]&0x3f | 0x80 // variant of RFC 9562
	return h
}

// The header fields that both formats share (reference "blobs-chunks-indexes",
// sections 4 and 5).
const (
	uuidOff = 8
	timeOff = 24
	csumOff = 32
)

// Errors about entries that no index can have.
var (
	// ErrEntry matches the error about an entry that does not fit.
	ErrEntry = errors.New("entry does not fit into the index")
	// ErrIncomplete matches the error about an index that lacks entries.
	ErrIncomplete = errors.New("index is not complete")
)

// start returns the header of an index file, without what is only known at its
// end, and room for n entries.
func start(magic [magicSize]byte, h Header, room int) []byte {
	file := make([]byte, headerSize, headerSize+room)
	copy(file, magic[:])
	copy(file[uuidOff:], h.UUID[:])
	binary.LittleEndian.PutUint64(file[timeOff:], uint64(h.Time.Unix()))
	return file
}

// seal writes the checksum over the entries into the header.
func seal(file []byte) (csum [32]byte) {
	csum = sha256.Sum256(file[headerSize:])
	copy(file[csumOff:], csum[:])
	return csum
}

// DynamicWriter builds a dynamic index in memory, 40 bytes a chunk. It is not
// safe for concurrent use.
type DynamicWriter struct {
	file []byte
	end  int64
}

// NewDynamicWriter returns a writer of an index without entries.
func NewDynamicWriter(h Header) *DynamicWriter {
	return &DynamicWriter{file: start(dynamicMagic, h, 1024)}
}

// Add appends a chunk that ends at end, exclusively, and begins where the one
// before it ended.
func (w *DynamicWriter) Add(end int64, d name.Digest) error {
	switch {
	case w.file == nil:
		return fmt.Errorf("%w: it is finished", ErrEntry)
	case end <= w.end || end-w.end > maxChunk:
		return fmt.Errorf("%w: chunk from %d to %d, want 1 to %d bytes", ErrEntry, w.end, end, maxChunk)
	case end > maxSize:
		return fmt.Errorf("%w: chunk ends at %d", ErrEntry, end)
	}
	w.file = append(binary.LittleEndian.AppendUint64(w.file, uint64(end)), d[:]...)
	w.end = end
	return nil
}

// Size returns where the last chunk ends.
func (w *DynamicWriter) Size() int64 { return w.end }

// Len returns the number of chunks.
func (w *DynamicWriter) Len() int { return max(len(w.file)-headerSize, 0) / dynamicEntrySize }

// Finish returns the complete file and the checksum that the manifest must
// have. An index without entries is none. The writer is of no use afterwards.
func (w *DynamicWriter) Finish() (file []byte, csum [32]byte, err error) {
	if w.end == 0 {
		return nil, csum, fmt.Errorf("%w: no entries", ErrIncomplete)
	}
	file, *w = w.file, DynamicWriter{}
	return file, seal(file), nil
}

// maxFixedEntries bounds the memory of a fixed index that is being written: to
// 8 GiB, for an image of 1 PiB in chunks of 4 MiB.
const maxFixedEntries = 1 << 28

// FixedWriter builds a fixed index in memory, 32 bytes a chunk. Its entries can
// be set in any order. It is not safe for concurrent use.
type FixedWriter struct {
	file []byte
	size int64
	cs   int64
	set  []uint64 // a bit for each entry
	left int      // entries to be set
}

// NewFixedWriter returns a writer of the index of an image of that size, which
// is not 0, in chunks of chunkSize, a power of two.
func NewFixedWriter(h Header, size, chunkSize int64) (*FixedWriter, error) {
	switch {
	case chunkSize <= 0 || chunkSize > maxChunk || chunkSize&(chunkSize-1) != 0:
		return nil, fmt.Errorf("chunk size %d, want a power of two up to %d", chunkSize, maxChunk)
	case size <= 0 || (size-1)/chunkSize >= maxFixedEntries:
		return nil, fmt.Errorf("image of %d bytes, want 1 to %d", size, maxFixedEntries*chunkSize)
	}
	n := int((size-1)/chunkSize) + 1
	file := start(fixedMagic, h, n*digestSize)
	binary.LittleEndian.PutUint64(file[fixedSizeOff:], uint64(size))
	binary.LittleEndian.PutUint64(file[fixedChunkSizeOff:], uint64(chunkSize))
	return &FixedWriter{
		file: file[:headerSize+n*digestSize],
		size: size, cs: chunkSize, set: make([]uint64, (n+63)/64), left: n,
	}, nil
}

// Set says which chunk is the i-th. It may be said more than once.
func (w *FixedWriter) Set(i int, d name.Digest) error {
	if i < 0 || i >= w.Len() {
		return fmt.Errorf("%w: number %d of %d", ErrEntry, i, w.Len())
	}
	copy(w.file[headerSize+i*digestSize:], d[:])
	if bit := uint64(1) << (i % 64); w.set[i/64]&bit == 0 {
		w.set[i/64] |= bit
		w.left--
	}
	return nil
}

// Len returns the number of chunks.
func (w *FixedWriter) Len() int { return max(len(w.file)-headerSize, 0) / digestSize }

// Finish returns the complete file and the checksum that the manifest must
// have. All entries must have been set. The writer is of no use afterwards.
func (w *FixedWriter) Finish() (file []byte, csum [32]byte, err error) {
	if w.left > 0 || w.file == nil {
		return nil, csum, fmt.Errorf("%w: %d entries are not set", ErrIncomplete, w.left)
	}
	file, *w = w.file, FixedWriter{}
	return file, seal(file), nil
}
