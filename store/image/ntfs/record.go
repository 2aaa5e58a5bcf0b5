package ntfs

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// The types of attributes.
const (
	attrStandard   = 0x10
	attrList       = 0x20
	attrFileName   = 0x30
	attrVolumeName = 0x60
	attrVolumeInfo = 0x70
	attrData       = 0x80
	attrIndexRoot  = 0x90
	attrIndexAlloc = 0xa0
	attrBitmap     = 0xb0
	attrReparse    = 0xc0
	attrEA         = 0xe0
	attrEnd        = 0xffffffff
)

// The flags of an attribute.
const (
	flagCompressed = 0x00ff
	flagEncrypted  = 0x4000
)

// The flags of a record.
const (
	recordInUse = 1
	recordIsDir = 2
)

// refMask are the bits of a file reference that are the number of a record.
const refMask = 1<<48 - 1

// record is a record of the master file table.
type record struct {
	seq   uint16
	flags uint16
	base  uint64 // the record that this one belongs to, 0 if it is one of its own
	attrs []attr
}

// attr is an attribute, or a part of one.
type attr struct {
	typ      uint32
	name     string
	flags    uint16
	id       uint16
	resident bool
	value    []byte // of a resident one

	first, last     int64 // clusters of the stream that this part has
	runs            []byte
	unit            uint8 // of compression, as a power of two of clusters
	alloc           int64
	size, valid     int64
	compressedAlloc int64
}

// fixup checks that all sectors of a block belong together, and puts back the bytes in
// whose place the mark was.
func fixup(b []byte, at int64, what string) error {
	off, n := int(binary.LittleEndian.Uint16(b[4:])), int(binary.LittleEndian.Uint16(b[6:]))
	if n < 1 || (n-1)*fixupUnit != len(b) || off%2 != 0 || off < 8 || off+2*n > fixupUnit-2 {
		return corrupt.At(at, "%s: fixups of %d sectors", what, n-1)
	}
	fix := b[off : off+2*n]
	for i := range n - 1 {
		end := b[(i+1)*fixupUnit-2 : (i+1)*fixupUnit]
		if end[0] != fix[0] || end[1] != fix[1] {
			return corrupt.At(at+int64(i)*fixupUnit, "%s: a sector does not belong to it", what)
		}
		copy(end, fix[2*i+2:2*i+4])
	}
	return nil
}

// parseRecord reads a record. b is changed.
func parseRecord(b []byte, at int64) (*record, error) {
	if string(b[:4]) != "FILE" {
		return nil, corrupt.At(at, "record of the master file table: no mark")
	}
	if err := fixup(b, at, "record of the master file table"); err != nil {
		return nil, err
	}
	rec := &record{seq: binary.LittleEndian.Uint16(b[16:]), flags: binary.LittleEndian.Uint16(b[22:]), base: binary.LittleEndian.Uint64(b[32:])}
	used := int64(binary.LittleEndian.Uint32(b[24:]))
	off := int64(binary.LittleEndian.Uint16(b[20:]))
	if used > int64(len(b)) {
		return nil, corrupt.At(at, "record of the master file table: %d of %d bytes are in use", used, len(b))
	}
	for {
		if off < 0 || off+4 > used {
			return nil, corrupt.At(at+off, "record of the master file table: its attributes do not end")
		}
		if binary.LittleEndian.Uint32(b[off:]) == attrEnd {
			return rec, nil
		}
		if off+24 > used {
			return nil, corrupt.At(at+off, "record of the master file table: its attributes do not end")
		}
		length := int64(binary.LittleEndian.Uint32(b[off+4:]))
		if length < 24 || length%8 != 0 || length > used-off {
			return nil, corrupt.At(at+off, "attribute of %d bytes", length)
		}
		a, err := parseAttr(b[off : off+length])
		if err != nil {
			return nil, corrupt.At(at+off, "%v", err)
		}
		rec.attrs = append(rec.attrs, a)
		off += length
	}
}

// parseAttr reads an attribute.
func parseAttr(b []byte) (attr, error) {
	a := attr{
		typ: binary.LittleEndian.Uint32(b), flags: binary.LittleEndian.Uint16(b[12:]), id: binary.LittleEndian.Uint16(b[14:]),
		resident: b[8] == 0,
	}
	if n, off := 2*int(b[9]), int(binary.LittleEndian.Uint16(b[10:])); n > 0 {
		if off+n > len(b) {
			return a, fmt.Errorf("attribute %#x: its name lies outside", a.typ)
		}
		a.name = decodeUTF16(b[off : off+n])
	}
	if a.resident {
		n, off := int64(binary.LittleEndian.Uint32(b[16:])), int64(binary.LittleEndian.Uint16(b[20:]))
		if off+n > int64(len(b)) {
			return a, fmt.Errorf("attribute %#x: its value lies outside", a.typ)
		}
		a.value = b[off : off+n : off+n]
		a.size, a.valid = n, n
		return a, nil
	}
	if len(b) < 64 {
		return a, fmt.Errorf("attribute %#x of %d bytes", a.typ, len(b))
	}
	u64 := func(off int) int64 { return int64(binary.LittleEndian.Uint64(b[off:])) }
	a.first, a.last, a.unit = u64(16), u64(24), b[34]
	a.alloc, a.size, a.valid = u64(40), u64(48), u64(56)
	a.compressedAlloc = a.alloc
	if off := int(binary.LittleEndian.Uint16(b[32:])); off <= len(b) {
		a.runs = b[off:]
	}
	if a.flags&(flagCompressed|0x8000) != 0 && len(b) >= 72 && a.first == 0 {
		a.compressedAlloc = u64(64)
	}
	if a.first < 0 || a.last < a.first-1 {
		return a, fmt.Errorf("attribute %#x: clusters %d to %d", a.typ, a.first, a.last)
	}
	return a, nil
}

// readRecord reads the record with a number.
func (f *FS) readRecord(r io.ReaderAt, number uint64) (*record, error) {
	if number > uint64(f.mft.size/f.record)-1 || f.mft.size < f.record {
		return nil, corrupt.New("record %d lies behind the end of the master file table", number)
	}
	b := make([]byte, f.record)
	at := int64(number) * f.record
	if err := f.mft.readFull(r, b, at); err != nil {
		return nil, fmt.Errorf("record %d: %w", number, err)
	}
	rec, err := parseRecord(b, f.mft.where(at))
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", number, err)
	}
	return rec, nil
}

// present returns the reference to a record as it is now.
func (f *FS) present(r io.ReaderAt, number uint64) (uint64, error) {
	rec, err := f.readRecord(r, number)
	if err != nil {
		return 0, err
	}
	return number | uint64(rec.seq)<<48, nil
}

// maxList bounds a list of attributes, in bytes, as Windows does.
const maxList = 256 << 10

// gather returns all attributes of an object, those in other records included.
func (f *FS) gather(r io.ReaderAt, rec *record, number uint64) ([]attr, error) {
	var list []byte
	for i := range rec.attrs {
		if rec.attrs[i].typ != attrList {
			continue
		}
		s, err := f.streamOf(rec.attrs, attrList, "")
		if err != nil {
			return nil, err
		}
		if s.size > maxList {
			return nil, corrupt.New("record %d: list of attributes of %d bytes", number, s.size)
		}
		list = make([]byte, s.size)
		if err := s.readFull(r, list, 0); err != nil {
			return nil, fmt.Errorf("record %d: list of attributes: %w", number, err)
		}
		break
	}
	if list == nil {
		return rec.attrs, nil
	}
	return f.follow(r, rec, number, list)
}

// follow returns the attributes that a list of attributes names.
func (f *FS) follow(r io.ReaderAt, rec *record, number uint64, list []byte) ([]attr, error) {
	records := map[uint64]*record{number: rec}
	var out []attr
	for len(list) > 0 {
		if len(list) < 26 {
			return nil, corrupt.New("record %d: list of attributes does not end", number)
		}
		length := int(binary.LittleEndian.Uint16(list[4:]))
		if length < 26 || length > len(list) {
			return nil, corrupt.New("record %d: list of attributes has an entry of %d bytes", number, length)
		}
		typ, ref, id := binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint64(list[16:]), binary.LittleEndian.Uint16(list[24:])
		list = list[length:]
		in := ref & refMask
		other := records[in]
		if other == nil {
			var err error
			if other, err = f.readRecord(r, in); err != nil {
				return nil, err
			}
			if other.base&refMask != number || other.flags&recordInUse == 0 || other.seq != uint16(ref>>48) {
				return nil, corrupt.New("record %d does not belong to record %d", in, number)
			}
			records[in] = other
		}
		found := false
		for _, a := range other.attrs {
			if a.typ == typ && a.id == id {
				out, found = append(out, a), true
			}
		}
		if !found {
			return nil, corrupt.New("record %d has no attribute %#x, which record %d lists", in, typ, number)
		}
	}
	return out, nil
}
