package locate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/fault"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// A device that is mounted for a rescue is mounted whole, in the run directory, for all
// trees on it together. A record lists the processes that serve those trees. The last
// of them unmounts the device; if it was killed, the next command does.

// diskRecord lists the users of a device that we have mounted in the run directory.
type diskRecord struct {
	Device string               `json:"device"`
	UUID   string               `json:"uuid"`
	Users  []procfs.ProcessMark `json:"users"`
	// Held says that the server of this host is kept from mounting the device.
	Held bool `json:"held,omitempty"`

	key string // the name of the record and of the mount point
}

// disks are the devices that are mounted in one run directory. They are locked against
// other commands.
type disks struct {
	dir  string
	lock *os.File
}

// DisksDir returns the directory in which devices are mounted for a rescue.
func DisksDir(host hosts.Host) string { return filepath.Join(host.OwnRunDir(), "disks") }

// diskKey returns the name of a device in the run directory.
func diskKey(d device.Device) string {
	if d.UUID == "" {
		return fmt.Sprintf("%d-%d", d.Major, d.Minor)
	}
	return uuidKey(d.UUID)
}

func uuidKey(uuid string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' {
			return r
		}
		return '_'
	}, strings.ToLower(uuid))
}

// lockDisks locks out other commands. It waits for them unless how contains LOCK_NB.
// The caller must unlock.
func lockDisks(host hosts.Host, how int) (*disks, error) {
	d := &disks{dir: DisksDir(host)}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if d.lock, err = os.OpenFile(filepath.Join(d.dir, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600); err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", d.lock.Name(), err), d.lock.Close())
	}
	return d, nil
}

func (d *disks) unlock() { d.lock.Close() }

func (d *disks) point(key string) string { return filepath.Join(d.dir, key) }
func (d *disks) file(key string) string  { return filepath.Join(d.dir, key+".json") }

// read returns a record without the users that have ended. A record that is missing or
// cannot be read has no users.
func (d *disks) read(key string) diskRecord {
	r := diskRecord{key: key}
	if text, err := os.ReadFile(d.file(key)); err == nil {
		_ = json.Unmarshal(text, &r)
	}
	r.Users = slices.DeleteFunc(r.Users, func(u procfs.ProcessMark) bool { return u.Look() == procfs.Ended })
	return r
}

func (d *disks) write(r diskRecord) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	unfinished := d.file(r.key) + ".new"
	if err := os.WriteFile(unfinished, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(unfinished, d.file(r.key))
}

// useDisk mounts a device in the run directory, if it is not mounted there yet, for
// a process. It returns the mount point. With hold, no other program can mount the
// device meanwhile, if that is possible. The caller must end its use.
func useDisk(host hosts.Host, dev device.Device, user procfs.ProcessMark, hold bool) (string, error) {
	d, err := lockDisks(host, 0)
	if err != nil {
		return "", err
	}
	defer d.unlock()
	r := d.read(diskKey(dev))
	r.Device, r.UUID, r.Held = dev.Path, dev.UUID, r.Held || hold
	r.Users = append(r.Users, user)
	if err := d.write(r); err != nil { // comes first, so that the record is there even after a crash
		return "", err
	}
	fault.At("disk recorded")
	point := d.point(r.key)
	if _, err := mounts.FindMount(point); err == nil {
		return point, nil
	}
	err = os.Mkdir(point, 0o700)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err == nil {
		err = mountDisk(dev, point, hold)
	}
	if err != nil {
		return "", errors.Join(err, d.drop(r.without(user), user))
	}
	fault.At("disk mounted")
	return point, nil
}

func mountDisk(dev device.Device, point string, hold bool) error {
	if hold {
		if err := device.MountHeld(dev, point); !errors.Is(err, device.ErrNotHeld) {
			return err
		}
	}
	return device.MountDevice(dev, "", point)
}

func (r diskRecord) without(p procfs.ProcessMark) diskRecord {
	r.Users = slices.DeleteFunc(r.Users, func(u procfs.ProcessMark) bool { return u == p })
	return r
}

// drop unmounts a device that has no users any more, the last of which is given, and
// otherwise writes its users down.
func (d *disks) drop(r diskRecord, user procfs.ProcessMark) error {
	if len(r.Users) > 0 {
		return d.write(r)
	}
	point := d.point(r.key)
	if m, err := mounts.FindMount(point); err == nil {
		if err := unmountDisk(m, user); err != nil {
			return errors.Join(err, d.write(r))
		}
	}
	if r.Held {
		if err := device.EndHolds(); err != nil {
			return errors.Join(err, d.write(r))
		}
	}
	return errors.Join(removed(point), removed(d.file(r.key)))
}

func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// unmountDisk unmounts a device. A file that only its last user still has open there is
// no reason to leave the device mounted: the mount is then taken away lazily.
func unmountDisk(m mounts.Mount, user procfs.ProcessMark) error {
	err := mounts.UnmountOnly(m, false)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	holders, herr := mounts.HoldersOf(context.Background(), m)
	own := func(h mounts.Holder) bool { return h.PID == user.PID }
	if herr == nil && len(holders) > 0 && !slices.ContainsFunc(holders, func(h mounts.Holder) bool { return !own(h) }) {
		return mounts.UnmountOnly(m, true)
	}
	return &mountpoint.BusyError{Mounts: []mounts.Mount{m}, Holders: holders}
}

// endDisk ends a process's use of the device that is mounted at point.
func endDisk(host hosts.Host, point string, user procfs.ProcessMark) error {
	d, err := lockDisks(host, 0)
	if err != nil {
		return err
	}
	defer d.unlock()
	return d.drop(d.read(filepath.Base(point)).without(user), user)
}

// passDisk passes a process's use of a device to another process, which serves a tree on
// it.
func passDisk(host hosts.Host, point string, user, heir procfs.ProcessMark) error {
	if heir.Look() == procfs.Ended {
		return fmt.Errorf("process %d has ended", heir.PID)
	}
	d, err := lockDisks(host, 0)
	if err != nil {
		return err
	}
	defer d.unlock()
	r := d.read(filepath.Base(point)).without(user).without(heir)
	r.Users = append(r.Users, heir)
	return d.drop(r, user)
}

// Sweep unmounts devices whose last user was killed.
func Sweep(host hosts.Host) error {
	if _, err := os.Stat(DisksDir(host)); err != nil {
		return nil // no device was ever mounted
	}
	d, err := lockDisks(host, unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // another command is doing so
	}
	if err != nil {
		return err
	}
	defer d.unlock()
	files, err := filepath.Glob(filepath.Join(d.dir, "*.json"))
	for _, f := range files {
		r := d.read(strings.TrimSuffix(filepath.Base(f), ".json"))
		if len(r.Users) == 0 {
			err = errors.Join(err, d.drop(r, procfs.ProcessMark{}))
		}
	}
	return err
}
