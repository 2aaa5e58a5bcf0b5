package unmount

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/fault"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
)

// The unmount of a removable datastore first takes its device away from under the idle
// trees, and then the trees. Meanwhile the mode is unmount, so that no process begins
// to read. After an error the mode is taken back. If a command is killed, the next one
// takes back the mode: device and trees are consistent after each step.

// modeMoment bounds the time to take the mode back, under the server's lock.
const modeMoment = 15 * time.Second

// removal is one unmount of a removable datastore.
type removal struct {
	*leaving
	host hosts.Host
	t    locate.Target
	// device is the mount of the device; its Point is "" if it is not mounted.
	device mounts.Mount
}

// removable unmounts a configured removable datastore: its trees and its
// device.
func removable(ctx context.Context, host hosts.Host, t locate.Target, o Options) error {
	r := &removal{host: host, t: t}
	if err := r.find(ctx, o); err != nil {
		return err
	}
	if err := r.clearHung(ctx); err != nil {
		return err
	}
	mode, err := maint.BeginUnmount(ctx, host, t.Name, maint.SetOptions{Wait: o.Wait})
	if err != nil {
		return status.WithHolders(ctx, err, host, t)
	}
	defer o.Allow(modeMoment)()
	fault.At("mode set")
	err = r.unmount(ctx)
	fault.At("done")
	return errors.Join(err, mode.End(context.WithoutCancel(ctx)))
}

// find finds the mounts, and the processes that serve the trees.
func (r *removal) find(ctx context.Context, o Options) error {
	until := time.Now().Add(o.Wait)
	known, err := served.Records(r.host)
	if err != nil {
		return err
	}
	trees, err := served.TreesOf(r.host, r.t, known)
	if err != nil {
		return err
	}
	if r.device, err = deviceMount(*r.t.Removable); err != nil {
		return err
	}
	switch {
	case filepath.Dir(r.device.Point) == locate.DisksDir(r.host):
		r.device = mounts.Mount{} // it is mounted for a rescue: the last of its trees unmounts it
	case r.device.Point == "":
		if err := r.unseen(ctx, o); err != nil {
			return err
		}
	}
	if len(trees) == 0 && r.device.Point == "" {
		return fmt.Errorf("%s: not mounted", r.t.Name)
	}
	mounted := trees
	if r.device.Point != "" {
		mounted = append([]mounts.Mount{r.device}, trees...)
	}
	if err := o.letGo(mounted); err != nil {
		return err
	}
	r.leaving = newLeaving(ctx, trees, known, o)
	r.until = until
	return nil
}

// clearHung handles trees whose process does not answer, before any other step waits
// for that process. With --force it takes them away.
func (r *removal) clearHung(ctx context.Context) error {
	if err := r.answering(); err != nil {
		return err
	}
	var left []tree
	for _, t := range r.trees {
		if t.Hangs == nil {
			left = append(left, t)
		} else if err := r.abort(ctx, t); err != nil {
			return err
		}
	}
	r.trees = left
	return nil
}

// unseen refuses the unmount if the device is in use although no mount of it can be
// seen: perhaps it was unmounted lazily.
func (r *removal) unseen(ctx context.Context, o Options) error {
	dev, err := device.FindDevice("UUID=" + r.t.Removable.BackingDevice)
	if err != nil || len(dev.Mounts) > 0 {
		return nil
	}
	m := mounts.Mount{Major: dev.Major, Minor: dev.Minor, Source: dev.Path, Point: dev.Path}
	if err := o.letGo([]mounts.Mount{m}); err != nil {
		return err
	}
	if err := device.AwaitFree(ctx, m); !errors.Is(err, device.ErrInUse) {
		return err
	}
	return usedBy(ctx, m)
}

// usedBy returns an error that says what uses a device.
func usedBy(ctx context.Context, m mounts.Mount) error {
	holders, err := mounts.HoldersOf(context.WithoutCancel(ctx), m)
	if err != nil || len(holders) == 0 {
		holders = []mounts.Holder{{Name: "somebody who cannot be seen from here", How: "in use", Path: m.Source}}
	}
	return &mountpoint.BusyError{Mounts: []mounts.Mount{m}, Holders: holders}
}

// deviceMount returns the mount of a datastore's device: the one at the configured
// place, or else another one that shows the device. It returns none if the device is
// not there.
func deviceMount(d cfg.Datastore) (mounts.Mount, error) {
	table, err := mounts.Mounts()
	if err != nil {
		return mounts.Mount{}, fmt.Errorf("reading the mount table: %w", err)
	}
	// Other mounts may lie upon it. The mount of the device has a source in /dev.
	place := filepath.Clean(d.Dir())
	for _, m := range slices.Backward(table) {
		if m.Point == place && filepath.Dir(m.Source) == "/dev" {
			return m, nil
		}
	}
	if m, err := mounts.FindMount(d.Dir()); err == nil || !errors.Is(err, mounts.ErrNotMounted) {
		return m, err
	}
	dev, err := device.FindDevice("UUID=" + d.BackingDevice)
	if errors.Is(err, device.ErrNoDevice) {
		return mounts.Mount{}, nil
	}
	if err != nil {
		return mounts.Mount{}, err
	}
	m, _, _ := dev.MountOf(d.Path)
	return m, nil
}

func (r *removal) unmount(ctx context.Context) error {
	wait, cancel := context.WithDeadline(ctx, r.until)
	defer cancel()
	if err := r.ready(wait); err != nil {
		return err
	}
	fault.At("trees unused")
	if r.device.Point != "" {
		if err := r.unmountDevice(ctx, wait); err != nil {
			return err
		}
	}
	fault.At("device unmounted")
	for _, t := range r.trees {
		err := r.take(ctx, wait, t)
		if errors.Is(err, mountpoint.ErrActive) && r.device.Point != "" {
			return fmt.Errorf("the device is unmounted, but the tree is not: %w", err)
		}
		if err != nil {
			return err
		}
		fault.At("tree unmounted")
	}
	return r.ended(ctx)
}

// unmountDevice unmounts the device so that nothing uses it any more. If a copy of the
// mount in another namespace would keep the device busy, it stays mounted here too.
func (r *removal) unmountDevice(ctx, wait context.Context) error {
	for {
		holders, err := deviceUsers(ctx, r.host, r.device)
		if err != nil {
			return err
		}
		if len(holders) == 0 {
			err := mounts.UnmountOnly(r.device, false)
			if !errors.Is(err, unix.EBUSY) {
				if err != nil {
					return err
				}
				break
			}
		}
		if pause(wait) {
			continue
		}
		if len(holders) == 0 {
			if holders, err = mounts.HoldersOf(context.WithoutCancel(ctx), r.device); err != nil {
				return err
			}
		}
		return &mountpoint.BusyError{Mounts: []mounts.Mount{r.device}, Holders: holders}
	}
	fault.At("device unmounted here")
	return r.free(ctx)
}

// deviceUsers returns what would go on using a device when one mount of it is gone:
// other mounts of it, here and in other namespaces, and overlays.
func deviceUsers(ctx context.Context, host hosts.Host, m mounts.Mount) ([]mounts.Holder, error) {
	ctx = context.WithoutCancel(ctx)
	users, err := mounts.CopiesOf(ctx, m)
	if err != nil {
		return nil, err
	}
	table, err := mounts.Mounts()
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	for _, o := range table.OfDevice(m) {
		// A mount for a rescue goes away with the last of its trees.
		if o.ID != m.ID && filepath.Dir(o.Point) != locate.DisksDir(host) {
			users = append(users, mounts.Holder{Name: o.FSType, Path: o.Point, How: mounts.HowMounted})
		}
	}
	return users, nil
}

// free makes sure that the device is free: if the kernel would give it to us
// exclusively, nothing uses it. Otherwise the device is mounted again as it was.
func (r *removal) free(ctx context.Context) error {
	err := device.AwaitFree(ctx, r.device)
	if !errors.Is(err, device.ErrInUse) {
		return err
	}
	refused := usedBy(ctx, r.device)
	if err := device.MountAgain(r.device); err != nil {
		return fmt.Errorf("%w; and it could not be mounted again: %w", refused, err)
	}
	return refused
}
