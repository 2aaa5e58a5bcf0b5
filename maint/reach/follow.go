package reach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// TreeType is the type of a mounted pbsfs tree in the mount table.
const TreeType = "fuse.pbsfs"

// maxLinks is how many symbolic links one path may have, as in the kernel.
const maxLinks = 40

// Place is where a path leads.
type Place struct {
	// Path is the path without symbolic links, "." and "..". If the path could not be
	// followed to its end, the rest is as it was written.
	Path string
	// Mount is the ID of the mount on which the place lies.
	Mount uint64
	// Dev, Ino and Mode are those of what is there.
	Dev, Ino uint64
	Mode     uint32
	// Tree says that the path leads to, or into, a mounted tree of pbsfs with its top
	// at Top. Dev, Ino and Mode are zero then, because the tree is not asked.
	Tree bool
	Top  string
}

// IsDir reports whether a directory was found at the place.
func (p Place) IsDir() bool { return p.Mode&unix.S_IFMT == unix.S_IFDIR }

// Abs returns the path from the root. It looks at nothing, because a working directory
// may hang as well. "." and ".." stay, because their meaning depends on symbolic links.
func Abs(path string) (string, error) {
	if strings.HasPrefix(path, "/") {
		return path, nil
	}
	dir, err := unix.Getwd()
	if err != nil {
		return "", os.NewSyscallError("getwd", err)
	}
	if !strings.HasPrefix(dir, "/") {
		return "", fmt.Errorf("the working directory %q is outside of the root directory", dir)
	}
	return strings.TrimSuffix(dir, "/") + "/" + path, nil
}

// Follow follows a path to its end. The answer's Path is set even if there is an error.
// Follow has no time limit: see [Resolve].
func Follow(path string) (Place, error) { return FollowVia(path, func(uint64) {}) }

// FollowVia is Follow. It calls at for each mount that it is about to ask.
func FollowVia(path string, at func(mount uint64)) (Place, error) {
	path, err := Abs(path)
	if err != nil {
		return Place{Path: filepath.Clean(path)}, err
	}
	w := &walk{fd: -1, rest: parts(path), entering: at}
	defer w.close()
	if err := w.start(); err != nil {
		return Place{Path: filepath.Clean(path)}, &os.PathError{Op: "follow", Path: path, Err: err}
	}
	for len(w.rest) > 0 && !w.at.Tree {
		name := w.rest[0]
		w.rest = w.rest[1:]
		if err := w.step(name); err != nil {
			at := Place{Path: filepath.Join(append([]string{w.at.Path, name}, w.rest...)...)}
			return at, &os.PathError{Op: "follow", Path: path, Err: err}
		}
		if err := w.leaveTree(); err != nil {
			return w.at, &os.PathError{Op: "follow", Path: path, Err: err}
		}
	}
	return w.at, nil
}

func parts(path string) []string {
	var out []string
	for p := range strings.SplitSeq(path, "/") {
		if p != "" && p != "." {
			out = append(out, p)
		}
	}
	return out
}

// walk is a position on a path.
type walk struct {
	fd       int // of at; -1 before the start
	at       Place
	rest     []string
	links    int
	types    map[uint64]string // of file systems, by mount ID
	entering func(mount uint64)
}

func (w *walk) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
}

// start begins at the root directory.
func (w *walk) start() error {
	w.close()
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	w.fd = fd
	if err != nil {
		return err
	}
	w.at, err = w.look(fd)
	w.at.Path = "/"
	return err
}

// step goes one component further, which may be a link.
func (w *walk) step(name string) error {
	fd, err := w.open(name, unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	place, err := w.look(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	if w.types[place.Mount] == "autofs" && place.IsDir() {
		if fd, place, err = w.trigger(fd, name); err != nil {
			return err
		}
	}
	if place.Mode&unix.S_IFMT == unix.S_IFLNK {
		return w.link(fd, name, place)
	}
	w.to(fd, place, filepath.Join(w.at.Path, name))
	return nil
}

// open opens a component of the present directory. It asks nothing of a file system
// that is mounted there.
func (w *walk) open(name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(w.fd, name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// trigger makes an automount happen.
func (w *walk) trigger(old int, name string) (int, Place, error) {
	unix.Close(old)
	fd, err := w.open(name, unix.O_NOFOLLOW|unix.O_DIRECTORY)
	if err != nil {
		return -1, Place{}, err
	}
	place, err := w.look(fd)
	if err != nil {
		unix.Close(fd)
	}
	return fd, place, err
}

// link follows the symbolic link fd.
func (w *walk) link(fd int, name string, link Place) error {
	defer unix.Close(fd)
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	if w.types[link.Mount] == "proc" {
		return w.jump(name)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return err
	}
	to := string(buf[:n])
	w.rest = append(parts(to), w.rest...)
	if strings.HasPrefix(to, "/") {
		return w.start()
	}
	return nil
}

// jump follows a link of /proc, which does not lead where its text says.
func (w *walk) jump(name string) error {
	fd, err := w.open(name, 0)
	if err != nil {
		return err
	}
	place, err := w.look(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		unix.Close(fd)
		return err
	}
	w.to(fd, place, path)
	return nil
}

func (w *walk) to(fd int, place Place, path string) {
	unix.Close(w.fd)
	place.Path = path
	if place.Tree {
		place.Top = path
	}
	w.fd, w.at = fd, place
}

// leaveTree handles a path that leads into a tree: the rest is followed as it is
// written, without looking. It may lead out of the tree again.
func (w *walk) leaveTree() error {
	if !w.at.Tree || len(w.rest) == 0 {
		return nil
	}
	top := w.at.Path
	path := filepath.Join(append([]string{top}, w.rest...)...)
	if path == top || strings.HasPrefix(path, strings.TrimSuffix(top, "/")+"/") {
		w.at.Path, w.rest = path, nil
		return nil
	}
	w.rest = parts(path)
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	return w.start()
}

// look describes fd, without asking a tree of pbsfs anything.
func (w *walk) look(fd int) (Place, error) {
	var st unix.Statx_t
	// quiet asks only for what the kernel knows by itself.
	const quiet = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC
	if err := unix.Statx(fd, "", quiet, unix.STATX_MNT_ID, &st); err != nil {
		return Place{}, err
	}
	kind, err := w.typeOf(st.Mnt_id, fd)
	if err != nil {
		return Place{}, err
	}
	if kind == TreeType {
		return Place{Mount: st.Mnt_id, Tree: true}, nil
	}
	w.entering(st.Mnt_id)
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_INO, &st); err != nil {
		return Place{}, err
	}
	return Place{
		Mount: st.Mnt_id, Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino, Mode: uint32(st.Mode),
	}, nil
}

// typeOf returns the type of the file system of a mount.
func (w *walk) typeOf(mount uint64, fd int) (string, error) {
	if kind, ok := w.types[mount]; ok {
		return kind, nil
	}
	var err error
	if w.types, err = mountTypes(); err != nil {
		return "", err
	}
	if kind, ok := w.types[mount]; ok {
		return kind, nil
	}
	// The mount is in none of our tables: it was taken away meanwhile, or belongs to
	// another namespace.
	w.entering(mount)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "", err
	}
	if st.Type == unix.FUSE_SUPER_MAGIC {
		return "", errElsewhere
	}
	w.types[mount] = ""
	return "", nil
}

var errElsewhere = errors.New("lies on a mount that cannot be seen from here")
