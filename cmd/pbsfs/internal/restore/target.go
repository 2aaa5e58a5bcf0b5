package restore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/reach"
)

// errInDatastore says that something would be written into the datastore that is read.
var errInDatastore = errors.New("nothing is restored into the datastore itself")

// Guard knows the directory of a datastore, which nothing may be written to: by device
// and inode, and by its place on its file system.
type Guard struct {
	ids    map[identity]bool
	device string // of the file system, as in the mount table
	path   string // on the file system
}

// NewGuard looks at the directory of a datastore. One in a bucket has no absolute path, and
// nothing is refused because of it.
func NewGuard(ctx context.Context, dir string) (*Guard, error) {
	g := &Guard{ids: make(map[identity]bool)}
	if !filepath.IsAbs(dir) {
		return g, nil
	}
	for _, p := range []string{dir, filepath.Join(dir, ".chunks")} {
		at, err := reach.Resolve(ctx, p)
		if err != nil {
			return nil, err
		}
		g.ids[identity{at.Dev, at.Ino}] = true
		if p == dir {
			g.device, g.path = onDisk(at)
		}
	}
	return g, nil
}

// onDisk returns where a place lies, whatever is mounted where; "" if that is not known.
func onDisk(at reach.Place) (device, path string) {
	m, ok := mounts.MountByID(at.Mount)
	if !ok {
		return "", ""
	}
	return m.Device(), m.PathOnDisk(at.Path)
}

// check refuses an open directory that is the datastore's, or lies in it.
func (g *Guard) check(ctx context.Context, fd int) error {
	at, err := reach.Resolve(ctx, "/proc/self/fd/"+strconv.Itoa(fd))
	if err != nil {
		return err
	}
	if at.Tree {
		return fmt.Errorf("%s lies in a mounted tree of pbsfs, which cannot be written to", at.Path)
	}
	device, path := onDisk(at)
	if g.device != "" && device == g.device && mounts.Below(path, g.path) {
		return fmt.Errorf("%s lies in the datastore: %w", at.Path, errInDatastore)
	}
	return g.above(fd, at.Path)
}

// above walks up from an open directory and refuses it if it meets the datastore.
func (g *Guard) above(fd int, path string) error {
	fd, err := unix.Openat(fd, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return target("opening the directory", err)
	}
	defer func() { unix.Close(fd) }()
	var last identity
	for {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return target("fstat", err)
		}
		id := identityOf(&st)
		if g.ids[id] {
			return fmt.Errorf("%s lies in the datastore: %w", path, errInDatastore)
		}
		if id == last {
			return nil
		}
		last = id
		up, err := unix.Openat(fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return target("looking above the directory", err)
		}
		unix.Close(fd)
		fd = up
	}
}

// mountOf returns the number of the mount that an open file lies on.
func mountOf(fd int) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	return st.Mnt_id, err
}

// openTarget opens the directory TARGET, or makes it if only it is missing. It returns -1
// for one that is missing in a dry run. private says that it is for nobody else until it
// gets its own metadata.
func (r *run) openTarget(path string, private bool) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		mode := uint32(0o755)
		if private {
			mode = 0o700
		}
		return r.makeTarget(path, mode)
	}
	if errors.Is(err, unix.ENOTDIR) {
		return -1, fmt.Errorf("TARGET %s: it is no directory; an image is written to a file or device by --to", path)
	}
	if err != nil {
		return -1, fmt.Errorf("TARGET %s: %w", path, err)
	}
	if err := r.guard.check(r.ctx, fd); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("TARGET: %w", err)
	}
	return fd, nil
}

// makeTarget makes TARGET in a directory that was checked.
func (r *run) makeTarget(path string, mode uint32) (int, error) {
	above, name := filepath.Split(filepath.Clean(path))
	if above == "" {
		above = "."
	}
	up, err := unix.Open(above, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("TARGET %s: %w; TARGET itself would be made, but not what is above it", path, err)
	}
	defer unix.Close(up)
	if err := r.guard.check(r.ctx, up); err != nil {
		return -1, fmt.Errorf("TARGET: %w", err)
	}
	if r.o.DryRun {
		return -1, nil
	}
	if err := unix.Mkdirat(up, name, mode); err != nil {
		return -1, fmt.Errorf("TARGET %s: %w", path, err)
	}
	fd, err := openDirectory(up, name)
	if err != nil {
		return -1, fmt.Errorf("TARGET %s: %w", path, err)
	}
	return fd, nil
}
