package index

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sort"
	"unsafe"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

const (
	headerSize = 4096 // of either format; the entries begin behind it
	magicSize  = 8
	digestSize = 32

	// maxChunk is the most data a chunk can have.
	maxChunk = 16 << 20
	// maxSize is the largest logical size. It leaves room for sums and
	// differences of offsets in an int64.
	maxSize = 1 << 62
)

// Index is a parsed and checked index.
type Index struct {
	file      []byte // the complete file
	entrySize int
	chunkSize int64 // 0: dynamic
	size      int64
	csum      [32]byte
}

// Span is what one entry says: the bytes [Off, End) of the archive are the
// data of the chunk called Digest.
type Span struct {
	Digest   name.Digest
	Off, End int64
}

// Parse reads a complete index file of the format, which is not
// [name.Blob]. The index keeps file.
func Parse(format name.Format, file []byte) (*Index, error) {
	switch format {
	case name.Fixed:
		return ParseFixed(file)
	case name.Dynamic:
		return ParseDynamic(file)
	case name.Blob:
	}
	return nil, fmt.Errorf("a file of format %q is no index", format)
}

// newIndex makes the checks that both formats share.
func newIndex(file []byte, magic [magicSize]byte, entrySize int) (*Index, error) {
	if len(file) < headerSize {
		return nil, corrupt.At(0, "index of %d bytes is shorter than its header of %d", len(file), headerSize)
	}
	if got := [magicSize]byte(file); got != magic {
		return nil, corrupt.At(0, "index has magic number %x, want %x", got, magic)
	}
	entries := file[headerSize:]
	switch {
	case len(entries) == 0:
		return nil, corrupt.At(headerSize, "index has no entries")
	case len(entries)%entrySize != 0:
		return nil, corrupt.At(headerSize, "index has %d bytes of entries, not a multiple of %d", len(entries), entrySize)
	}
	return &Index{file: file, entrySize: entrySize}, nil
}

// entry returns the bytes of entry i.
func (x *Index) entry(i int) []byte {
	off := headerSize + i*x.entrySize
	return x.file[off : off+x.entrySize]
}

// Size returns the length of the archive or image.
func (x *Index) Size() int64 { return x.size }

// Len returns the number of entries; it is at least 1.
func (x *Index) Len() int { return (len(x.file) - headerSize) / x.entrySize }

// Csum returns the checksum that the manifest must have for this index. It
// was computed from the entries.
func (x *Index) Csum() [32]byte { return x.csum }

// ChunkSize returns the length of every chunk but the last, 0 for a dynamic
// index.
func (x *Index) ChunkSize() int64 { return x.chunkSize }

// MemSize returns the bytes of memory that the index holds.
func (x *Index) MemSize() int64 { return int64(cap(x.file)) + int64(unsafe.Sizeof(*x)) }

// Find returns the entry that holds the byte at off; ok is false when there is
// no such byte. A fixed index answers at once, a dynamic one after a binary
// search.
func (x *Index) Find(off int64) (i int, ok bool) {
	if off < 0 || off >= x.size {
		return 0, false
	}
	if x.chunkSize != 0 {
		return int(off / x.chunkSize), true
	}
	return sort.Search(x.Len(), func(i int) bool { return x.end(i) > off }), true
}

// Span returns entry i, which must be from 0 to Len()-1.
func (x *Index) Span(i int) Span {
	entry := x.entry(i)
	return Span{
		Digest: name.Digest(entry[x.entrySize-digestSize:]),
		Off:    x.end(i - 1),
		End:    x.end(i),
	}
}

// end returns where entry i ends and the next one begins; end(-1) is 0.
func (x *Index) end(i int) int64 {
	switch {
	case i < 0:
		return 0
	case x.chunkSize == 0:
		return int64(binary.LittleEndian.Uint64(x.entry(i)))
	case i == x.Len()-1:
		return x.size // the last chunk may be short
	}
	return int64(i+1) * x.chunkSize
}

// sum computes the checksum over the entries.
func (x *Index) sum() [32]byte { return sha256.Sum256(x.file[headerSize:]) }
