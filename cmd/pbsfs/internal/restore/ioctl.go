package restore

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests that are missing in golang.org/x/sys. Their bits for the direction differ from
// machine to machine, as in FS_IOC_GETFLAGS and FS_IOC_SETFLAGS.
const (
	ioctlReads       = unix.FS_IOC_GETFLAGS & 0xe0000000
	ioctlWrites      = unix.FS_IOC_SETFLAGS & 0xe0000000
	fatSetAttributes = ioctlWrites | 4<<16 | 'r'<<8 | 0x11
	fsGetXattr       = ioctlReads | unsafe.Sizeof(fsxattr{})<<16 | 'X'<<8 | 31
	fsSetXattr       = ioctlWrites | unsafe.Sizeof(fsxattr{})<<16 | 'X'<<8 | 32
)

// fsxattr is what FS_IOC_FSGETXATTR answers.
type fsxattr struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

func ioctlFsxattr(fd int, request uintptr, x *fsxattr) error {
	return again(func() error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(x))); errno != 0 {
			return errno
		}
		return nil
	})
}

// project returns the quota project of an open file.
func project(fd int) (uint32, error) {
	var x fsxattr
	err := ioctlFsxattr(fd, fsGetXattr, &x)
	return x.project, err
}

// setProject sets the quota project of an open file.
func setProject(fd int, id uint32) error {
	var x fsxattr
	if err := ioctlFsxattr(fd, fsGetXattr, &x); err != nil {
		return err
	}
	if x.project == id {
		return nil
	}
	x.project = id
	return ioctlFsxattr(fd, fsSetXattr, &x)
}

// flagsOf returns the flags of an open file, as chattr has them.
func flagsOf(fd int) (attr uint32, err error) {
	err = again(func() (err error) {
		attr, err = unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
		return err
	})
	return attr, err
}

func setFlags(fd int, attr uint32) error {
	return again(func() error { return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(attr)) })
}

// setFAT sets the attributes that FAT has instead of flags.
func setFAT(fd int, attr uint32) error {
	return again(func() error { return unix.IoctlSetPointerInt(fd, fatSetAttributes, int(attr)) })
}

func isFAT(fd int) bool {
	var st unix.Statfs_t
	return again(func() error { return unix.Fstatfs(fd, &st) }) == nil && uint32(st.Type) == unix.MSDOS_SUPER_MAGIC
}

// unsupported reports whether an error says that a file system has no such thing.
func unsupported(err error) bool {
	return isAny(err, []error{unix.ENOTTY, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL})
}

// notPermitted reports whether an error says that this user may not do that.
func notPermitted(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}
