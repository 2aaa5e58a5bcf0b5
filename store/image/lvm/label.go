package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// ErrNone says that there is no physical volume.
var ErrNone = errors.New("no physical volume")

const (
	sector = 512
	// labelSectors is how many sectors at the beginning may have the label.
	labelSectors = 4
	labelMark    = "LABELONE"
	labelKind    = "LVM2 001"
	areaMark     = " LVM2 x[5A%r0N*>"
	// sumStart is where the checksums of LVM2 begin to count.
	sumStart = 0xf597a6cf
	// maxText bounds the text that describes a group.
	maxText = 16 << 20
	// maxAreas bounds the areas that a label lists.
	maxAreas = 16
	idLength = 32
)

// sum is the checksum of LVM2: a CRC-32 with another start, and not inverted at the end.
func sum(p []byte) uint32 { return ^crc32.Update(^uint32(sumStart), crc32.IEEETable, p) }

// area is a range of a physical volume, in bytes.
type area struct{ off, size uint64 }

// label is what a physical volume says of itself.
type label struct {
	id    string // without dashes
	size  uint64
	texts []area // where copies of the group's text lie
}

// readLabel finds the label of a physical volume; [ErrNone] if there is none.
func readLabel(r io.ReaderAt, size int64) (label, error) {
	b := make([]byte, labelSectors*sector)
	if size < int64(len(b)) {
		return label{}, ErrNone
	}
	if err := readFull(r, b, 0); err != nil {
		return label{}, fmt.Errorf("label of a physical volume: %w", err)
	}
	for i := range labelSectors {
		s := b[i*sector : (i+1)*sector]
		if string(s[:8]) != labelMark || string(s[24:32]) != labelKind {
			continue
		}
		if binary.LittleEndian.Uint64(s[8:]) != uint64(i) || sum(s[20:]) != binary.LittleEndian.Uint32(s[16:]) {
			return label{}, corrupt.At(int64(i)*sector, "label of a physical volume has a wrong checksum")
		}
		return parseLabel(s, int64(i)*sector)
	}
	return label{}, ErrNone
}

// parseLabel reads the header behind a label: two lists of areas, each of which ends with
// an empty one. The first has the data, the second the texts.
func parseLabel(s []byte, at int64) (label, error) {
	off := int(binary.LittleEndian.Uint32(s[20:]))
	if off < 32 || off > sector-idLength-8 {
		return label{}, corrupt.At(at, "label of a physical volume: its header lies at %d", off)
	}
	h := s[off:]
	l := label{id: string(h[:idLength]), size: binary.LittleEndian.Uint64(h[idLength:])}
	rest := h[idLength+8:]
	for list := 0; list < 2; {
		if len(rest) < 16 || len(l.texts) > maxAreas {
			return label{}, corrupt.At(at, "label of a physical volume: its list of areas does not end")
		}
		a := area{binary.LittleEndian.Uint64(rest), binary.LittleEndian.Uint64(rest[8:])}
		rest = rest[16:]
		switch {
		case a.off == 0 && (a.size == 0 || list == 1):
			list++
		case list == 1:
			l.texts = append(l.texts, a)
		}
	}
	return l, nil
}

// readText returns the text in an area, "" if there is none.
func readText(r io.ReaderAt, size int64, a area) ([]byte, error) {
	if a.off > uint64(size) || a.size > uint64(size)-a.off || a.size < 2*sector {
		return nil, corrupt.At(int64(min(a.off, 1<<62)), "metadata area of %d bytes is not on the disk", a.size)
	}
	at := int64(a.off)
	h := make([]byte, sector)
	if err := readFull(r, h, at); err != nil {
		return nil, fmt.Errorf("metadata area at offset %d: %w", at, err)
	}
	if string(h[4:20]) != areaMark || sum(h[4:]) != binary.LittleEndian.Uint32(h) {
		return nil, corrupt.At(at, "metadata area has a wrong checksum")
	}
	start, length := binary.LittleEndian.Uint64(h[40:]), binary.LittleEndian.Uint64(h[48:])
	want, flags := binary.LittleEndian.Uint32(h[56:]), binary.LittleEndian.Uint32(h[60:])
	if start == 0 && length == 0 || flags&1 != 0 {
		return nil, nil // the area is empty, or not in use
	}
	if start < sector || start >= a.size || length == 0 || length > maxText || length > a.size-sector {
		return nil, corrupt.At(at, "metadata area: text of %d bytes at %d", length, start)
	}
	text := make([]byte, length)
	first := min(length, a.size-start) // the rest has wrapped around
	if err := readFull(r, text[:first], at+int64(start)); err != nil {
		return nil, fmt.Errorf("metadata area at offset %d: %w", at, err)
	}
	if err := readFull(r, text[first:], at+sector); err != nil {
		return nil, fmt.Errorf("metadata area at offset %d: %w", at, err)
	}
	if sum(text) != want {
		return nil, corrupt.At(at+int64(start), "text of a volume group has a wrong checksum")
	}
	return bytes.TrimRight(text, "\x00"), nil
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

// plainID returns an id without its dashes.
func plainID(s string) string { return strings.ReplaceAll(s, "-", "") }
