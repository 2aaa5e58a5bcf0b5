package source

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/pxar"
)

// metadata returns everything that is stored of fd except its content. Parts that
// cannot be read are left out with a warning. With readable false, fd was opened with
// O_PATH.
func (a *archiver) metadata(name string, fd int, st *unix.Stat_t, readable bool) *pxar.Metadata {
	m := &pxar.Metadata{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid,
		Mtime: pxar.Timestamp{Sec: int64(st.Mtim.Sec), Nsec: uint32(st.Mtim.Nsec)},
	}
	a.attributes(name, m, newAttributes(fd, readable))
	if !readable {
		return m // flags need a readable descriptor
	}
	a.warn(name, a.flags(m, fd, st))
	a.warn(name, project(m, fd))
	return m
}

// attributes adds extended attributes, capabilities and ACLs.
func (a *archiver) attributes(name string, m *pxar.Metadata, x attributes) {
	names, err := x.names()
	if err != nil {
		a.warn(name, incomplete("stored without extended attributes: %w", err))
		return
	}
	for _, attr := range names {
		if !pxar.StoresAttribute(attr) {
			continue
		}
		value, err := x.value(attr)
		if errors.Is(err, unix.ENODATA) {
			continue // removed since
		}
		if err == nil {
			err = m.SetAttribute(attr, value)
		}
		if err != nil {
			a.warn(name, incomplete("stored without its extended attribute %q: %w", attr, err))
		}
	}
}

// flags adds the flags of chattr, or on FAT the attributes of attrib.
func (a *archiver) flags(m *pxar.Metadata, fd int, st *unix.Stat_t) error {
	isFAT, known := a.fat[st.Dev]
	if !known {
		isFAT = fsType(fd) == unix.MSDOS_SUPER_MAGIC
		if a.fat == nil {
			a.fat = make(map[uint64]bool)
		}
		a.fat[st.Dev] = isFAT
	}
	request, flags := uint(unix.FS_IOC_GETFLAGS), pxar.LinuxFlags
	if isFAT {
		request, flags = fatGetAttributes, pxar.FATFlags
	}
	attr, err := retry(func() (uint32, error) { return unix.IoctlGetUint32(fd, request) })
	if unsupported(err) {
		return nil
	}
	if err != nil {
		return incomplete("stored without its flags: %w", err)
	}
	m.Flags |= flags(attr)
	return nil
}

// These requests are missing in golang.org/x/sys. Their bits for the direction differ
// from machine to machine, as in FS_IOC_GETFLAGS.
const (
	ioctlReads       = unix.FS_IOC_GETFLAGS & 0xe0000000
	fatGetAttributes = ioctlReads | 4<<16 | 'r'<<8 | 0x10
	fsGetXattr       = ioctlReads | unsafe.Sizeof(fsxattr{})<<16 | 'X'<<8 | 31
)

// fsxattr is the answer of FS_IOC_FSGETXATTR.
type fsxattr struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

// project adds the quota project.
func project(m *pxar.Metadata, fd int) error {
	var x fsxattr
	_, err := retry(func() (int, error) {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsGetXattr, uintptr(unsafe.Pointer(&x))); errno != 0 {
			return 0, errno
		}
		return 0, nil
	})
	if unsupported(err) {
		return nil
	}
	if err != nil {
		return incomplete("stored without its quota project: %w", err)
	}
	m.ProjectID = x.project
	return nil
}

// unsupported reports whether the error means that a file system has no such
// attributes.
func unsupported(err error) bool {
	for _, e := range []error{unix.ENOTTY, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
