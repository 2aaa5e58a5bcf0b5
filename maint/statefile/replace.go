package statefile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// OwnerOf returns the owner of an existing file; it is not set if there is none.
func OwnerOf(path string) Owner {
	st, err := os.Stat(path)
	if err != nil {
		return Owner{}
	}
	return StatOwner(st)
}

// StatOwner returns the owner in a file's description.
func StatOwner(st os.FileInfo) Owner {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return Owner{}
	}
	return Owner{UID: int(s.Uid), GID: int(s.Gid), Set: true}
}

// give makes path belong to the owner.
func (o Owner) give(path string) error {
	if !o.Set || o.UID == os.Geteuid() && o.GID == os.Getegid() {
		return nil
	}
	return os.Lchown(path, o.UID, o.GID)
}

// createTemp creates an empty file beside path that already has its final mode
// and owner, whatever the umask.
func createTemp(path string, own Owner, mode os.FileMode) (*os.File, error) {
	tmp := path + ".tmp_" + rand.Text()[:10]
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = own.give(tmp)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err != nil {
		f.Close()
		os.Remove(tmp)
		return nil, err
	}
	return f, nil
}

// ReplaceFile puts a new file in place of path in one step. After a crash
// there is the old file or the new one.
func ReplaceFile(path string, data []byte, own Owner, mode os.FileMode) error {
	f, err := createTemp(path, own, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // costs nothing on tmpfs, where operations files live
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// ReplaceConfig is ReplaceFile for a file that people edit. It keeps owner and mode,
// follows a symbolic link, and makes the rename itself durable. fresh and freshMode are
// for a file that does not exist yet.
func ReplaceConfig(path string, data []byte, fresh Owner, freshMode os.FileMode) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	switch st, err := os.Stat(path); {
	case err == nil:
		fresh, freshMode = StatOwner(st), st.Mode().Perm()
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if err := ReplaceFile(path, data, fresh, freshMode); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// ReadLimited reads a regular file that another user may have written. It does not
// follow a symbolic link at the end of the path, and does not wait for a pipe.
func ReadLimited(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadOpen(f, limit)
}

// ReadOpen reads an open file, if it is a plain file of at most limit bytes.
func ReadOpen(f *os.File, limit int64) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", f.Name())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", f.Name(), limit)
	}
	return data, err
}
