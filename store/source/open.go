package source

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/internal/lease"
)

// The flags with which names are opened. O_NONBLOCK keeps a fifo in the place of a file
// from blocking us. Access times do not change if the kernel permits that.
const (
	openFile = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	openDir  = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_DIRECTORY | unix.O_CLOEXEC
	openPath = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC // to be looked at, not read
)

// openLeased is openAt for a file on which another process may have a lease.
func openLeased(ctx context.Context, dir int, name string) (int, error) {
	return lease.Open(ctx, func() (int, error) { return openAt(dir, name, openFile) })
}

// OpenFile opens the file at path for reading. A fifo does not block it, and it waits
// for a lease that another process has on the file. The caller must close it.
func OpenFile(ctx context.Context, path string) (*os.File, error) {
	fd, err := lease.Open(ctx, func() (int, error) {
		return retry(func() (int, error) {
			return unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		})
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openAt opens a name in a directory.
func openAt(dir int, name string, flags int) (int, error) {
	open := func(flags int) (int, error) {
		return retry(func() (int, error) { return unix.Openat(dir, name, flags, 0) })
	}
	if flags&unix.O_PATH != 0 {
		return open(flags)
	}
	fd, err := open(flags | unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) { // the file belongs to another user
		return open(flags)
	}
	return fd, err
}

// retry repeats a call if a signal interrupts it.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

func fstat(fd int) (*unix.Stat_t, error) {
	return retry(func() (*unix.Stat_t, error) {
		st := new(unix.Stat_t)
		return st, unix.Fstat(fd, st)
	})
}

// statAt describes a name in a directory. It follows no symbolic link and triggers no
// automount.
func statAt(dir int, name string) (*unix.Stat_t, error) {
	return retry(func() (*unix.Stat_t, error) {
		st := new(unix.Stat_t)
		return st, unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	})
}

func typeOf(st *unix.Stat_t) uint32 { return st.Mode & unix.S_IFMT }

// isVirtual reports whether fd lies in a virtual file system of the kernel. Such a file
// system has no content of its own, and reading it can have side effects.
func isVirtual(fd int) bool {
	switch fsType(fd) {
	case unix.AUTOFS_SUPER_MAGIC, unix.BINDERFS_SUPER_MAGIC, unix.BINFMTFS_MAGIC, unix.BPF_FS_MAGIC,
		unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC, configMagic, unix.DEBUGFS_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.EFIVARFS_MAGIC, fuseControlMagic, unix.HUGETLBFS_MAGIC, mqueueMagic, nfsdMagic, unix.NSFS_MAGIC, unix.PROC_SUPER_MAGIC,
		unix.PSTOREFS_MAGIC, rpcMagic, unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC, unix.SMACK_MAGIC, unix.SYSFS_MAGIC, unix.TRACEFS_MAGIC:
		return true
	}
	return false
}

// These types of file systems are missing in the kernel's headers for programs.
const (
	configMagic      = 0x62656570
	fuseControlMagic = 0x65735543
	mqueueMagic      = 0x19800202
	nfsdMagic        = 0x6e667364
	rpcMagic         = 0x67596969
)

// fsType returns the type of the file system of fd, 0 if it is unknown.
func fsType(fd int) uint32 {
	var st unix.Statfs_t
	if _, err := retry(func() (int, error) { return 0, unix.Fstatfs(fd, &st) }); err != nil {
		return 0
	}
	return uint32(st.Type) // on some machines the field is signed, and the high bit may be set
}
