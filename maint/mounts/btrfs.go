package mounts

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// On a disk with btrfs, one subvolume may be mounted by default. The path of an entry
// on the disk begins there, because a server mounts the disk without naming a
// subvolume. The tree of roots says which subvolume is the default.

// The ioctls and numbers are those of linux/btrfs.h and linux/btrfs_tree.h.
const (
	btrfsTreeSearch = 0xd0009411
	btrfsInoLookup  = 0xd0009412

	btrfsRootTree    = 1
	btrfsTopLevel    = 5 // the subvolume that contains all others
	btrfsRootTreeDir = 6
	btrfsDirItem     = 84
)

// btrfsSearch is struct btrfs_ioctl_search_args.
type btrfsSearch struct {
	tree                     uint64
	minObject, maxObject     uint64
	minOffset, maxOffset     uint64
	minTransID, maxTransID   uint64
	minType, maxType, number uint32
	_                        uint32
	_                        [4]uint64
	found                    [4096 - 104]byte
}

// btrfsPath is struct btrfs_ioctl_ino_lookup_args.
type btrfsPath struct {
	tree, object uint64
	name         [4080]byte
}

// pathInDefault returns the path of a directory from the top of the subvolume that is
// mounted by default. ok is false if the directory lies elsewhere, if the top of the
// whole file system is the default, or if only root may know.
func pathInDefault(dir string) (path string, ok bool) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", false
	}
	defer f.Close()
	id, ok := defaultSubvolume(f)
	if !ok || id == btrfsTopLevel {
		return "", false
	}
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return "", false
	}
	at := btrfsPath{object: st.Ino}
	if !btrfsIoctl(f, btrfsInoLookup, unsafe.Pointer(&at)) || at.tree != id {
		return "", false
	}
	name, _, _ := bytes.Cut(at.name[:], []byte{0})
	return filepath.Join("/", string(name)), true
}

// defaultSubvolume returns the ID of the subvolume that is mounted by default.
func defaultSubvolume(f *os.File) (uint64, bool) {
	s := btrfsSearch{
		tree: btrfsRootTree, minObject: btrfsRootTreeDir, maxObject: btrfsRootTreeDir,
		maxOffset: ^uint64(0), maxTransID: ^uint64(0), minType: btrfsDirItem, maxType: btrfsDirItem, number: 1,
	}
	if !btrfsIoctl(f, btrfsTreeSearch, unsafe.Pointer(&s)) {
		return 0, false
	}
	if s.number == 0 {
		return btrfsTopLevel, true
	}
	const header = 32 // the size of the header before the item; its first field is the ID
	return binary.LittleEndian.Uint64(s.found[header:]), true
}

func btrfsIoctl(f *os.File, request uintptr, arg unsafe.Pointer) bool {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
	return errno == 0
}
