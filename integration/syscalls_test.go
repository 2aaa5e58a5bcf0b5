package integration

import (
	"errors"

	"golang.org/x/sys/unix"
)

// The system calls that the tests make themselves, as package os makes them:
// again when a signal interrupts them. The runtime sends itself signals, and a
// request that waits for the serving process then ends with EINTR.

func again[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

func againErr(call func() error) error {
	_, err := again(func() (struct{}, error) { return struct{}{}, call() })
	return err
}

func lstat(path string, st *unix.Stat_t) error {
	return againErr(func() error { return unix.Lstat(path, st) })
}

func lgetxattr(path, name string, buf []byte) (int, error) {
	return again(func() (int, error) { return unix.Lgetxattr(path, name, buf) })
}

func llistxattr(path string, buf []byte) (int, error) {
	return again(func() (int, error) { return unix.Llistxattr(path, buf) })
}

func pread(fd int, buf []byte, off int64) (int, error) {
	return again(func() (int, error) { return unix.Pread(fd, buf, off) })
}

func getdents(fd int, buf []byte) (int, error) {
	return again(func() (int, error) { return unix.Getdents(fd, buf) })
}

func readlink(path string, buf []byte) (int, error) {
	return again(func() (int, error) { return unix.Readlink(path, buf) })
}

func seek(fd int, off int64, whence int) (int64, error) {
	return again(func() (int64, error) { return unix.Seek(fd, off, whence) })
}

func open(path string, flags int) (int, error) {
	return again(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, 0o644) })
}

func access(path string, mode uint32) error {
	return againErr(func() error { return unix.Access(path, mode) })
}

func statfs(path string, st *unix.Statfs_t) error {
	return againErr(func() error { return unix.Statfs(path, st) })
}
