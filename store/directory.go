package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/disk"
)

// directory is the medium of a datastore in a directory. Its disk may be removed, with or
// without an unmount, and come back. What is mounted at the path then is the datastore
// only if it is the same file system as before.
//
// While an operation is active, the directory is open; without one, nothing is.
type directory struct {
	presence
	path string
	// another is called when the directory at the path is another one than before.
	another func()

	// mu guards the fields below. It is a leaf lock.
	mu         sync.Mutex
	root       *disk.Root       // nil while nothing is open
	left       []*disk.Root     // on mounts that were taken away while they were in use
	mount      uint64           // the mount on which root was last opened
	chunkDir   backend.Identity // .chunks, as last seen
	filesystem disk.Filesystem  // of the datastore; no other one is read
	base       Attr             // of the datastore's directory, as last seen
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
func (d *directory) open() (backend.Backend, error) {
	d.mu.Lock()
	root := d.root
	d.mu.Unlock()
	if root != nil {
		return root, nil
	}
	root, err := d.enter(nil)
	if err != nil {
		return nil, err
	}
	return root, nil
}

// follow makes sure that the open directory is the mounted one. A mount can be taken
// away under open files when its device has gone. A program that opens a file after the
// device has come back must not get the dead mount.
func (d *directory) follow() error {
	d.mu.Lock()
	root := d.root
	d.mu.Unlock()
	if root == nil {
		return nil
	}
	mount, err := disk.MountOf(d.path)
	switch {
	case err == nil && mount == root.Mount():
		return nil
	case err != nil && errors.Is(err, fs.ErrPermission):
		return nil // operations that began before may read to their end
	case err != nil:
		return d.gone(err)
	}
	_, err = d.enter(root)
	return err
}

// enter opens the directory, in the place of old, and checks that it is the directory
// of this datastore. old stays open for the operations that use it.
func (d *directory) enter(old *disk.Root) (*disk.Root, error) {
	root, err := disk.Open(d.path)
	if err != nil {
		return nil, d.gone(err)
	}
	ctx := context.Background() // a disk takes no notice of it
	chunks, err := root.Stat(ctx, ".chunks")
	if err != nil {
		return nil, errors.Join(d.gone(err), root.Close())
	}
	base, err := root.Stat(ctx, ".")
	if err != nil {
		return nil, errors.Join(d.gone(err), root.Close())
	}
	found := root.Filesystem()
	if err := d.check(found); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	d.back(d.path)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root != old { // another goroutine has opened it meanwhile
		return d.root, root.Close()
	}
	if old != nil {
		d.left = append(d.left, old)
	}
	if d.chunkDir != (backend.Identity{}) && d.chunkDir != chunks.Identity {
		// It is the same file system with another number, or another directory.
		d.another()
	}
	d.filesystem = disk.Filesystem{UUID: cmp.Or(d.filesystem.UUID, found.UUID), ID: cmp.Or(d.filesystem.ID, found.ID)}
	d.root, d.mount, d.chunkDir, d.base = root, root.Mount(), chunks.Identity, attrOf(base)
	return root, nil
}

// check refuses a file system that is not the datastore's.
func (d *directory) check(found disk.Filesystem) error {
	d.mu.Lock()
	want := d.filesystem
	d.mu.Unlock()
	if !want.Differs(found) || want.UUID != "" && strings.EqualFold(device.UUIDUnder(d.path), want.UUID) {
		return nil
	}
	return d.leave(fmt.Errorf("datastore %s: %s: %w: another disk is there, with the file system %s instead of %s", d.name, d.path, ErrGone, found, want))
}

// gone tells a missing datastore from one that cannot be read.
func (d *directory) gone(err error) error {
	if d.isGone(err) {
		return d.leave(fmt.Errorf("datastore %s: %s: %w", d.name, d.path, ErrGone))
	}
	return fmt.Errorf("datastore %s: %w", d.name, err)
}

func (d *directory) isGone(err error) bool {
	for _, e := range []error{fs.ErrNotExist, unix.ENOTDIR, unix.ENODEV, unix.ENXIO, unix.ENOMEDIUM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, unix.EIO) && mounts.MediumGone(d.path)
}

// blame looks for the reason behind an error of the disk: if the datastore itself has
// gone, that is the error.
func (d *directory) blame(ctx context.Context, root backend.Backend, err error) error {
	if err == nil {
		return nil
	}
	if _, serr := root.Stat(ctx, ".chunks"); serr != nil {
		return d.gone(serr)
	}
	if d.isGone(err) && errors.Is(err, unix.EIO) {
		return d.gone(err)
	}
	if backend.NoFile(err) {
		// A file in the place of a directory, or a link on the way, does not belong to
		// the datastore. The cause must not be matched: a name that leads there does
		// not exist.
		return fmt.Errorf("datastore %s: %w: %v", d.name, fs.ErrNotExist, err) //nolint:errorlint // see above
	}
	return fmt.Errorf("datastore %s: %w", d.name, err)
}

// drop closes what is open. It is called when no operation is active.
func (d *directory) drop() {
	d.mu.Lock()
	open := d.left
	if d.root != nil {
		open = append(open, d.root)
	}
	d.root, d.left = nil, nil
	d.mu.Unlock()
	for _, root := range open {
		if err := root.Close(); err != nil {
			d.log.Warn("closing the datastore", "datastore", d.name, "error", err)
		}
	}
}

// sameMount reports whether the datastore was there at the last look, and nothing has
// been mounted at its path since.
func (d *directory) sameMount() bool {
	mount, err := disk.MountOf(d.path)
	d.mu.Lock()
	defer d.mu.Unlock()
	return err == nil && d.missing() == nil && mount == d.mount
}

// close has nothing to do: what was open was dropped.
func (d *directory) close() {}

// copies are for what lies far away.
func (d *directory) copies() Hits { return Hits{} }

// attr returns the attributes of the datastore's directory as they were last seen.
func (d *directory) attr() Attr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.base
}

// look notes whether the device was unplugged under its mount. If the mount has changed,
// it reports false: then the directory must be opened to know.
func (d *directory) look() bool {
	if !d.sameMount() {
		return false
	}
	if mounts.MediumGone(d.path) {
		_ = d.leave(fmt.Errorf("datastore %s: %s: %w: its device was unplugged", d.name, d.path, ErrGone))
	}
	return true
}
