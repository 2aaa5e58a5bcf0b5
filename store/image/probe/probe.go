package probe

import (
	"errors"
	"fmt"
	"io"
)

// Found is what was recognised.
type Found struct {
	// Name is that of the format, as blkid(8) has it where it has one.
	Name string
	// Advice says in one line what it is, and what to do to get at the files.
	Advice string
}

// mark is a mark of a format: bytes at an offset. A negative offset counts from the end.
type mark struct {
	off   int64
	bytes string
	found Found
}

var (
	swap  = Found{"swap", "swap space: it holds no files"}
	luks  = Found{"crypto_LUKS", "encrypted with LUKS: open a copy of the .img with 'cryptsetup open --readonly' and the passphrase"}
	md    = Found{"linux_raid_member", "part of a Linux software RAID: assemble copies of all parts with 'mdadm --assemble --readonly'"}
	zfs   = Found{"zfs_member", "part of a ZFS pool: import copies of all parts with 'zpool import -o readonly=on -d DIR'"}
	bcash = Found{"bcache", "part of a bcache: register copies of all parts with the kernel"}
	jfs   = Found{"jfs", mountIt("JFS")}
)

// mountIt advises to let the kernel read a file system.
func mountIt(name string) string {
	return name + " cannot be read here: attach the .img with 'losetup -r -f --show' and mount it with 'mount -o ro'"
}

// marks are looked for in this order. What encrypts or wraps comes before what it may
// contain.
var marks = []mark{
	{0, "LUKS\xba\xbe\x00\x01", luks},
	{0, "LUKS\xba\xbe\x00\x02", luks},
	{3, "-FVE-FS-", Found{"BitLocker", "encrypted with BitLocker: open a copy of the .img with 'cryptsetup open --type bitlk --readonly' and the recovery key"}},
	{0, "\xfc\x4e\x2b\xa9", md},
	{4096, "\xfc\x4e\x2b\xa9", md},
	{-8192, "\xfc\x4e\x2b\xa9", md},
	{-65536, "\xfc\x4e\x2b\xa9", md},
	{0, "bluestore block device", Found{"ceph_bluestore", "an OSD of Ceph: start it with Ceph's own tools"}},
	{4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", bcash},
	{4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", Found{"bcachefs", mountIt("bcachefs")}},
	{0, "dmvdo001", Found{"vdo", "a VDO volume: activate it with LVM's own tools"}},
	{0, "DM_VERITY_HASH_S", Found{"DM_verity_hash", "the checksums of another part: it holds no files"}},
	{4086, "SWAPSPACE2", swap},
	{4086, "SWAP-SPACE", swap},
	{8182, "SWAPSPACE2", swap},
	{16374, "SWAPSPACE2", swap},
	{65526, "SWAPSPACE2", swap},
	{3, "ReFS\x00\x00\x00\x00", Found{"ReFS", "ReFS of Windows cannot be read here: attach a copy of the .img to a Windows machine"}},
	{3, "NTFS    ", Found{"ntfs", mountIt("NTFS")}},
	{3, "EXFAT   ", Found{"exfat", mountIt("exFAT")}},
	{32, "NXSB", Found{"apfs", "APFS of macOS cannot be read here"}},
	{1024, "H+", Found{"hfsplus", mountIt("HFS+")}},
	{1024, "HX", Found{"hfsplus", mountIt("HFS+")}},
	{1024, "BD", Found{"hfs", mountIt("HFS")}},
	{0, "XFSB", Found{"xfs", mountIt("XFS")}},
	{0, "hsqs", Found{"squashfs", "squashfs cannot be read here: unpack the .img with 'unsquashfs'"}},
	{1024, "\xe2\xe1\xf5\xe0", Found{"erofs", mountIt("EROFS")}},
	{1024, "\x10\x20\xf5\xf2", Found{"f2fs", mountIt("F2FS")}},
	{1080, "\x53\xef", Found{"ext", mountIt("ext2, ext3 or ext4")}},
	{65536 + 64, "_BHRfS_M", Found{"btrfs", mountIt("btrfs")}},
	{32768, "JFS1", jfs},
	{65536 + 52, "ReIsEr", Found{"reiserfs", mountIt("ReiserFS")}},
	{8192 + 52, "ReIsEr", Found{"reiserfs", mountIt("ReiserFS")}},
	{1024 + 6, "\x34\x34", Found{"nilfs2", mountIt("NILFS2")}},
	{0x200000, "VMFS", Found{"VMFS", "VMFS of VMware cannot be read here: use 'vmfs-fuse'"}},
	{0x100000, "\x0d\xd0\x01\xc0", Found{"VMFS_volume_member", "VMFS of VMware cannot be read here: use 'vmfs-fuse'"}},
	{32768 + 1, "CD001", Found{"iso9660", mountIt("an ISO 9660 image")}},
	{32768 + 1, "BEA01", Found{"udf", mountIt("UDF")}},
	{1372, "\x19\x01\x54\x19", Found{"ufs", mountIt("UFS")}},
	{8192 + 1372, "\x19\x01\x54\x19", Found{"ufs", mountIt("UFS2")}},
	{65536 + 1372, "\x19\x01\x54\x19", Found{"ufs", mountIt("UFS2")}},
}

// zfsLabels are where a member of a pool may have the first of its blocks, every 1 KiB.
const (
	zfsBlocks = 128 << 10
	zfsStep   = 1 << 10
	zfsCount  = 128
	zfsMark   = "\x0c\xb1\xba\x00\x00\x00\x00\x00"
)

// Look returns what is recognised on r, and whether anything is.
func Look(r io.ReaderAt, size int64) (Found, bool, error) {
	for _, m := range marks {
		off := m.off
		if off < 0 {
			off += size
		}
		there, err := has(r, size, off, m.bytes)
		if err != nil {
			return Found{}, false, err
		}
		if there {
			return m.found, true, nil
		}
	}
	return lookZFS(r, size)
}

// has reports whether bytes are at an offset.
func has(r io.ReaderAt, size, off int64, want string) (bool, error) {
	if off < 0 || off > size-int64(len(want)) {
		return false, nil
	}
	got := make([]byte, len(want))
	n, err := r.ReadAt(got, off)
	if n < len(got) {
		if err == nil || errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, fmt.Errorf("looking for marks of file systems at offset %d: %w", off, err)
	}
	return string(got) == want, nil
}

// lookZFS looks for the blocks of a pool, of which any may be in use.
func lookZFS(r io.ReaderAt, size int64) (Found, bool, error) {
	if size < zfsBlocks+zfsCount*zfsStep {
		return Found{}, false, nil
	}
	ring := make([]byte, zfsCount*zfsStep)
	n, err := r.ReadAt(ring, zfsBlocks)
	if n < len(ring) {
		if err == nil || errors.Is(err, io.EOF) {
			return Found{}, false, nil
		}
		return Found{}, false, fmt.Errorf("looking for a ZFS pool: %w", err)
	}
	for at := 0; at < len(ring); at += zfsStep {
		if string(ring[at:at+8]) == zfsMark {
			return zfs, true, nil
		}
	}
	return Found{}, false, nil
}
