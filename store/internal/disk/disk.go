// Package disk is the only code of this module that opens files of a
// datastore.
//
// A [Root] is an open datastore directory. The kernel resolves every name below it
// (openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS), so neither a name from
// outside nor a symbolic link inside the datastore can lead anywhere else. Files are
// opened read-only, and their access times do not change if the kernel permits that.
// Only a [Writable] makes files, and it never changes one.
//
// A Root costs one descriptor; files are opened, read and closed within one call. Its
// owner closes it when the last operation on the datastore ends.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/lease"
)

// resolve keeps a lookup inside the datastore, whatever lies there.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// Root is an open datastore directory. It is safe for concurrent use, but Close must
// not be called while another call runs.
type Root struct {
	path  string
	fd    int
	mount uint64 // number of the mount
	// atime is set once the kernel has refused O_NOATIME, which only the
	// owner of a file and root may ask for.
	atime atomic.Bool
}

// Open opens the directory at path. Symbolic links in path itself are
// followed: they are the administrator's.
func Open(path string) (*Root, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statxMountID, &st); err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	return &Root{path: path, fd: fd, mount: st.Mnt_id}, nil
}

// Close closes the directory.
func (r *Root) Close() error { return unix.Close(r.fd) }

// open opens name below the directory. O_NONBLOCK keeps a fifo in the place of a file
// from blocking us. open waits for a lease, which a file server may have on the file.
func (r *Root) open(ctx context.Context, name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Resolve: resolve}
	how.Flags = uint64(flags | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOFOLLOW)
	if !r.atime.Load() {
		how.Flags |= unix.O_NOATIME
	}
	call := func() (int, error) {
		return retry(func() (int, error) { return unix.Openat2(r.fd, name, &how) })
	}
	fd, err := lease.Open(ctx, call)
	if errors.Is(err, unix.EPERM) && how.Flags&unix.O_NOATIME != 0 {
		how.Flags &^= unix.O_NOATIME
		if fd, err = lease.Open(ctx, call); err == nil {
			r.atime.Store(true)
		}
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: r.path + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), r.path+"/"+name), nil
}

// retry repeats a call if a signal interrupts it.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func infoOf(st *unix.Stat_t) backend.Info {
	return backend.Info{
		Identity: backend.Identity{Dev: st.Dev, Ino: st.Ino},
		Mode:     st.Mode,
		UID:      st.Uid,
		GID:      st.Gid,
		Size:     st.Size,
		Mtime:    time.Unix(st.Mtim.Unix()),
		Ctime:    time.Unix(st.Ctim.Unix()),
	}
}

// Stat describes name, which may be "." for the directory itself. A symbolic
// link is an error.
func (r *Root) Stat(_ context.Context, name string) (backend.Info, error) { return r.stat(name) }

func (r *Root) stat(name string) (backend.Info, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve}
	fd, err := retry(func() (int, error) { return unix.Openat2(r.fd, name, &how) })
	if err != nil {
		return backend.Info{}, &fs.PathError{Op: "stat", Path: r.path + "/" + name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return backend.Info{}, &fs.PathError{Op: "stat", Path: r.path + "/" + name, Err: err}
	}
	return infoOf(&st), nil
}

// Statfs returns the figures of the file system that holds the datastore.
func (r *Root) Statfs() (unix.Statfs_t, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(r.fd, &st); err != nil {
		return st, &fs.PathError{Op: "statfs", Path: r.path, Err: err}
	}
	return st, nil
}

// ReadFile reads the regular file name, which must not be longer than limit
// bytes, into buf where its capacity is enough. It returns what it read and
// the file as it was described when it was opened.
func (r *Root) ReadFile(ctx context.Context, name string, limit int64, buf []byte) ([]byte, backend.Info, error) {
	info, err := r.Through(ctx, name, limit, func(f io.Reader, size int64) error {
		if int64(cap(buf)) < size {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		_, err := io.ReadFull(f, buf)
		return err
	})
	if err != nil {
		return nil, info, err
	}
	return buf, info, nil
}

// Through has read read the regular file name, which must not be longer than
// limit bytes, from its beginning; [io.ErrUnexpectedEOF] is how it says that the
// file was shorter than size. Through returns the file as it was described when
// it was opened.
func (r *Root) Through(ctx context.Context, name string, limit int64, read func(f io.Reader, size int64) error) (backend.Info, error) {
	f, err := r.open(ctx, name, unix.O_RDONLY)
	if err != nil {
		return backend.Info{}, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return backend.Info{}, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	info := infoOf(&st)
	switch {
	case !info.IsRegular():
		return info, fmt.Errorf("%s: %w", f.Name(), corrupt.New("not a regular file"))
	case info.Size > limit:
		return info, fmt.Errorf("%s: %w: %w", f.Name(), backend.ErrTooLarge, corrupt.New("%d bytes, at most %d are allowed", info.Size, limit))
	}
	err = read(f, info.Size)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return info, fmt.Errorf("%s: %w", f.Name(), corrupt.New("file shrank from %d bytes while it was read", info.Size))
	}
	return info, err
}
