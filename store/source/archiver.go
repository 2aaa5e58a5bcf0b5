package source

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// archiver writes the entries that it visits to an archive and lists them in a catalog.
type archiver struct {
	*walker
	begin beginner
	enc   *pxar.Encoder // nil before the top directory is entered
	list  *listing
	name  string // of the archive in the catalog
	links links[pxar.Link]
	fat   map[uint64]bool // whether a device has a FAT file system
}

func (a *archiver) enter(name string, fd int, st *unix.Stat_t, readable bool) (ok bool, err error) {
	m := a.metadata(name, fd, st, readable)
	if name == "" {
		if a.enc, err = a.begin(m); err != nil {
			return false, err
		}
		return true, a.listed("", a.list.start(a.name))
	}
	if ok, err = a.stored(name, a.enc.StartDir(name, m)); !ok {
		return false, err
	}
	a.progress(1, 0)
	return true, a.listed(name, a.list.start(name))
}

func (a *archiver) leave() error {
	if len(a.stack) > 0 {
		if err := a.enc.EndDir(); err != nil {
			return err
		}
	}
	return a.list.end()
}

// stored handles the encoder's answer to an entry. An entry that the encoder refuses is
// left out.
func (a *archiver) stored(name string, err error) (ok bool, _ error) {
	if errors.Is(err, pxar.ErrEntry) {
		a.warn(name, incomplete("left out: %w", err))
		return false, nil
	}
	return err == nil, err
}

// listed handles the catalog's answer to an entry.
func (a *archiver) listed(name string, err error) error {
	if errors.Is(err, catalog.ErrEntry) {
		a.warn(name, fmt.Errorf("not in the catalog: %w", err))
		return nil
	}
	return err
}

// added finishes an entry that is not a directory.
func (a *archiver) added(name string, err error, kind catalog.Kind) error {
	if ok, err := a.stored(name, err); !ok {
		return err
	}
	a.progress(1, 0)
	return a.listed(name, a.list.add(catalog.Entry{Name: name, Kind: kind}))
}

func (a *archiver) leaf(dir int, name string, st *unix.Stat_t) error {
	if typeOf(st) == unix.S_IFREG {
		return a.file(dir, name, st)
	}
	fd, err := openAt(dir, name, openPath)
	if err != nil {
		a.warn(name, describe("open it", err))
		return nil
	}
	defer unix.Close(fd)
	now, err := a.look(fd, typeOf(st))
	if err != nil {
		a.warn(name, err)
		return nil
	}
	return a.special(name, fd, now)
}

// look describes an opened entry, which must still be of the type that it had before.
func (a *archiver) look(fd int, want uint32) (*unix.Stat_t, error) {
	st, err := fstat(fd)
	if err != nil {
		return nil, describe("look at it", err)
	}
	if typeOf(st) != want {
		return nil, incomplete("left out: it became something else: its mode is %#o now", st.Mode)
	}
	return st, nil
}

// special adds an entry that is neither a file nor a directory.
func (a *archiver) special(name string, fd int, st *unix.Stat_t) error {
	m := a.metadata(name, fd, st, false)
	switch typeOf(st) {
	case unix.S_IFLNK:
		target, err := readlink(fd)
		if err != nil {
			a.warn(name, describe("read where it leads", err))
			return nil
		}
		return a.added(name, a.enc.AddSymlink(name, m, target), catalog.Symlink)
	case unix.S_IFCHR:
		return a.added(name, a.enc.AddDevice(name, m, deviceOf(st)), catalog.CharDevice)
	case unix.S_IFBLK:
		return a.added(name, a.enc.AddDevice(name, m, deviceOf(st)), catalog.BlockDevice)
	case unix.S_IFIFO:
		return a.added(name, a.enc.AddSpecial(name, m), catalog.Fifo)
	case unix.S_IFSOCK:
		return a.added(name, a.enc.AddSpecial(name, m), catalog.Socket)
	}
	a.warn(name, incomplete("left out: archives have nothing with mode %#o", st.Mode))
	return nil
}

func deviceOf(st *unix.Stat_t) pxar.Device {
	dev := uint64(st.Rdev)
	return pxar.Device{Major: unix.Major(dev), Minor: unix.Minor(dev)}
}

// readlink returns the target of the symbolic link fd.
func readlink(fd int) (string, error) {
	for size := 4096 + 1; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(fd, "", buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}
