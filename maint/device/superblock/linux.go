package superblock

import "strings"

// The file systems of Linux.

const (
	extBase = 1024

	extCompatJournal     = 0x4
	extIncompatRecover   = 0x4
	extIncompatJournal   = 0x8     // the device is the journal of another file system
	ext3Incompat         = 0x16    // filetype, recover, meta_bg
	ext3ROCompat         = 0x7     // sparse_super, large_file, btree_dir
	extROCompatOrphans   = 0x10000 // the orphan file has entries
	extStateValid        = 0x1
	btrfsBase            = 64 << 10
	erofsMagic           = "\xe2\xe1\xf5\xe0"
	f2fsMagic            = "\x10\x20\xf5\xf2"
	btrfsLabel, btrfsEnd = 0x12b, 0x12b + 256
)

// ext is ext2, ext3 and ext4: Linux, fs/ext4/ext4.h, struct ext4_super_block.
func ext(d *device) (Contents, bool) {
	b, ok := d.magic(extBase, 1024, 0x38, "\x53\xef")
	if !ok {
		return Contents{}, false
	}
	compat, incompat, ro := le32(b[0x5c:]), le32(b[0x60:]), le32(b[0x64:])
	c := Contents{Use: Filesystem, Type: "ext4", UUID: uuid(b[0x68:]), Label: text(b[0x78:0x88])}
	journal := compat&extCompatJournal != 0
	switch {
	case incompat&extIncompatJournal != 0:
		c.Use, c.Type = Member, "jbd"
	case incompat&^ext3Incompat != 0 || ro&^ext3ROCompat != 0:
	case journal:
		c.Type = "ext3"
	default:
		c.Type = "ext2"
	}
	c.Unclean = incompat&extIncompatRecover != 0 || !journal && le16(b[0x3a:])&extStateValid == 0
	c.Orphans = le32(b[0xe8:]) != 0 || ro&extROCompatOrphans != 0
	return c, true
}

// xfs: Linux, fs/xfs/libxfs/xfs_format.h, struct xfs_dsb. It does not say whether its
// log needs replay.
func xfs(d *device) (Contents, bool) {
	b, ok := d.magic(0, 512, 0, "XFSB")
	if !ok {
		return Contents{}, false
	}
	return Contents{Use: Filesystem, Type: "xfs", UUID: uuid(b[32:]), Label: text(b[108:120])}, true
}

// btrfs: Linux, include/uapi/linux/btrfs_tree.h, struct btrfs_super_block.
func btrfs(d *device) (Contents, bool) {
	b, ok := d.magic(btrfsBase, 4096, 0x40, "_BHRfS_M")
	if !ok {
		return Contents{}, false
	}
	return Contents{
		Use: Filesystem, Type: "btrfs", UUID: uuid(b[0x20:]), Label: text(b[btrfsLabel:btrfsEnd]),
		Unclean: le64(b[0x60:]) != 0, // there is a tree log
	}, true
}

// squashfs: Linux, fs/squashfs/squashfs_fs.h. It has neither UUID nor label.
func squashfs(d *device) (Contents, bool) {
	_, ok := d.magic(0, 96, 0, "hsqs")
	return Contents{Use: Filesystem, Type: "squashfs"}, ok
}

// erofs: Linux, fs/erofs/erofs_fs.h, struct erofs_super_block.
func erofs(d *device) (Contents, bool) {
	b, ok := d.magic(1024, 128, 0, erofsMagic)
	if !ok {
		return Contents{}, false
	}
	return Contents{Use: Filesystem, Type: "erofs", UUID: uuid(b[48:]), Label: text(b[64:80])}, true
}

// f2fs: Linux, include/linux/f2fs_fs.h, struct f2fs_super_block.
func f2fs(d *device) (Contents, bool) {
	b, ok := d.magic(1024, 1024, 0, f2fsMagic)
	if !ok {
		return Contents{}, false
	}
	return Contents{Use: Filesystem, Type: "f2fs", UUID: uuid(b[108:]), Label: utf16Text(b[124 : 124+512])}, true
}

// swap: Linux, include/linux/swap.h, union swap_header, with pages of 4 KiB.
func swap(d *device) (Contents, bool) {
	b, ok := d.magic(0, 4096, 4086, "SWAPSPACE2")
	if !ok {
		return Contents{}, false
	}
	return Contents{Use: Swap, Type: "swap", UUID: uuid(b[1036:]), Label: text(b[1052:1068])}, true
}

// luks: the LUKS1 and LUKS2 on-disk format specifications.
func luks(d *device) (Contents, bool) {
	b, ok := d.magic(0, 512, 0, "LUKS\xba\xbe")
	if !ok {
		return Contents{}, false
	}
	c := Contents{Use: Encrypted, Type: "crypto_LUKS", UUID: text(b[168:208])}
	if b[6] == 0 && b[7] == 2 {
		c.Label = text(b[24:72])
	}
	return c, true
}

// volumeGroup is a physical volume of LVM2: lvm2, lib/format_text/layout.h, whose
// label is in one of the first four sectors.
func volumeGroup(d *device) (Contents, bool) {
	const sector = 512
	for i := range int64(4) {
		b, ok := d.magic(i*sector, sector, 0, "LABELONE")
		if ok && string(b[24:32]) == "LVM2 001" {
			return Contents{Use: Member, Type: "LVM2_member", UUID: lvmID(b[32:64])}, true
		}
	}
	return Contents{}, false
}

// lvmID groups the 32 characters of an LVM identity as LVM does.
func lvmID(b []byte) string {
	s := text(b)
	if len(s) != 32 {
		return ""
	}
	var parts []string
	for _, n := range []int{6, 4, 4, 4, 4, 4, 6} {
		parts, s = append(parts, s[:n]), s[n:]
	}
	return strings.Join(parts, "-")
}

// raid is a member of an md RAID: Linux, include/uapi/linux/raid/md_p.h. The position
// of the superblock tells its version.
func raid(d *device) (Contents, bool) {
	const magic = "\xfc\x4e\x2b\xa9"
	v10 := (d.size>>9 - 16) &^ 7 << 9
	for _, at := range []int64{0, 4096, v10} {
		b, ok := d.magic(at, 256, 0, magic)
		if ok && le32(b[4:]) == 1 && le64(b[144:]) == uint64(at)>>9 {
			return Contents{Use: Member, Type: "linux_raid_member", UUID: uuid(b[16:]), Label: text(b[32:64])}, true
		}
	}
	if _, ok := d.magic(d.size&^(64<<10-1)-64<<10, 4096, 0, magic+"\x00\x00\x00\x00"); ok { // version 0.90
		return Contents{Use: Member, Type: "linux_raid_member"}, true
	}
	return Contents{}, false
}
