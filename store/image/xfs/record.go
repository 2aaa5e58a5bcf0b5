package xfs

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const (
	recordMagic     = 0xfeedbabe
	littleEndian    = 1 // format: items have the order of bytes of the usual machines
	maxRecord       = 256 << 10
	recordCRC       = 32       // where the checksum lies, little-endian
	recordWords     = 44       // where the first numbers of sectors lie, which the cycle replaced
	recordHeader    = 328      // bytes of the header that are in the checksum
	recordHeader32  = 324      // the same, on some machines of 32 bits
	recordExtension = 4 + 4*64 // bytes of each further sector of the header
	wordsPerSector  = 64
	dataPerSheet    = wordsPerSector * sector
)

// record is the header of a record.
type record struct {
	at     int64  // sector of the header
	sheets int64  // sectors of the header
	data   int64  // sectors of data
	length int    // bytes of data
	tail   int64  // sector from which on things may not be in their place
	lsn    uint64 // cycle, and sector
	ops    int
}

func (rec *record) sectors() int64 { return rec.sheets + rec.data }

// decode takes a header apart. b begins with it.
func (l *ring) decode(b []byte, at int64) (*record, error) {
	rec := &record{
		at: at, sheets: 1,
		length: int(be.Uint32(b[12:])),
		lsn:    be.Uint64(b[16:]),
		tail:   int64(be.Uint32(b[28:])),
		ops:    int(be.Uint32(b[40:])),
	}
	size := int64(be.Uint32(b[320:])) // of the largest record
	if version := be.Uint32(b[8:]); version&2 != 0 && size > dataPerSheet {
		rec.sheets = (size + dataPerSheet - 1) / dataPerSheet
	}
	rec.data = int64(rec.length+sector-1) / sector
	if be.Uint32(b) != recordMagic || rec.length <= 0 || rec.length > maxRecord || rec.sheets > maxRecord/dataPerSheet || rec.tail >= l.sectors {
		return nil, corrupt.At(l.off+at*sector, "log: record of %d bytes", rec.length)
	}
	if id := [16]byte(b[304:320]); be.Uint32(b[300:]) != littleEndian || id != l.fs.sb.uuid && id != [16]byte{} {
		return nil, corrupt.At(l.off+at*sector, "log: record of another file system or kind of machine")
	}
	return rec, nil
}

// fits compares the checksum of a record, which is all of b. v4 has none.
func (rec *record) fits(b []byte) bool {
	want := binary.LittleEndian.Uint32(b[recordCRC:])
	if want == 0 {
		return true
	}
	for _, header := range []int{recordHeader, recordHeader32} {
		sum := crc32.Update(0, castagnoli, b[:recordCRC])
		sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
		sum = crc32.Update(sum, castagnoli, b[recordCRC+4:header])
		for i := int64(1); i < rec.used(); i++ {
			sum = crc32.Update(sum, castagnoli, b[i*sector:][:recordExtension])
		}
		if crc32.Update(sum, castagnoli, b[rec.sheets*sector:][:rec.length]) == want {
			return true
		}
	}
	return false
}

// used is how many sectors of the header are in use.
func (rec *record) used() int64 {
	return min(rec.sheets, int64(rec.length+dataPerSheet-1)/dataPerSheet)
}

// unpack returns the data of a record, which is all of b, with the numbers that the cycle
// had replaced.
func (rec *record) unpack(b []byte) []byte {
	data := b[rec.sheets*sector:]
	for i := range min(rec.data, rec.sheets*wordsPerSector) {
		words := b[recordWords:]
		if sheet := i / wordsPerSector; sheet > 0 {
			words = b[sheet*sector+4:]
		}
		copy(data[i*sector:][:4], words[i%wordsPerSector*4:])
	}
	return data[:rec.length]
}
