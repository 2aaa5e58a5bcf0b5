package superblock

import (
	"fmt"
	"strings"
	"unicode/utf16"
)

// The file systems of other operating systems.

// isPower reports whether n is a power of two between low and high.
func isPower(n, low, high int) bool { return n >= low && n <= high && n&(n-1) == 0 }

// fat is FAT12, FAT16 and FAT32: Microsoft's FAT32 file system specification. Every
// boot sector has the signature, so the numbers must make sense too.
func fat(d *device) (Contents, bool) {
	b, ok := d.magic(0, 512, 510, "\x55\xaa")
	if !ok || b[0] != 0xeb && b[0] != 0xe9 {
		return Contents{}, false
	}
	reserved, copies := le16(b[14:]), b[16]
	if !isPower(int(le16(b[11:])), 512, 4096) || !isPower(int(b[13]), 1, 128) || reserved == 0 || copies == 0 || copies > 4 {
		return Contents{}, false
	}
	tail, state := 0, byte(0)
	switch {
	case le16(b[22:]) == 0 && string(b[82:87]) == "FAT32":
		tail, state = 67, b[65]
	case string(b[54:57]) == "FAT":
		tail, state = 39, b[37]
	default:
		return Contents{}, false
	}
	label := strings.TrimRight(text(b[tail+4:tail+15]), " ")
	if label == "NO NAME" {
		label = ""
	}
	return Contents{Use: Filesystem, Type: "vfat", UUID: serial(b[tail:]), Label: label, Unclean: state&1 != 0}, true
}

// exfat: Microsoft's exFAT file system specification, section 3.
func exfat(d *device) (Contents, bool) {
	b, ok := d.magic(0, 512, 3, "EXFAT   ")
	if !ok || b[510] != 0x55 || b[511] != 0xaa {
		return Contents{}, false
	}
	return Contents{
		Use: Filesystem, Type: "exfat", UUID: serial(b[100:]), Label: exfatLabel(d, b),
		Unclean: le16(b[106:])&2 != 0,
	}, true
}

// exfatLabel finds the label. It is an entry in the top directory, usually the first
// one.
func exfatLabel(d *device, b []byte) string {
	const entry, labelEntry, look = 32, 0x83, 4096
	sector, cluster := b[108], b[109]
	if sector < 9 || sector > 12 || cluster > 25-sector {
		return ""
	}
	heap, first := int64(le32(b[88:])), int64(le32(b[96:]))
	if first < 2 {
		return ""
	}
	top := d.read((heap+(first-2)<<cluster)<<sector, look)
	for len(top) >= entry && top[0] != 0 {
		if top[0] == labelEntry {
			return utf16Text(top[2 : 2+2*min(int(top[1]), 11)])
		}
		top = top[entry:]
	}
	return ""
}

// ntfs: the label is not in the boot sector.
func ntfs(d *device) (Contents, bool) {
	b, ok := d.magic(0, 512, 3, "NTFS    ")
	if !ok {
		return Contents{}, false
	}
	c := Contents{Use: Filesystem, Type: "ntfs"}
	if n := le64(b[72:]); n != 0 {
		c.UUID = fmt.Sprintf("%016X", n)
	}
	return c, true
}

// bitlocker is a volume that Windows encrypted.
func bitlocker(d *device) (Contents, bool) {
	_, ok := d.magic(0, 512, 3, "-FVE-FS-")
	return Contents{Use: Encrypted, Type: "BitLocker"}, ok
}

// iso9660: ECMA-119, section 8.4. It has no UUID; other programs use a date instead.
func iso9660(d *device) (Contents, bool) {
	b, ok := d.magic(32<<10, 2048, 1, "CD001")
	if !ok {
		return Contents{}, false
	}
	return Contents{Use: Filesystem, Type: "iso9660", Label: strings.TrimRight(text(b[40:72]), " ")}, true
}

// utf16Text decodes little-endian UTF-16 up to the first NUL.
func utf16Text(b []byte) string {
	var units []uint16
	for ; len(b) >= 2 && le16(b) != 0; b = b[2:] {
		units = append(units, le16(b))
	}
	return string(utf16.Decode(units))
}
