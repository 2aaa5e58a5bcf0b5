package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// The contents of a datastore before it has a snapshot (reference "datastore-layout",
// section 1).
const (
	chunksDir = ".chunks"
	lockFile  = ".lock"
	prefixes  = 1 << 16

	// newChunksDir is the name of .chunks until it is complete.
	newChunksDir = ".chunks.new"
)

// ErrNotEmpty says that no datastore can be made in a directory, because it is not
// empty.
var ErrNotEmpty = errors.New("directory is not empty")

// Create makes an empty datastore in the directory path. The directory is made if it
// does not exist; otherwise it must be empty. It becomes a datastore only when
// everything is there. Files that an interrupted earlier attempt has left are used.
func Create(ctx context.Context, path string) error {
	err := os.Mkdir(path, 0o755)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	root, err := Open(path)
	if err != nil {
		return err
	}
	return errors.Join(root.create(ctx, made), root.Close())
}

// create makes a datastore in the directory, which is new if made says so.
func (r *Root) create(ctx context.Context, made bool) error {
	if err := r.creatable(); err != nil {
		return fmt.Errorf("%s: %w", r.path, err)
	}
	w, err := r.Writable()
	if err != nil {
		return err
	}
	if made {
		if err := unix.Fchmod(w.fd, 0o755); err != nil {
			return w.failed("chmod", "", err)
		}
	}
	return w.fillStore(ctx)
}

// creatable returns an error if no datastore can be made in the directory.
func (r *Root) creatable() error {
	entries, err := r.listAll(".")
	if err != nil {
		return err
	}
	for _, name := range entries {
		switch name {
		case "lost+found", newChunksDir, lockFile:
		case chunksDir:
			return fmt.Errorf("%w: it is a datastore already", ErrNotEmpty)
		default:
			return fmt.Errorf("%w: there is %q", ErrNotEmpty, name)
		}
	}
	return nil
}

// listAll returns all names in a directory.
func (r *Root) listAll(name string) ([]string, error) {
	f, err := r.open(context.Background(), name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// fillStore makes the contents of a datastore. The directory that makes it a datastore
// comes last.
func (w *Writable) fillStore(ctx context.Context) error {
	lock, err := w.LockStore()
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := unix.Fchmod(lock.fd, fileMode); err != nil {
		return w.failed("chmod", lockFile, err)
	}
	if _, err := w.makeDir(newChunksDir, chunkDirMode); err != nil {
		return err
	}
	chunks, err := w.openDir(newChunksDir)
	if err != nil {
		return err
	}
	defer chunks.Close()
	info, err := w.stat(newChunksDir)
	if err != nil {
		return err
	}
	masked := info.Mode&0o7777 != chunkDirMode // by the umask, or a set-gid bit
	for i := range prefixes {
		if i%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.makePrefix(chunks.fd, fmt.Sprintf("%04x", i), masked); err != nil {
			return err
		}
	}
	if err := unix.Fchmodat(w.fd, newChunksDir, chunkDirMode, 0); err != nil {
		return w.failed("chmod", newChunksDir, err)
	}
	if err := w.Sync(); err != nil {
		return err
	}
	if err := unix.Renameat(w.fd, newChunksDir, w.fd, chunksDir); err != nil {
		return w.failed("rename", newChunksDir, err)
	}
	return w.Sync()
}

// makePrefix makes one of the many directories for chunks.
func (w *Writable) makePrefix(chunks int, name string, masked bool) error {
	err := unix.Mkdirat(chunks, name, chunkDirMode)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return w.failed("mkdir", newChunksDir+"/"+name, err)
	}
	if w.uid >= 0 {
		if err := unix.Fchownat(chunks, name, w.uid, w.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return w.failed("chown", newChunksDir+"/"+name, err)
		}
	}
	if masked {
		if err := unix.Fchmodat(chunks, name, chunkDirMode, 0); err != nil {
			return w.failed("chmod", newChunksDir+"/"+name, err)
		}
	}
	return nil
}
