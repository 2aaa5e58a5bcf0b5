package maint

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

const (
	// maxLockName is the longest name that a lock file may have. Longer names are
	// hashed; hashedEnds bytes stay at both ends.
	maxLockName = 255
	hashedEnds  = 80
)

// SnapshotLock is a shared lock on a snapshot, as a newer PBS takes it: a flock on a
// file in its run directory. An older PBS locks the snapshot's directory instead, which
// this package must not open. See reference "operations-and-maintenance", section 5.
type SnapshotLock struct{ files []*os.File }

// Release releases the lock. It may be called on nil.
func (l *SnapshotLock) Release() {
	if l == nil {
		return
	}
	for _, f := range l.files {
		_ = f.Close()
	}
	l.files = nil
}

// LockSnapshot takes the shared lock of a snapshot, without waiting, under each name of
// its datastore. If another process holds the lock exclusively, the error matches
// [ErrLocked]. path is "type/id/time", and namespace is the list of components of the
// namespace. On a host without PBS there is no server to lock out in this way, and the
// lock is nil.
func LockSnapshot(host hosts.Host, stores []string, namespace []string, path string) (*SnapshotLock, error) {
	if !host.IsPBS() {
		return nil, nil
	}
	l := &SnapshotLock{}
	for _, store := range stores {
		f, err := lockSnapshotOf(host, store, namespace, path)
		if err != nil {
			l.Release()
			return nil, err
		}
		l.files = append(l.files, f)
	}
	return l, nil
}

func lockSnapshotOf(host hosts.Host, store string, namespace []string, path string) (*os.File, error) {
	if err := hosts.CheckStore(store); err != nil {
		return nil, err
	}
	file := snapshotLockFile(host.LocksDir(), store, namespace, path)
	if err := makeLockDirs(host, filepath.Dir(file)); err != nil {
		return nil, fmt.Errorf("lock snapshot %s: %w", path, err)
	}
	// The file is removed together with its snapshot. A lock on a removed file locks
	// nothing.
	for range 3 {
		f, err := statefile.OpenLock(file, host.Files(), statefile.LockMode)
		if err != nil {
			return nil, fmt.Errorf("lock snapshot %s: %w", path, err)
		}
		err = statefile.Flock(f, unix.LOCK_SH|unix.LOCK_NB)
		if err == nil && statefile.SameFile(f, file) {
			return f, nil
		}
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &statefile.LockError{File: file, Holder: statefile.LockHolder(file)}
		}
		if err != nil {
			return nil, fmt.Errorf("lock snapshot %s: %w", path, err)
		}
	}
	return nil, &statefile.LockError{File: file}
}

// makeLockDirs makes the directories of a lock file below the run directory. They
// belong to PBS's user: a directory owned by root would keep the server from creating
// locks.
func makeLockDirs(host hosts.Host, dir string) error {
	rel, err := filepath.Rel(host.RunDir(), dir)
	if err != nil {
		return err
	}
	at := host.RunDir()
	for part := range strings.SplitSeq(rel, string(filepath.Separator)) {
		at = filepath.Join(at, part)
		if err := statefile.MakeDir(at, host.Files(), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// snapshotLockFile returns where PBS keeps the lock of a snapshot.
func snapshotLockFile(dir, store string, namespace []string, path string) string {
	at := filepath.Join(dir, store)
	if len(namespace) > 0 {
		at = filepath.Join(at, strings.Join(namespace, ":"))
	}
	name := escapeUnit(path)
	if len(name) < maxLockName {
		return filepath.Join(at, name)
	}
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(at, "hashed", name[:hashedEnds]+"..."+name[len(name)-hashedEnds:]+"-"+hex.EncodeToString(sum[:]))
}

// escapeUnit escapes a path as systemd does for the name of a unit.
func escapeUnit(path string) string {
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		switch {
		case c == '/':
			b.WriteByte('-')
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
