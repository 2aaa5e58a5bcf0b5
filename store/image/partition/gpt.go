package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

const (
	gptSignature  = "EFI PART"
	gptHeaderSize = 92
	gptEntrySize  = 128
	// maxGPTEntry and maxGPTTable bound the size of an entry and of all together. Disks
	// have 128 entries of 128 bytes.
	maxGPTEntry = 4096
	maxGPTTable = 1 << 20
)

// gptHeader is what a GPT says of itself, in sectors.
type gptHeader struct {
	unit  int64 // the size of a sector
	self  uint64
	table uint64
	count uint32
	entry uint32
	sum   uint32
}

// errNoHeader says that there is no usable GPT at a place.
var errNoHeader = errors.New("no usable GPT")

// readGPT reads a GPT, or its copy; [ErrNone] if there is neither.
func readGPT(r io.ReaderAt, size int64) (*Table, error) {
	var failed error
	for _, unit := range []int64{sector, largeSector} {
		if size < 3*unit {
			break
		}
		for i, at := range []int64{1, size/unit - 1} {
			t, err := gptAt(r, size, unit, at)
			if err == nil {
				if i > 0 {
					t.note("the GPT at the beginning of the disk is damaged or missing; this is its copy")
				}
				return t, nil
			}
			if !errors.Is(err, errNoHeader) {
				failed = err // another place may do
			}
		}
	}
	if failed != nil {
		return nil, fmt.Errorf("GPT: %w", failed)
	}
	return nil, ErrNone
}

// gptAt reads the GPT whose header lies in a sector.
func gptAt(r io.ReaderAt, size, unit, at int64) (*Table, error) {
	b := make([]byte, unit)
	if err := readFull(r, b, at*unit); err != nil {
		return nil, err
	}
	h, ok := parseGPT(b, unit)
	if !ok || h.self != uint64(at) {
		return nil, errNoHeader
	}
	off := bytesOf(h.table, unit)
	length := int64(h.count) * int64(h.entry)
	if off < 0 || off > size-length {
		return nil, errNoHeader
	}
	table := make([]byte, length)
	if err := readFull(r, table, off); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(table) != h.sum {
		return nil, errNoHeader
	}
	t := &Table{Kind: "gpt"}
	for i := range int(h.count) {
		if p, used := h.partition(i, table[i*int(h.entry):]); used {
			t.add(p, size)
		}
	}
	return t, nil
}

// parseGPT reads a header, if its checksum is right and its sizes are possible.
func parseGPT(b []byte, unit int64) (gptHeader, bool) {
	if string(b[:len(gptSignature)]) != gptSignature {
		return gptHeader{}, false
	}
	length := binary.LittleEndian.Uint32(b[12:])
	if length < gptHeaderSize || int64(length) > unit {
		return gptHeader{}, false
	}
	summed := bytes.Clone(b[:length])
	clear(summed[16:20])
	if crc32.ChecksumIEEE(summed) != binary.LittleEndian.Uint32(b[16:]) {
		return gptHeader{}, false
	}
	h := gptHeader{
		unit: unit, self: binary.LittleEndian.Uint64(b[24:]),
		table: binary.LittleEndian.Uint64(b[72:]), count: binary.LittleEndian.Uint32(b[80:]),
		entry: binary.LittleEndian.Uint32(b[84:]), sum: binary.LittleEndian.Uint32(b[88:]),
	}
	possible := h.entry >= gptEntrySize && h.entry <= maxGPTEntry && h.entry%gptEntrySize == 0 && h.count > 0
	return h, possible && uint64(h.count)*uint64(h.entry) <= maxGPTTable
}

// partition reads the i-th entry, and whether it is in use.
func (h gptHeader) partition(i int, e []byte) (Partition, bool) {
	kind := e[:16]
	first, last := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
	if bytes.Equal(kind, make([]byte, 16)) || last < first {
		return Partition{}, false
	}
	return Partition{
		Number: i + 1, Type: guid(kind), Name: gptName(e[56:gptEntrySize]),
		Off: bytesOf(first, h.unit), Size: bytesOf(last-first+1, h.unit),
	}, true
}

// guid writes a GUID, whose first three groups are little-endian.
func guid(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]),
		binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}

// gptName reads the name of a partition, which is UTF-16 and ends with a zero.
func gptName(b []byte) string {
	var units []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u := binary.LittleEndian.Uint16(b[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
