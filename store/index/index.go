package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
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

// pageEntries is how many entries a page has.
const pageEntries = 128

// Index is a parsed and checked index.
type Index struct {
	// pages are the entries, pageEntries in each but the last one. A page
	// whose entries are all the same has it once.
	pages     [][]byte
	count     int // entries
	mem       int64
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
// [name.Blob].
func Parse(format name.Format, file []byte) (*Index, error) {
	return Read(format, bytes.NewReader(file), int64(len(file)))
}

// Read reads an index file of the format, which is not [name.Blob], of size bytes
// from r, a page at a time.
func Read(format name.Format, r io.Reader, size int64) (*Index, error) {
	switch format {
	case name.Fixed:
		return readFixed(r, size)
	case name.Dynamic:
		return readDynamic(r, size)
	case name.Blob:
	}
	return nil, fmt.Errorf("a file of format %q is no index", format)
}

// begin reads the header and makes the checks that both formats share.
func begin(r io.Reader, size int64, magic [magicSize]byte, entrySize int) (x *Index, header []byte, err error) {
	if size < headerSize {
		return nil, nil, corrupt.At(0, "index of %d bytes is shorter than its header of %d", size, headerSize)
	}
	header = make([]byte, headerSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, nil, err
	}
	if got := [magicSize]byte(header); got != magic {
		return nil, nil, corrupt.At(0, "index has magic number %x, want %x", got, magic)
	}
	entries := size - headerSize
	switch {
	case entries == 0:
		return nil, nil, corrupt.At(headerSize, "index has no entries")
	case entries%int64(entrySize) != 0:
		return nil, nil, corrupt.At(headerSize, "index has %d bytes of entries, not a multiple of %d", entries, entrySize)
	}
	return &Index{count: int(entries / int64(entrySize)), entrySize: entrySize}, header, nil
}

// read reads the entries. check looks at those of one page, of which the first
// is number i.
func (x *Index) read(r io.Reader, check func(i int, page []byte) error) error {
	sum := sha256.New()
	block := make([]byte, 16*pageEntries*x.entrySize)
	for i := 0; i < x.count; {
		n := min(x.count-i, len(block)/x.entrySize)
		if _, err := io.ReadFull(r, block[:n*x.entrySize]); err != nil {
			return err
		}
		sum.Write(block[:n*x.entrySize])
		for page := range slices.Chunk(block[:n*x.entrySize], pageEntries*x.entrySize) {
			if err := check(i, page); err != nil {
				return err
			}
			x.keep(page)
			i += len(page) / x.entrySize
		}
	}
	sum.Sum(x.csum[:0])
	x.mem += int64(cap(x.pages))*int64(unsafe.Sizeof(x.pages[0])) + int64(unsafe.Sizeof(*x))
	return nil
}

// keep adds a page. Images have long holes, and those take nearly nothing.
func (x *Index) keep(page []byte) {
	n := x.entrySize
	if bytes.Equal(page[n:], page[:len(page)-n]) {
		page = page[:n]
		if last := len(x.pages) - 1; last >= 0 && bytes.Equal(x.pages[last], page) {
			x.pages = append(x.pages, x.pages[last])
			return
		}
	}
	page = bytes.Clone(page)
	x.mem += int64(cap(page))
	x.pages = append(x.pages, page)
}

// entry returns the bytes of entry i.
func (x *Index) entry(i int) []byte {
	page := x.pages[i/pageEntries]
	if len(page) == x.entrySize {
		return page
	}
	off := i % pageEntries * x.entrySize
	return page[off : off+x.entrySize]
}

// Size returns the length of the archive or image.
func (x *Index) Size() int64 { return x.size }

// Len returns the number of entries; it is at least 1.
func (x *Index) Len() int { return x.count }

// Csum returns the checksum that the manifest must have for this index. It
// was computed from the entries.
func (x *Index) Csum() [32]byte { return x.csum }

// ChunkSize returns the length of every chunk but the last, 0 for a dynamic
// index.
func (x *Index) ChunkSize() int64 { return x.chunkSize }

// FileSize returns the length of the index file in bytes.
func (x *Index) FileSize() int64 { return headerSize + int64(x.count)*int64(x.entrySize) }

// MemSize returns the bytes of memory that the index holds.
func (x *Index) MemSize() int64 { return x.mem }

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
