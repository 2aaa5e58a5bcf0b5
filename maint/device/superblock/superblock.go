package superblock

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Use says what a device is used for.
type Use uint8

// The uses. The zero value means that nothing known is on the device.
const (
	Nothing    Use = iota
	Filesystem     // can be mounted
	Encrypted      // holds something behind a key
	Member         // part of a RAID or of a volume group
	Swap
)

// String returns the use in words.
func (u Use) String() string {
	switch u {
	case Filesystem:
		return "file system"
	case Encrypted:
		return "encrypted device"
	case Member:
		return "member of a RAID or volume group"
	case Swap:
		return "swap space"
	default:
		return "nothing known"
	}
}

// Contents describes what is on a device.
type Contents struct {
	Use  Use
	Type string // as blkid calls it: "ext4", "crypto_LUKS"
	// UUID and Label are "" where there is none.
	UUID, Label string
	// Unclean says that the file system was not unmounted, and that a writable mount
	// would repair it. False may also mean that the format does not say, as with xfs.
	Unclean bool
	// Orphans says that the kernel would clean up files even in a read-only mount
	// without journal replay, as it does for ext4.
	Orphans bool
}

// format recognizes one format; ok is false if the device has another one.
type format func(d *device) (c Contents, ok bool)

// formats returns the formats in the order in which they are tried. Formats that wrap
// others come first: a mirrored RAID shows its file system at the same place as the
// bare device does.
func formats() []format {
	return []format{raid, luks, bitlocker, volumeGroup, btrfs, xfs, ext, squashfs, erofs, f2fs, iso9660, swap, exfat, ntfs, fat}
}

// Probe looks at the contents of a device of size bytes. The zero Contents means that
// nothing known is there. An error is a read error.
func Probe(r io.ReaderAt, size int64) (Contents, error) {
	d := &device{r: r, size: size}
	for _, f := range formats() {
		c, ok := f(d)
		if d.err != nil {
			return Contents{}, fmt.Errorf("reading the beginning of the device: %w", d.err)
		}
		if ok {
			return c, nil
		}
	}
	return Contents{}, nil
}

// device reads parts of a device and keeps the first error.
type device struct {
	r    io.ReaderAt
	size int64
	err  error
}

// read returns n bytes at off, nil if the device is too short for them.
func (d *device) read(off int64, n int) []byte {
	if d.err != nil || off < 0 || off > d.size-int64(n) {
		return nil
	}
	buf := make([]byte, n)
	got, err := d.r.ReadAt(buf, off)
	if got == n {
		return buf
	}
	if !errors.Is(err, io.EOF) {
		d.err = err
	}
	return nil
}

// magic reports whether text stands at off, and returns n bytes from base.
func (d *device) magic(base int64, n, off int, text string) ([]byte, bool) {
	b := d.read(base, n)
	if b == nil || string(b[off:off+len(text)]) != text {
		return nil, false
	}
	return b, true
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// uuid formats 16 bytes as a UUID; "" for zeros.
func uuid(b []byte) string {
	if [16]byte(b) == [16]byte{} {
		return ""
	}
	s := hex.EncodeToString(b[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// serial formats the four bytes of a volume serial number as DOS does.
func serial(b []byte) string {
	if le32(b) == 0 {
		return ""
	}
	return fmt.Sprintf("%02X%02X-%02X%02X", b[3], b[2], b[1], b[0])
}

// text returns the bytes before the first NUL, as valid UTF-8.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.ToValidUTF8(s, "\uFFFD")
}
