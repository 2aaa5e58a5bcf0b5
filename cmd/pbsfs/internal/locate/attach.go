package locate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/reach"
	"github.com/pbsfs/pbsfs/store"
)

// Before a datastore on a device can be shown, the device must be mounted. A device
// that is mounted already is used where it is. A server mounts the devices that it has
// configured. We mount all others, read-only: a configured one where the server would
// mount it, any other one in the run directory.

// Attached is a datastore whose device is mounted, or a datastore that needs no device.
type Attached struct {
	Target
	host hosts.Host
	user procfs.ProcessMark // for which the device is mounted
	// named is where this command has mounted a configured datastore.
	named string
	// disk is where a device is mounted in the run directory, for this process and
	// others.
	disk string
	// later is where a missing device will be mounted when it comes. The command that
	// mounts it there leaves its use to this process.
	later string
	// Warning is a text for the user once the tree is mounted, "" if there is none.
	Warning string
	// server says that the server of this host would mount the device.
	server bool
}

// Request says which datastore is to be mounted.
type Request struct {
	// Datastore is its name or its directory, "" if Device is given.
	Datastore string
	// Device is the UUID, the label or the path of a device.
	Device string
	// Path is the datastore's directory on the device, if PathSet.
	Path    string
	PathSet bool
	// Rescue mounts a device even if the server of this host is to mount it.
	Rescue bool
	// Standby accepts a datastore that is not there yet.
	Standby bool
}

// Attach finds the requested datastore and mounts its device, for the process that is to
// serve the tree. The caller must call End and say whether the tree was mounted.
func Attach(ctx context.Context, host hosts.Host, o Request, user procfs.ProcessMark) (*Attached, error) {
	if o.Device != "" {
		return attachDevice(ctx, host, o, user)
	}
	t, err := Resolve(host, o.Datastore)
	if o.Standby && strings.Contains(o.Datastore, "/") && (errors.Is(err, errNoDirectory) || errors.Is(err, store.ErrNotDatastore)) {
		t, err = expected(host, o.Datastore)
	}
	if err != nil {
		return nil, err
	}
	at := &Attached{Target: t, host: host, user: user}
	if t.Removable == nil {
		return at, nil
	}
	return at, at.attachNamed(o.Standby)
}

// expected returns the datastore that will be in a directory.
func expected(host hosts.Host, arg string) (Target, error) {
	path, err := reach.Abs(arg)
	if err != nil {
		return Target{}, err
	}
	list, err := Configured(host)
	if err != nil {
		return Target{}, err
	}
	found, _ := modes.FindAt(context.Background(), host, list, path) // it is known that the datastore is not there
	if len(found.Listed) > 0 {
		return TargetOf(host, list, found.Listed[0]), nil
	}
	return Target{Name: modes.PathName(found.Dir), Path: found.Dir}, nil
}

// attachNamed mounts the device of a configured datastore, unless it is mounted
// already.
func (at *Attached) attachNamed(standby bool) error {
	d := *at.Removable
	if at.Path != d.Dir() {
		return checkDatastore(at.Path, "", d.Name)
	}
	if _, err := mounts.FindMount(d.Dir()); err == nil {
		return nil // the store compares the UUIDs
	}
	mode, err := maint.ReadMode(at.host, d.Name)
	if err != nil {
		return err
	}
	if err := mode.Check(d.Name, cfg.Read); err != nil {
		if standby {
			return nil
		}
		return err
	}
	if at.host.IsPBS() {
		if standby {
			return nil
		}
		return mountedByServer(d)
	}
	dev, err := device.FindDevice("UUID=" + d.BackingDevice)
	if standby && errors.Is(err, device.ErrNoDevice) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("datastore %s: %w", d.Name, err)
	}
	mounted, err := mountNamed(at.host, d, dev)
	if err != nil {
		return fmt.Errorf("datastore %s: %w", d.Name, err)
	}
	if !mounted {
		return nil // another command has mounted it meanwhile
	}
	at.named = d.Dir()
	if err := checkDatastore(d.Dir(), "", dev.Path+" "+filepath.Join("/", d.Path)); err != nil {
		return errors.Join(err, device.UnmountAt(d.Dir()))
	}
	return nil
}

// mountNamed mounts a device at the configured place of its datastore, unless it is
// mounted there already.
func mountNamed(host hosts.Host, d cfg.Datastore, dev device.Device) (mounted bool, err error) {
	lock, err := lockDisks(host, 0) // two mounts on one place would need two unmounts
	if err != nil {
		return false, err
	}
	defer lock.unlock()
	if _, err := mounts.FindMount(d.Dir()); err == nil {
		return false, nil
	}
	if err := os.MkdirAll(d.Dir(), 0o755); err != nil {
		return false, err
	}
	info, err := os.Lstat(d.Dir())
	if err != nil {
		return false, err
	}
	if !info.IsDir() {
		return false, fmt.Errorf("%s: cannot mount on what is not a directory", d.Dir())
	}
	if err := mountpoint.CheckEmpty(d.Dir()); err != nil {
		return false, fmt.Errorf("%s is in the way: something lies there that the device would hide", d.Dir())
	}
	return true, device.MountDevice(dev, d.Path, d.Dir())
}

// mountedByServer explains that the server mounts its datastores, and how to mount
// without it.
func mountedByServer(d cfg.Datastore) error {
	return fmt.Errorf("datastore %s is not mounted, which is for the Proxmox Backup Server of this host to do: "+
		"'proxmox-backup-manager datastore mount %s', which may start sync jobs, "+
		"or 'pbsfs mount --device %s --path %q --rescue MOUNTPOINT', which keeps the server from mounting the disk meanwhile: %w",
		d.Name, d.Name, d.BackingDevice, strings.Trim(d.Path, "/"), store.ErrGone)
}

// checkDatastore returns an error unless the directory rel below top, on a device,
// holds a datastore.
func checkDatastore(top, rel, what string) error {
	is, err := device.IsDatastore(top, rel)
	if err == nil && !is {
		err = notDatastore(what)
	}
	return err
}

// attachDevice mounts a device that was named on the command line.
func attachDevice(ctx context.Context, host hosts.Host, o Request, user procfs.ProcessMark) (*Attached, error) {
	dev, err := device.FindDevice(o.Device)
	if o.Standby && errors.Is(err, device.ErrNoDevice) {
		return expectDevice(host, o, user, err)
	}
	if err != nil {
		return nil, err
	}
	list, err := Configured(host)
	if err != nil {
		return nil, err
	}
	if err := leaveToServer(host, dev, o, list); err != nil {
		return nil, err
	}
	rel, err := placeOn(ctx, dev, o)
	if err != nil {
		return nil, err
	}
	at := &Attached{host: host, user: user}
	for _, d := range list {
		if !d.On(dev.UUID, rel) {
			continue
		}
		at.Target = TargetOf(host, list, d)
		if !o.Rescue && !host.IsPBS() {
			return at, at.attachNamed(o.Standby)
		}
		at.server = host.IsPBS()
	}
	return at, at.rescue(dev, rel)
}

// expectDevice returns the datastore on a device that is not plugged in yet. It will be
// where a rescue mounts the device.
func expectDevice(host hosts.Host, o Request, user procfs.ProcessMark, missing error) (*Attached, error) {
	uuid := strings.TrimPrefix(o.Device, "UUID=")
	if strings.Contains(o.Device, "/") || !strings.Contains(uuid, "-") {
		return nil, fmt.Errorf("%w; to wait for a device, name it by its UUID", missing)
	}
	list, err := Configured(host)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		if d.On(uuid, cmp.Or(o.Path, d.Path)) && !host.IsPBS() && !o.Rescue {
			return &Attached{host: host, user: user, Target: TargetOf(host, list, d)}, nil
		}
	}
	point := filepath.Join(DisksDir(host), uuidKey(uuid))
	path := filepath.Join(point, filepath.Join("/", o.Path))
	d := cfg.Datastore{Name: modes.PathName(path), Path: o.Path, BackingDevice: uuid}
	return &Attached{host: host, user: user, later: point, Target: Target{Name: d.Name, Path: path, Removable: &d}}, nil
}

// leaveToServer refuses to mount a device that the server of this host mounts, unless
// the request is a rescue.
func leaveToServer(host hosts.Host, dev device.Device, o Request, list []cfg.Datastore) error {
	if !host.IsPBS() || o.Rescue || len(dev.Mounts) > 0 || dev.UUID == "" {
		return nil
	}
	for _, d := range list {
		if d.Removable() && strings.EqualFold(d.BackingDevice, dev.UUID) {
			return mountedByServer(d)
		}
	}
	return nil
}

// placeOn returns the directory of the datastore on the device.
func placeOn(ctx context.Context, dev device.Device, o Request) (string, error) {
	if o.PathSet {
		return strings.Trim(filepath.Join("/", o.Path), "/"), nil
	}
	found, err := DatastoresOn(ctx, dev)
	if err != nil {
		return "", err
	}
	switch len(found) {
	case 0:
		hint := ""
		if dev.Unclean || dev.Type == "xfs" {
			hint = "; what is only in the file system's journal is not seen"
		}
		return "", fmt.Errorf("%s: %w: there is no directory .chunks in the upper levels; --path names one further down%s", dev.Path, store.ErrNotDatastore, hint)
	case 1:
		return found[0], nil
	}
	for i, p := range found {
		found[i] = fmt.Sprintf("%q", filepath.Join("/", p))
	}
	return "", fmt.Errorf("%s has several datastores: %s; name one with --path", dev.Path, strings.Join(found, ", "))
}

// rescue uses the datastore where the device is mounted, or else mounts the device in
// the run directory.
func (at *Attached) rescue(dev device.Device, rel string) error {
	m, dir, ok := dev.MountOf(rel)
	top := m.Point
	if !ok || filepath.Dir(m.Point) == DisksDir(at.host) {
		point, err := useDisk(at.host, dev, at.user, at.server)
		if err != nil {
			return err
		}
		at.warnOfServer(dev, point)
		at.disk, top, dir = point, point, filepath.Join(point, rel)
	}
	below, err := filepath.Rel(top, dir)
	if err == nil {
		err = checkDatastore(top, below, dev.Path+" "+filepath.Join("/", rel))
	}
	if err != nil {
		return errors.Join(err, at.End(false))
	}
	at.Path = dir
	if at.Removable == nil {
		found, err := modes.FindAt(context.Background(), at.host, nil, dir)
		if err != nil {
			return errors.Join(err, at.End(false))
		}
		d := cfg.Datastore{Name: modes.UnlistedName(found.Dir, found.ID), Path: rel, BackingDevice: dev.UUID}
		at.Name, at.ID, at.Removable = d.Name, found.ID, &d
	}
	return nil
}

// warnOfServer explains what a rescue means for the server's own use of a device.
func (at *Attached) warnOfServer(dev device.Device, point string) {
	if !at.server {
		return
	}
	mount := "'proxmox-backup-manager datastore mount " + at.Name + "'"
	if device.Held(point) {
		at.Warning = fmt.Sprintf("pbsfs: warning: until the tree is unmounted, the Proxmox Backup Server cannot mount %s, and nothing can be backed up to datastore %s; then %s mounts it\n", dev.Path, at.Name, mount)
		return
	}
	at.Warning = fmt.Sprintf("pbsfs: warning: the Proxmox Backup Server cannot mount %s for writing now; where it does mount it, that is read-only, and backups to datastore %s fail, also after the tree was unmounted, until 'proxmox-backup-manager datastore unmount %s' and %s\n", dev.Path, at.Name, at.Name, mount)
}

// End gives back what Attach took: everything if the tree was not mounted, and
// otherwise, after the tree has ended, what was mounted for the tree alone.
func (at *Attached) End(mounted bool) error {
	var err error
	if point := cmp.Or(at.disk, at.later); point != "" {
		err = endDisk(at.host, point, at.user)
	}
	if at.named != "" && !mounted {
		err = errors.Join(err, device.UnmountAt(at.named))
	}
	at.disk, at.later, at.named = "", "", ""
	return err
}

// TookDevice reports whether Attach has mounted the device, or uses one in the run
// directory.
func (at *Attached) TookDevice() bool { return at.named != "" || at.disk != "" }

// UsesDevice reports whether End may have something to unmount.
func (at *Attached) UsesDevice() bool { return at.TookDevice() || at.later != "" }

// Shared reports whether the device is mounted in the run directory, for all trees on
// it together.
func (at *Attached) Shared() bool { return at.disk != "" }

// PassTo passes the use of a shared device to another process, which serves a tree on
// it.
func (at *Attached) PassTo(heir procfs.ProcessMark) error {
	return passDisk(at.host, at.disk, at.user, heir)
}
