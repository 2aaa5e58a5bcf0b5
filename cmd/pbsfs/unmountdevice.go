package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint"
)

// Unmounting a removable datastore takes its device away from under the trees,
// which are idle, and then the trees. While that goes on the mode is unmount, so
// that nobody begins to read; whatever goes wrong, it is taken back. A command
// that is killed leaves a mode that the next one takes back: device and trees are
// consistent after each step.

// removal is one unmount of a removable datastore.
type removal struct {
	*app
	host  maint.Host
	t     target
	o     unmountOptions
	until time.Time     // the end of the wait for who is in the way
	trees []maint.Mount // the last made first
	known []*mountRecord
	// device is the mount of the device; its Point is "" where there is none.
	device maint.Mount
}

// unmountRemovable unmounts a configured removable datastore: its trees and its
// device.
func (a *app) unmountRemovable(ctx context.Context, host maint.Host, t target, o unmountOptions) error {
	r := &removal{app: a, host: host, t: t, o: o, until: time.Now().Add(o.wait)}
	if err := r.find(); err != nil {
		return err
	}
	mode, err := maint.BeginUnmount(ctx, host, t.name, maint.SetOptions{Wait: o.wait})
	if err != nil {
		return withHolders(ctx, err, host, t)
	}
	fault("mode set")
	err = r.unmount(ctx)
	fault("done")
	return errors.Join(err, mode.End(context.WithoutCancel(ctx)))
}

// find finds what is mounted.
func (r *removal) find() (err error) {
	if r.known, err = records(r.host); err != nil {
		return err
	}
	ours, err := ourMounts()
	if err != nil {
		return err
	}
	for _, m := range ours {
		k := recordOf(r.known, m)
		if k != nil && k.serves(r.t) || k == nil && (m.Source == r.t.path || m.Source == r.t.removable.Dir()) {
			r.trees = append([]maint.Mount{m}, r.trees...)
		}
	}
	if r.device, err = deviceMount(*r.t.removable); err != nil {
		return err
	}
	if filepath.Dir(r.device.Point) == disksDir(r.host) {
		r.device = maint.Mount{} // a rescue: the last of its trees unmounts it
	}
	if len(r.trees) == 0 && r.device.Point == "" {
		return fmt.Errorf("%s: not mounted", r.t.name)
	}
	return nil
}

// deviceMount returns the mount of a datastore's device: the one where it is
// configured to be, else the one that shows it. A device that cannot be found has
// none.
func deviceMount(d maint.Datastore) (maint.Mount, error) {
	m, err := maint.FindMount(d.Dir())
	if err == nil || !errors.Is(err, maint.ErrNotMounted) {
		return m, err
	}
	dev, err := maint.FindDevice("UUID=" + d.BackingDevice)
	if err != nil {
		return maint.Mount{}, nil
	}
	m, _, _ = dev.MountOf(d.Path)
	return m, nil
}

func (r *removal) unmount(ctx context.Context) error {
	wait, cancel := context.WithDeadline(ctx, r.until)
	defer cancel()
	if err := r.unused(wait); err != nil {
		return err
	}
	fault("trees unused")
	if r.device.Point != "" {
		if err := unmountDevice(wait, r.device); err != nil {
			return err
		}
	}
	fault("device unmounted")
	for _, m := range r.trees {
		if err := r.unmountTree(ctx, wait, m); err != nil {
			return err
		}
	}
	return nil
}

// unused makes sure that the trees can be unmounted, before anything is: who has
// a working directory there reads nothing, and is in the way all the same.
func (r *removal) unused(ctx context.Context) error {
	for _, m := range r.trees {
		if r.o.force || recordOf(r.known, m) == nil && isDead(m) {
			continue
		}
		for {
			holders, err := maint.Holders(context.WithoutCancel(ctx), m.Point)
			if err != nil {
				return err
			}
			if len(holders) == 0 {
				break
			}
			if !pause(ctx) {
				return busyError(m)
			}
		}
	}
	return nil
}

// pause waits a little, and returns false when there is no more time.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(retryAfter):
		return true
	case <-ctx.Done():
		return false
	}
}

// unmountDevice unmounts a device so that nobody has it any more: where a copy of
// the mount in another namespace would keep it busy, it stays mounted here too.
func unmountDevice(ctx context.Context, m maint.Mount) error {
	kept, err := maint.KeepMount(m.Point)
	if err != nil {
		return err
	}
	defer kept.Close()
	for {
		err := maint.UnmountAt(m.Point)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if !pause(ctx) {
			return busyError(m)
		}
	}
	fault("device unmounted here")
	copies, err := maint.CopiesOf(m)
	if err == nil && len(copies) == 0 {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s is %w", m.Point, errActive)
		text := ""
		for _, h := range copies {
			text += "\n  " + h.String()
		}
		err = fmt.Errorf("%w%s", err, text)
	}
	if rerr := kept.Restore(); rerr != nil {
		return fmt.Errorf("%w; and it could not be mounted again: %w", err, rerr)
	}
	return err
}

// unmountTree unmounts one of the trees, which is idle.
func (r *removal) unmountTree(ctx, wait context.Context, m maint.Mount) error {
	k := recordOf(r.known, m)
	if k == nil && isDead(m) {
		return fs.Unmount(m.Point, true)
	}
	err := unmountBusy(wait, m)
	if errors.Is(err, errActive) && r.o.force {
		err = r.unmountLazily(ctx, m)
	}
	if errors.Is(err, errActive) && r.device.Point != "" {
		return fmt.Errorf("the device is unmounted, but the tree is not: %w", err)
	}
	if err != nil || k == nil {
		return err
	}
	fault("tree unmounted")
	return k.waitEnd(ctx)
}
