package partition

import (
	"errors"
	"fmt"
	"io"
)

// ErrNone says that there is no partition table.
var ErrNone = errors.New("no partition table")

// Partition is a part of a disk.
type Partition struct {
	// Number is the one that Linux gives it.
	Number int
	// Off and Size are in bytes, within the disk.
	Off, Size int64
	// Type is two hex digits in an MBR, and a GUID in a GPT.
	Type string
	// Name is from a GPT, and may be empty.
	Name string
}

// Table is a partition table.
type Table struct {
	// Kind is "mbr" or "gpt".
	Kind string
	// Partitions are in the order of their numbers.
	Partitions []Partition
	// Note says what was wrong with the table, "" if nothing was.
	Note string
}

// The sizes of sectors that disks have.
const (
	sector      = 512
	largeSector = 4096
)

// Read reads the partition table of a disk of the given size. It returns [ErrNone] if
// there is none.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	first := make([]byte, sector)
	if size < sector {
		return nil, ErrNone
	}
	if err := readFull(r, first, 0); err != nil {
		return nil, fmt.Errorf("partition table: %w", err)
	}
	primary, isMBR := parseMBR(first)
	if !isMBR || protective(primary) || len(primary) == 0 {
		t, err := readGPT(r, size)
		if !errors.Is(err, ErrNone) {
			return t, err
		}
	}
	if !isMBR {
		return nil, ErrNone
	}
	return readMBR(r, size, primary)
}

// readFull reads all of p. The end of the disk within p is an error.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// add adds a partition, cut to the disk.
func (t *Table) add(p Partition, size int64) {
	if p.Off < 0 || p.Off >= size || p.Size <= 0 {
		t.note("partition %d lies behind the end of the disk", p.Number)
		return
	}
	if p.Size > size-p.Off {
		t.note("partition %d goes beyond the end of the disk", p.Number)
		p.Size = size - p.Off
	}
	t.Partitions = append(t.Partitions, p)
}

// note keeps the first thing that was wrong.
func (t *Table) note(format string, args ...any) {
	if t.Note == "" {
		t.Note = fmt.Sprintf(format, args...)
	}
}

// bytesOf returns a number of sectors in bytes, -1 if that is no offset on any disk.
func bytesOf(sectors uint64, unit int64) int64 {
	const most = 1 << 62
	if sectors > uint64(most/unit) {
		return -1
	}
	return int64(sectors) * unit
}
