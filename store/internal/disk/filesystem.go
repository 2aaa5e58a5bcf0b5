package disk

import (
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Filesystem identifies a file system. Either field may be "".
type Filesystem struct {
	// UUID is the UUID of the file system, as text.
	UUID string
	// ID is the number that statfs returns, if it is made from the UUID. It is for
	// kernels that do not tell the UUID.
	ID string
}

// Differs reports whether two file systems are surely not the same.
func (f Filesystem) Differs(o Filesystem) bool {
	return f.UUID != "" && o.UUID != "" && f.UUID != o.UUID || f.ID != "" && o.ID != "" && f.ID != o.ID
}

// String returns what is known.
func (f Filesystem) String() string {
	switch {
	case f.UUID != "":
		return "UUID " + f.UUID
	case f.ID != "":
		return "number " + f.ID
	}
	return "of an unknown UUID"
}

// The ioctls that tell a UUID, with where it stands in what they return.
const (
	getFSUUID = 0x80111500 // FS_IOC_GETFSUUID, Linux 6.9: struct fsuuid2, a length and the UUID
	xfsGeom   = 0x80705864 // XFS_IOC_FSGEOMETRY_V1: struct xfs_fsop_geom_v1
	xfsUUID   = 64
	btrfsInfo = 0x8400941f // BTRFS_IOC_FS_INFO: struct btrfs_ioctl_fs_info_args
	btrfsUUID = 16
)

// Filesystem tells which file system holds the datastore.
func (r *Root) Filesystem() Filesystem {
	if b, ok := r.ioctl(getFSUUID); ok && b[0] == 16 {
		return Filesystem{UUID: uuidText(b[1:17])}
	}
	var st unix.Statfs_t
	if unix.Fstatfs(r.fd, &st) != nil {
		return Filesystem{}
	}
	switch st.Type {
	case unix.XFS_SUPER_MAGIC:
		if b, ok := r.ioctl(xfsGeom); ok {
			return Filesystem{UUID: uuidText(b[xfsUUID : xfsUUID+16])}
		}
	case unix.BTRFS_SUPER_MAGIC:
		if b, ok := r.ioctl(btrfsInfo); ok {
			return Filesystem{UUID: uuidText(b[btrfsUUID : btrfsUUID+16])}
		}
	case unix.EXT4_SUPER_MAGIC:
		b := binary.BigEndian.AppendUint32(nil, uint32(st.Fsid.Val[0]))
		return Filesystem{ID: hex.EncodeToString(binary.BigEndian.AppendUint32(b, uint32(st.Fsid.Val[1])))}
	}
	return Filesystem{}
}

// ioctl asks for at most 1024 bytes.
func (r *Root) ioctl(request uintptr) ([]byte, bool) {
	var b [1024]byte
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.fd), request, uintptr(unsafe.Pointer(&b[0])))
	return b[:], errno == 0
}

// uuidText writes 16 bytes as UUIDs are written; "" for zeros.
func uuidText(b []byte) string {
	if [16]byte(b) == [16]byte{} {
		return ""
	}
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// MountOf returns the number of the mount that a path lies on, which is another
// one when something else, or the same again, was mounted there; 0 where the
// kernel does not say. Nothing on the mount is read.
func MountOf(path string) (uint64, error) {
	var st unix.Statx_t
	_, err := retry(func() (int, error) {
		return 0, unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, statxMountID, &st)
	})
	if err != nil {
		return 0, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	return st.Mnt_id, nil
}

// statxMountID asks for the mount number that is never used again, if the kernel has
// it, and otherwise for the one that is.
const statxMountID = unix.STATX_MNT_ID | unix.STATX_MNT_ID_UNIQUE

// Mount returns the number of the mount that the datastore was opened on.
func (r *Root) Mount() uint64 { return r.mount }
