package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/store/internal/disk"
)

// The disk of a datastore may go, with notice or without, and come back. What is
// mounted at the path then is the datastore only if its file system is the one
// that was there before.

// mediumOf returns what is known of a file system by its UUID. Serial numbers, as
// FAT has them, are nothing that the kernel tells.
func mediumOf(uuid string) disk.Filesystem {
	const uuidLen = 36
	if len(uuid) != uuidLen {
		return disk.Filesystem{}
	}
	return disk.Filesystem{UUID: strings.ToLower(uuid)}
}

// comesBack reports whether what keeps a datastore from being read may pass.
func comesBack(err error) bool {
	for _, e := range []error{ErrGone, ErrNotDatastore, maint.ErrOffline, maint.ErrUnmounting} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// open returns the open directory, opening it when this is the first
// operation that needs it. Only holders of a right call it; see drop.
func (d *datastore) open() (*disk.Root, error) {
	d.mu.Lock()
	root := d.root
	d.mu.Unlock()
	if root != nil {
		return root, nil
	}
	return d.enter(nil)
}

// follow makes sure that what is open is what is mounted. A mount can be taken
// away under open files, when its device has gone; who opens a file after the
// device has come back is not to meet the dead one.
func (d *datastore) follow() error {
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
		return nil // whoever was let in before is read to the end
	case err != nil:
		return d.gone(err)
	}
	_, err = d.enter(root)
	return err
}

// enter opens the directory, in the place of old, and makes sure that it is the
// one of this datastore. old stays open for those who use it.
func (d *datastore) enter(old *disk.Root) (*disk.Root, error) {
	root, err := disk.Open(d.path)
	if err != nil {
		return nil, d.gone(err)
	}
	chunks, err := root.Stat(".chunks")
	if err != nil {
		return nil, errors.Join(d.gone(err), root.Close())
	}
	base, err := root.Stat(".")
	if err != nil {
		return nil, errors.Join(d.gone(err), root.Close())
	}
	medium := root.Filesystem()
	if err := d.check(medium); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	d.back()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root != old { // somebody else was faster
		return d.root, root.Close()
	}
	if old != nil {
		d.left = append(d.left, old)
	}
	if d.chunk != (disk.Identity{}) && d.chunk != chunks.Identity {
		// The same file system by another number, or another directory.
		d.memory.snapshots.Drop()
	}
	d.medium = disk.Filesystem{UUID: cmp.Or(d.medium.UUID, medium.UUID), ID: cmp.Or(d.medium.ID, medium.ID)}
	d.root, d.mount, d.chunk, d.base = root, root.Mount(), chunks.Identity, attrOf(base)
	return root, nil
}

// check refuses a file system that is not the one that the datastore lies on.
func (d *datastore) check(found disk.Filesystem) error {
	d.mu.Lock()
	want := d.medium
	d.mu.Unlock()
	if !want.Differs(found) || want.UUID != "" && strings.EqualFold(maint.UUIDUnder(d.path), want.UUID) {
		return nil
	}
	return d.leave(fmt.Errorf("datastore %s: %s: %w: another disk is there, with the file system %s instead of %s", d.name, d.path, ErrGone, found, want))
}

// gone tells a datastore that is not there from one that cannot be read.
func (d *datastore) gone(err error) error {
	if d.isGone(err) {
		return d.leave(fmt.Errorf("datastore %s: %s: %w", d.name, d.path, ErrGone))
	}
	return fmt.Errorf("datastore %s: %w", d.name, err)
}

func (d *datastore) isGone(err error) bool {
	for _, e := range []error{fs.ErrNotExist, unix.ENOTDIR, unix.ENODEV, unix.ENXIO, unix.ENOMEDIUM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, unix.EIO) && maint.MediumGone(d.path)
}

// leave notes that the datastore is not there, and says so once.
func (d *datastore) leave(err error) error {
	d.mu.Lock()
	known := d.away != nil && d.away.Error() == err.Error()
	d.away = err
	d.mu.Unlock()
	if !known {
		d.log.Warn("the datastore is not there", "error", err.Error())
	}
	return err
}

// back notes that the datastore is there.
func (d *datastore) back() {
	d.mu.Lock()
	was := d.away
	d.away = nil
	d.mu.Unlock()
	if was != nil {
		d.log.Info("the datastore is back", "datastore", d.name, "path", d.path)
	}
}

// Away returns why the datastore was not there when it was last looked for, nil
// if it was.
func (l *Lookup) Away() error {
	if l.isZero() {
		return ErrReleased
	}
	l.ds.mu.Lock()
	defer l.ds.mu.Unlock()
	return l.ds.away
}

// Look finds out whether the datastore is there, for [Lookup.Away], if something
// has happened to its mount since it was last read. It reads nothing otherwise.
func (l *Lookup) Look(ctx context.Context) {
	if l.isZero() {
		return
	}
	d := l.ds
	mount, err := disk.MountOf(d.path)
	d.mu.Lock()
	same := err == nil && d.away == nil && mount == d.mount
	d.mu.Unlock()
	switch {
	case same && maint.MediumGone(d.path):
		_ = d.leave(fmt.Errorf("datastore %s: %s: %w: its device was unplugged", d.name, d.path, ErrGone))
	case !same:
		_ = l.View(ctx, func(r *Reader) error { // the mode may refuse; then nobody knows
			_, err := r.r.Root()
			return err
		})
	}
}
