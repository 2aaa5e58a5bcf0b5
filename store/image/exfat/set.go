package exfat

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// The kinds of entries. The upper bit says that an entry is in use, secondary that it
// belongs to the one before it, and benign that who does not know it may ignore it.
const (
	inUse      = 0x80
	secondary  = 0x40
	benign     = 0x20
	kindBitmap = 0x81
	kindUpcase = 0x82
	kindLabel  = 0x83
	kindFile   = 0x85
	kindData   = 0xc0
	kindName   = 0xc1
)

const (
	attrRO  = 0x01
	attrDir = 0x10
	// sideBySide says that the clusters have no chain in the table.
	sideBySide = 0x02
	nameUnits  = 15 // characters in an entry
	maxName    = 255
	minSet     = 2  // secondary entries
	maxSet     = 18 // secondary entries
)

// set is a set of entries that describes an object.
type set struct {
	attr        uint16
	mtime       image.Time
	first       uint32
	size, valid int64
	contiguous  bool
	name        string
}

func (s *set) dir() bool { return s.attr&attrDir != 0 }

// parseSet reads a set. b begins with the entry for the file and has the whole set; at is
// where it lies.
func parseSet(b []byte, at int64) (*set, error) {
	var sum uint16
	for i, c := range b {
		if i != 2 && i != 3 {
			sum = (sum>>1 | sum<<15) + uint16(c)
		}
	}
	if sum != binary.LittleEndian.Uint16(b[2:]) {
		return nil, corrupt.At(at, "set of directory entries has a wrong checksum")
	}
	d := b[entrySize:]
	if d[0] != kindData {
		return nil, corrupt.At(at, "set of directory entries does not say where its data lies")
	}
	s := &set{
		attr: binary.LittleEndian.Uint16(b[4:]), mtime: timeOf(binary.LittleEndian.Uint32(b[12:]), b[21], b[23]),
		first: binary.LittleEndian.Uint32(d[20:]), size: int64(binary.LittleEndian.Uint64(d[24:])), valid: int64(binary.LittleEndian.Uint64(d[8:])),
		contiguous: d[1]&sideBySide != 0,
	}
	if s.size < 0 || s.valid < 0 || s.valid > s.size {
		return nil, corrupt.At(at, "set of directory entries: %d of %d bytes are valid", s.valid, s.size)
	}
	var err error
	s.name, err = nameOf(b[2*entrySize:], int(d[3]))
	if err != nil {
		return nil, corrupt.At(at, "set of directory entries: %v", err)
	}
	return s, nil
}

// nameOf reads a name of n characters from the entries that have it.
func nameOf(b []byte, n int) (string, error) {
	var units []uint16
	for ; len(b) >= entrySize && b[0] == kindName; b = b[entrySize:] {
		for i := range nameUnits {
			units = append(units, binary.LittleEndian.Uint16(b[2+2*i:]))
		}
	}
	if n < 1 || n > maxName || n > len(units) {
		return "", fmt.Errorf("a name of %d characters", n)
	}
	name := image.DecodeUTF16(units[:n])
	if !image.ValidName(name) {
		return "", fmt.Errorf("name %q cannot be shown", name)
	}
	return name, nil
}

// timeOf returns an instant. hundredths adds up to two seconds; zone is the distance from
// UTC in quarters of an hour, if its upper bit is set. A day or a month that is none counts
// as the first.
func timeOf(stamp uint32, hundredths, zone byte) image.Time {
	at := time.Date(1980+int(stamp>>25), time.Month(max(1, stamp>>21&15)), int(max(1, stamp>>16&31)),
		int(stamp>>11&31), int(stamp>>5&63), int(stamp&31)*2, 0, time.UTC)
	at = at.Add(time.Duration(hundredths) * 10 * time.Millisecond)
	if zone&0x80 != 0 {
		quarters := int(zone & 0x7f)
		if quarters >= 64 {
			quarters -= 128
		}
		at = at.Add(-time.Duration(quarters) * 15 * time.Minute)
	}
	return image.Time{Sec: at.Unix(), Nsec: uint32(at.Nanosecond())}
}
