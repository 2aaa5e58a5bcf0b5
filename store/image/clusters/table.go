package clusters

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/internal/lru"
)

const (
	// page is how many bytes of the table are read at once. It is a multiple of 12 bits
	// and of 32, so that no entry lies across two pages.
	page = 12 << 10
	// cachedPages bounds the memory for the table.
	cachedPages = 128
	// First is the number of the first cluster.
	First = 2
)

// Width is the size of an entry of the table, in bits.
type Width int

// The widths that there are. An entry of 32 bits has 28 in FAT32, and all in exFAT.
const (
	Bits12 Width = 12
	Bits16 Width = 16
	Bits28 Width = 28
	Bits32 Width = 32
)

// Table is the table of a file system.
type Table struct {
	off   int64 // where it begins
	size  int64 // bytes
	width Width
	count uint32 // clusters
	pages *lru.Cache[int64, []byte]
}

// NewTable returns the table of a file system with count clusters, which begins at off and
// has size bytes.
func NewTable(off, size int64, width Width, count uint32) *Table {
	return &Table{off: off, size: size, width: width, count: count, pages: lru.New[int64, []byte](cachedPages)}
}

// Needs returns how many bytes a table for count clusters has at least.
func (w Width) Needs(count uint32) int64 {
	bits := int64(w)
	if w == Bits28 {
		bits = 32
	}
	return ((int64(count)+First)*bits + 7) / 8
}

// valid reports whether there is such a cluster.
func (t *Table) valid(cluster uint32) bool { return cluster >= First && cluster-First < t.count }

// entry returns the entry of a cluster.
func (t *Table) entry(r io.ReaderAt, cluster uint32) (uint32, error) {
	var at int64
	switch t.width {
	case Bits12:
		at = int64(cluster) * 3 / 2
	case Bits16:
		at = int64(cluster) * 2
	case Bits28, Bits32:
		at = int64(cluster) * 4
	}
	b, err := t.bytes(r, at)
	if err != nil {
		return 0, err
	}
	switch t.width {
	case Bits12:
		v := uint32(binary.LittleEndian.Uint16(b))
		if cluster&1 == 1 {
			return v >> 4, nil
		}
		return v & 0xfff, nil
	case Bits16:
		return uint32(binary.LittleEndian.Uint16(b)), nil
	case Bits28:
		return binary.LittleEndian.Uint32(b) & 0xfffffff, nil
	case Bits32:
	}
	return binary.LittleEndian.Uint32(b), nil
}

// bytes returns four bytes of the table, or two at its end.
func (t *Table) bytes(r io.ReaderAt, at int64) ([]byte, error) {
	n := at / page
	b, ok := t.pages.Get(n)
	if !ok {
		b = make([]byte, min(page, t.size-n*page))
		if err := image.ReadFull(r, b, t.off+n*page); err != nil {
			return nil, fmt.Errorf("allocation table at offset %d: %w", t.off+n*page, err)
		}
		b = append(b, 0, 0, 0, 0) // for reading behind the last entry
		t.pages.Put(n, b, 1)
	}
	return b[at-n*page:][:4], nil
}

// last reports whether an entry says that the chain ends.
func (t *Table) last(entry uint32) bool {
	switch t.width {
	case Bits12:
		return entry >= 0xff8
	case Bits16:
		return entry >= 0xfff8
	case Bits28:
		return entry >= 0xffffff8
	case Bits32:
	}
	return entry >= 0xfffffff8
}

// Run is clusters that lie side by side.
type Run struct{ First, Count uint32 }

// maxRuns bounds the runs of a file, and so its memory.
const maxRuns = 1 << 20

// errScattered says that a file has too many runs.
var errScattered = fmt.Errorf("file lies in more than %d pieces", maxRuns)

// Chain follows a chain for at most want clusters. What could be followed comes with the
// error that says why the rest could not. A chain that ends before is an error too if exact
// is set.
func (t *Table) Chain(r io.ReaderAt, first uint32, want int64, exact bool) ([]Run, error) {
	var runs []Run
	for got, c := int64(0), first; got < want; got++ {
		if !t.valid(c) {
			if t.last(c) && got > 0 && !exact {
				return runs, nil
			}
			return runs, corrupt.New("chain of clusters from %d: after %d clusters comes %#x", first, got, c)
		}
		if n := len(runs); n > 0 && runs[n-1].First+runs[n-1].Count == c {
			runs[n-1].Count++
		} else if n == maxRuns {
			return runs, errScattered
		} else {
			runs = append(runs, Run{c, 1})
		}
		// Nothing has more clusters than there are: the chain leads back into itself.
		if got >= int64(t.count) {
			return nil, corrupt.New("chain of clusters from %d leads back into itself", first)
		}
		next, err := t.entry(r, c)
		if err != nil {
			return runs, err
		}
		c = next
	}
	if crossed(runs) {
		return nil, corrupt.New("chain of clusters from %d leads back into itself", first)
	}
	return runs, nil
}
