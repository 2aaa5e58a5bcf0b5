package partition

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The fields of an MBR.
const (
	entriesOff  = 446
	entrySize   = 16
	entryCount  = 4
	signOff     = 510
	signature   = 0xaa55
	bootable    = 0x80
	typeGPT     = 0xee
	firstNumber = 5 // of the logical partitions
)

// maxLogical bounds the chain of logical partitions, as Linux does.
const maxLogical = 100

// mbrEntry is an entry of an MBR, in sectors.
type mbrEntry struct {
	slot         int
	kind         byte
	start, count uint32
}

// extended reports whether the entry leads to logical partitions.
func (e mbrEntry) extended() bool { return e.kind == 0x05 || e.kind == 0x0f || e.kind == 0x85 }

// parseMBR returns the entries of a sector that are in use, and whether it is an MBR.
func parseMBR(b []byte) ([]mbrEntry, bool) {
	if binary.LittleEndian.Uint16(b[signOff:]) != signature {
		return nil, false
	}
	var out []mbrEntry
	for i := range entryCount {
		e := b[entriesOff+i*entrySize:]
		if e[0] != 0 && e[0] != bootable {
			return nil, false // the code or the text of a boot sector
		}
		m := mbrEntry{slot: i + 1, kind: e[4], start: binary.LittleEndian.Uint32(e[8:]), count: binary.LittleEndian.Uint32(e[12:])}
		if m.kind != 0 && m.count != 0 {
			out = append(out, m)
		}
	}
	return out, true
}

// protective reports whether the entries say that there is a GPT.
func protective(entries []mbrEntry) bool {
	for _, e := range entries {
		if e.kind == typeGPT {
			return true
		}
	}
	return false
}

// readMBR makes the table of primary entries, and follows them to logical partitions.
func readMBR(r io.ReaderAt, size int64, primary []mbrEntry) (*Table, error) {
	t := &Table{Kind: "mbr"}
	for _, e := range primary {
		switch {
		case e.kind == typeGPT:
			t.note("there was a GPT, of which nothing is left")
		case !e.extended():
			t.add(e.partition(e.slot, 0), size)
		}
	}
	next := firstNumber
	for _, e := range primary {
		if e.extended() {
			if err := t.logical(r, size, e, &next); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// partition returns the entry as a partition. base is the sector from which it counts.
func (e mbrEntry) partition(number int, base uint64) Partition {
	return Partition{
		Number: number, Type: fmt.Sprintf("%02x", e.kind),
		Off: bytesOf(base+uint64(e.start), sector), Size: bytesOf(uint64(e.count), sector),
	}
}

// logical follows the chain in an extended partition. Each link is a sector like an MBR,
// with a logical partition, whose start counts from that sector, and with the next link,
// whose start counts from the beginning of the chain.
func (t *Table) logical(r io.ReaderAt, size int64, chain mbrEntry, next *int) error {
	at, room := uint64(chain.start), uint64(chain.count)
	b := make([]byte, sector)
	for range maxLogical {
		off := bytesOf(at, sector)
		if off < 0 || off > size-sector {
			t.note("the chain of logical partitions leads behind the end of the disk")
			return nil
		}
		if err := readFull(r, b, off); err != nil {
			return fmt.Errorf("logical partitions at offset %d: %w", off, err)
		}
		entries, ok := parseLink(b)
		if !ok {
			t.note("the chain of logical partitions ends with a sector that is none of it")
			return nil
		}
		follow := false
		for _, e := range entries {
			if e.extended() {
				continue
			}
			// Slots 3 and 4 are not used for logical partitions; if they look like one, it
			// must lie where it can be.
			if e.slot > 2 && !e.within(at, room, chain) {
				continue
			}
			t.add(e.partition(*next, at), size)
			*next++
		}
		for _, e := range entries {
			if e.extended() {
				at, room, follow = uint64(chain.start)+uint64(e.start), uint64(e.count), true
				break
			}
		}
		if !follow {
			return nil
		}
	}
	t.note("the chain of logical partitions is too long, or leads back to itself")
	return nil
}

// parseLink is parseMBR for a link of a chain, in which the marks of bootable partitions
// are not looked at.
func parseLink(b []byte) ([]mbrEntry, bool) {
	if binary.LittleEndian.Uint16(b[signOff:]) != signature {
		return nil, false
	}
	var out []mbrEntry
	for i := range entryCount {
		e := b[entriesOff+i*entrySize:]
		m := mbrEntry{slot: i + 1, kind: e[4], start: binary.LittleEndian.Uint32(e[8:]), count: binary.LittleEndian.Uint32(e[12:])}
		if m.count != 0 {
			out = append(out, m)
		}
	}
	return out, true
}

// within reports whether a partition, which counts from the link at, lies in the room of
// the link and in the extended partition.
func (e mbrEntry) within(at, room uint64, chain mbrEntry) bool {
	start, count := uint64(e.start), uint64(e.count)
	from := at + start
	return start+count <= room && from >= uint64(chain.start) && from+count <= uint64(chain.start)+uint64(chain.count)
}
