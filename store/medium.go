package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/store/internal/disk"
)

// medium is the directory of a datastore. Its disk may be removed, with or without an
// unmount, and come back. What is mounted at the path then is the datastore only if it
// is the same file system as before.
//
// While an operation is active, the directory is open; without one, nothing is.
type medium struct {
	name, path string
	log        *slog.Logger
	// another is called when the directory at the path is another one than before.
	another func()

	// mu guards the fields below. It is a leaf lock.
	mu         sync.Mutex
	root       *disk.Root      // nil while nothing is open
	left       []*disk.Root    // on mounts that were taken away while they were in use
	mount      uint64          // the mount on which root was last opened
	chunkDir   disk.Identity   // .chunks, as last seen
	filesystem disk.Filesystem // of the datastore; no other one is read
	base       Attr            // of the datastore's directory, as last seen
	away       error           // why the datastore was not there at the last look
}

// filesystemOf returns the identity of a file system by its UUID. The kernel does not
// tell serial numbers, which FAT has instead.
func filesystemOf(uuid string) disk.Filesystem {
	const uuidLen = 36
	if len(uuid) != uuidLen {
		return disk.Filesystem{}
	}
	return disk.Filesystem{UUID: strings.ToLower(uuid)}
}

// comesBack reports whether the reason why a datastore cannot be read may pass.
func comesBack(err error) bool {
	for _, e := range []error{ErrGone, ErrNotDatastore, cfg.ErrOffline, cfg.ErrUnmounting} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// open returns the open directory. It opens the directory if this is the first
// operation that needs it. Only holders of a right call it; see drop.
func (m *medium) open() (*disk.Root, error) {
	m.mu.Lock()
	root := m.root
	m.mu.Unlock()
	if root != nil {
		return root, nil
	}
	return m.enter(nil)
}

// follow makes sure that the open directory is the mounted one. A mount can be taken
// away under open files when its device has gone. A program that opens a file after the
// device has come back must not get the dead mount.
func (m *medium) follow() error {
	m.mu.Lock()
	root := m.root
	m.mu.Unlock()
	if root == nil {
		return nil
	}
	mount, err := disk.MountOf(m.path)
	switch {
	case err == nil && mount == root.Mount():
		return nil
	case err != nil && errors.Is(err, fs.ErrPermission):
		return nil // operations that began before may read to their end
	case err != nil:
		return m.gone(err)
	}
	_, err = m.enter(root)
	return err
}

// enter opens the directory, in the place of old, and checks that it is the directory
// of this datastore. old stays open for the operations that use it.
func (m *medium) enter(old *disk.Root) (*disk.Root, error) {
	root, err := disk.Open(m.path)
	if err != nil {
		return nil, m.gone(err)
	}
	chunks, err := root.Stat(".chunks")
	if err != nil {
		return nil, errors.Join(m.gone(err), root.Close())
	}
	base, err := root.Stat(".")
	if err != nil {
		return nil, errors.Join(m.gone(err), root.Close())
	}
	found := root.Filesystem()
	if err := m.check(found); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	m.back()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root != old { // another goroutine has opened it meanwhile
		return m.root, root.Close()
	}
	if old != nil {
		m.left = append(m.left, old)
	}
	if m.chunkDir != (disk.Identity{}) && m.chunkDir != chunks.Identity {
		// It is the same file system with another number, or another directory.
		m.another()
	}
	m.filesystem = disk.Filesystem{UUID: cmp.Or(m.filesystem.UUID, found.UUID), ID: cmp.Or(m.filesystem.ID, found.ID)}
	m.root, m.mount, m.chunkDir, m.base = root, root.Mount(), chunks.Identity, attrOf(base)
	return root, nil
}

// check refuses a file system that is not the datastore's.
func (m *medium) check(found disk.Filesystem) error {
	m.mu.Lock()
	want := m.filesystem
	m.mu.Unlock()
	if !want.Differs(found) || want.UUID != "" && strings.EqualFold(device.UUIDUnder(m.path), want.UUID) {
		return nil
	}
	return m.leave(fmt.Errorf("datastore %s: %s: %w: another disk is there, with the file system %s instead of %s", m.name, m.path, ErrGone, found, want))
}

// gone tells a missing datastore from one that cannot be read.
func (m *medium) gone(err error) error {
	if m.isGone(err) {
		return m.leave(fmt.Errorf("datastore %s: %s: %w", m.name, m.path, ErrGone))
	}
	return fmt.Errorf("datastore %s: %w", m.name, err)
}

func (m *medium) isGone(err error) bool {
	for _, e := range []error{fs.ErrNotExist, unix.ENOTDIR, unix.ENODEV, unix.ENXIO, unix.ENOMEDIUM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, unix.EIO) && mounts.MediumGone(m.path)
}

// blame looks for the reason behind an error of the disk: if the datastore itself has
// gone, that is the error.
func (m *medium) blame(root *disk.Root, err error) error {
	if err == nil {
		return nil
	}
	if _, serr := root.Stat(".chunks"); serr != nil {
		return m.gone(serr)
	}
	if m.isGone(err) && errors.Is(err, unix.EIO) {
		return m.gone(err)
	}
	if disk.NoFile(err) {
		// A file in the place of a directory, or a link on the way, does not belong to
		// the datastore. The cause must not be matched: a name that leads there does
		// not exist.
		return fmt.Errorf("datastore %s: %w: %v", m.name, fs.ErrNotExist, err) //nolint:errorlint // see above
	}
	return fmt.Errorf("datastore %s: %w", m.name, err)
}

// leave notes that the datastore is not there, and logs that once.
func (m *medium) leave(err error) error {
	m.mu.Lock()
	known := m.away != nil && m.away.Error() == err.Error()
	m.away = err
	m.mu.Unlock()
	if !known {
		m.log.Warn("the datastore is not there", "error", err.Error())
	}
	return err
}

// back notes that the datastore is there.
func (m *medium) back() {
	m.mu.Lock()
	was := m.away
	m.away = nil
	m.mu.Unlock()
	if was != nil {
		m.log.Info("the datastore is back", "datastore", m.name, "path", m.path)
	}
}

// drop closes what is open. It is called when no operation is active.
func (m *medium) drop() {
	m.mu.Lock()
	open := m.left
	if m.root != nil {
		open = append(open, m.root)
	}
	m.root, m.left = nil, nil
	m.mu.Unlock()
	for _, root := range open {
		if err := root.Close(); err != nil {
			m.log.Warn("closing the datastore", "datastore", m.name, "error", err)
		}
	}
}

// Away returns why the datastore was not there at the last look, nil if it was there.
func (l *Lookup) Away() error {
	if l.isZero() {
		return ErrReleased
	}
	l.ds.mu.Lock()
	defer l.ds.mu.Unlock()
	return l.ds.away
}

// Look finds out whether the datastore is there, for [Lookup.Away], if its mount has
// changed since it was last read. Otherwise it reads nothing.
func (l *Lookup) Look(ctx context.Context) {
	if l.isZero() {
		return
	}
	switch {
	case l.ds.sameMount():
		l.ds.lookAtDevice()
	default:
		_ = l.View(ctx, func(r *Reader) error { // the mode may forbid the look; then it is not known
			_, err := r.r.Root()
			return err
		})
	}
}

// sameMount reports whether the datastore was there at the last look, and nothing has
// been mounted at its path since.
func (m *medium) sameMount() bool {
	mount, err := disk.MountOf(m.path)
	m.mu.Lock()
	defer m.mu.Unlock()
	return err == nil && m.away == nil && mount == m.mount
}

// lookAtDevice notes whether the device was unplugged under its mount.
func (m *medium) lookAtDevice() {
	if mounts.MediumGone(m.path) {
		_ = m.leave(fmt.Errorf("datastore %s: %s: %w: its device was unplugged", m.name, m.path, ErrGone))
	}
}
