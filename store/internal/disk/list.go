package disk

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/internal/backend"
)

// List returns the directories and regular files in the directory name. It leaves out
// everything else, above all symbolic links, as the server does. If reading fails
// half-way, it returns what it has read, with the error.
func (r *Root) List(ctx context.Context, name string) ([]backend.Entry, error) {
	f, err := r.open(ctx, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []backend.Entry
	for {
		batch, err := f.ReadDir(1024)
		for _, e := range batch {
			if e.IsDir() || e.Type().IsRegular() {
				out = append(out, backend.Entry{Name: e.Name(), Dir: e.IsDir()})
			}
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

// Dir is an open directory, for many calls about its children.
type Dir struct {
	root *Root
	name string
	fd   int
}

// OpenDir opens the directory name. The caller must Close it.
func (r *Root) OpenDir(_ context.Context, name string) (backend.Directory, error) {
	d, err := r.openDir(name)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (r *Root) openDir(name string) (*Dir, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolve}
	fd, err := retry(func() (int, error) { return unix.Openat2(r.fd, name, &how) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: r.path + "/" + name, Err: err}
	}
	return &Dir{root: r, name: name, fd: fd}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return unix.Close(d.fd) }

// Stat describes name below the directory; name may have several components.
// A symbolic link in the last one is described as such and so is no regular
// file; what lies behind a link in another one is not reached.
func (d *Dir) Stat(_ context.Context, name string) (backend.Info, error) { return d.stat(name) }

func (d *Dir) stat(name string) (backend.Info, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: resolve}
	fd, err := retry(func() (int, error) { return unix.Openat2(d.fd, name, &how) })
	if err != nil {
		return backend.Info{}, &fs.PathError{Op: "stat", Path: d.root.path + "/" + d.name + "/" + name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return backend.Info{}, &fs.PathError{Op: "stat", Path: d.root.path + "/" + d.name + "/" + name, Err: err}
	}
	return infoOf(&st), nil
}

// Lock is a lock on a file or directory. It keeps a descriptor open until
// Release.
type Lock struct{ fd int }

// LockShared takes the shared flock of the directory name without waiting. If the
// directory is locked exclusively, the error matches EWOULDBLOCK.
func (r *Root) LockShared(name string) (backend.Lock, error) {
	l, err := r.lockDir(name, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (r *Root) lockDir(name string, kind int) (*Lock, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolve}
	fd, err := retry(func() (int, error) { return unix.Openat2(r.fd, name, &how) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: r.path + "/" + name, Err: err}
	}
	if _, err := retry(func() (int, error) { return 0, unix.Flock(fd, kind|unix.LOCK_NB) }); err != nil {
		_ = unix.Close(fd)
		return nil, &fs.PathError{Op: "lock", Path: r.path + "/" + name, Err: err}
	}
	return &Lock{fd: fd}, nil
}

// Release releases the lock.
func (l *Lock) Release() { _ = unix.Close(l.fd) }
