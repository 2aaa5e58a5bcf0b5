package device

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/device/superblock"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/text"
)

// The reasons why [FindDevice] finds no device.
var (
	// ErrNoDevice says that no such device is plugged in.
	ErrNoDevice = errors.New("not plugged in")
	// ErrNotBlockDevice says that a path leads to a file that is no block device.
	ErrNotBlockDevice = errors.New("not a block device")
)

// Device is a block device, or a partition of one.
type Device struct {
	Path         string // in /dev
	Major, Minor uint32
	Size         int64 // bytes
	superblock.Contents
	// Err says why the contents are not known.
	Err error
	// Mounts are the mounts of its file system in this namespace, the oldest first.
	Mounts []mounts.Mount

	held bool // another device (multipath, a mapping) stands for this one
	loop string
}

// sectorSize is the unit of all sizes in /sys, even for devices with other sectors.
const sectorSize = 512

// Devices lists the block devices and partitions whose contents are known, and those
// whose contents cannot be read. A device that only shows another listed device is left
// out.
func Devices() ([]Device, error) {
	entries, err := os.ReadDir(mounts.SysBlock)
	if err != nil {
		return nil, fmt.Errorf("listing block devices: %w", err)
	}
	mounted, err := mountedDevices()
	if err != nil {
		return nil, err
	}
	var all []Device
	var looks []<-chan Device
	for _, e := range entries {
		if d, ok := lookDevice(filepath.Join(mounts.SysBlock, e.Name())); ok {
			all = append(all, d)
			looks = append(looks, d.looked(mounted))
		}
	}
	late, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	for i := range all {
		select {
		case all[i] = <-looks[i]:
		case <-late.Done():
			all[i].Err = errSilent
		}
	}
	return slices.DeleteFunc(all, func(d Device) bool { return !d.shown(all) }), nil
}

// probeTimeout bounds how long the contents of all devices together may take to read. A
// sleeping disk takes seconds to spin up; a disk that hangs never answers.
const probeTimeout = 10 * time.Second

var errSilent = errors.New("the device does not answer")

// looked looks at a device in a goroutine of its own.
func (d Device) looked(mounted []mountedDevice) <-chan Device {
	out := make(chan Device, 1)
	go func() {
		d.look(mounted)
		out <- d
	}()
	return out
}

// shown reports whether a device belongs in the list.
func (d Device) shown(all []Device) bool {
	switch {
	case d.Use == superblock.Nothing:
		return d.Err != nil
	case d.Use == superblock.Filesystem && d.held:
		return false
	}
	return !slices.ContainsFunc(all, func(o Device) bool { return d.loop != "" && o.Path == d.loop })
}

// lookDevice reads what /sys says of a device. A device without a medium has no size
// and is left out.
func lookDevice(dir string) (Device, bool) {
	var d Device
	sectors, err := strconv.ParseInt(mounts.SysText(dir, "size"), 10, 64)
	if err != nil || sectors <= 0 {
		return d, false
	}
	if _, err := fmt.Sscanf(mounts.SysText(dir, "dev"), "%d:%d", &d.Major, &d.Minor); err != nil {
		return d, false
	}
	d.Size = sectors * sectorSize
	d.Path = filepath.Join("/dev", filepath.Base(dir))
	for line := range strings.Lines(mounts.SysText(dir, "uevent") + "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			d.Path = filepath.Join("/dev", name)
		}
	}
	holders, _ := os.ReadDir(filepath.Join(dir, "holders"))
	d.held = len(holders) > 0
	d.loop = mounts.SysText(dir, "loop/backing_file")
	return d, true
}

// look fills in what is on the device and where it is mounted.
func (d *Device) look(mounted []mountedDevice) {
	for _, m := range mounted {
		if m.on(*d) {
			d.Mounts = append(d.Mounts, m.Mount)
		}
	}
	d.Contents, d.Err = d.probe()
	if d.Err == nil {
		return
	}
	// A caller that may not read the device gets what udev knows of it.
	d.UUID, d.Label = linkTo("/dev/disk/by-uuid", d.Path), linkTo("/dev/disk/by-label", d.Path)
	if len(d.Mounts) > 0 {
		d.Use, d.Type = superblock.Filesystem, d.Mounts[0].FSType
	}
}

func (d *Device) probe() (superblock.Contents, error) {
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return superblock.Contents{}, err
	}
	defer f.Close()
	var st unix.Stat_t
	switch err := unix.Fstat(int(f.Fd()), &st); {
	case err != nil:
		return superblock.Contents{}, err
	case st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != unix.Mkdev(d.Major, d.Minor):
		return superblock.Contents{}, fmt.Errorf("%s: not the device that the kernel calls so", d.Path)
	}
	// The kernel must not cache what was read: after a disk is lost, the cache would
	// still return its contents.
	defer func() { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }()
	return superblock.Probe(f, d.Size)
}

// linkTo returns the name of the link in dir that leads to a device. udev makes these
// links.
func linkTo(dir, device string) string {
	links, _ := os.ReadDir(dir)
	for _, l := range links {
		if to, err := filepath.EvalSymlinks(filepath.Join(dir, l.Name())); err == nil && to == device {
			return udevName(l.Name())
		}
	}
	return ""
}

// udevName undoes the escapes that udev writes into the names of links.
func udevName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' && text.HexAt(s, i+2) >= 0 && text.HexAt(s, i+3) >= 0 {
			b.WriteByte(byte(text.HexAt(s, i+2)<<4 | text.HexAt(s, i+3)))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountedDevice is a mount with the block device that it claims to show.
type mountedDevice struct {
	mounts.Mount
	rdev uint64 // of Source; 0 if Source is no block device
	loop string // what Source shows, if it is a loop device
}

// on reports whether the mount shows a device. Some file systems have a device number
// of their own, so the source counts as well. The source may also be a loop device that
// shows the device read-only.
func (m mountedDevice) on(d Device) bool {
	return m.Major == d.Major && m.Minor == d.Minor || m.rdev == unix.Mkdev(d.Major, d.Minor) || m.loop == d.Path
}

func mountedDevices() ([]mountedDevice, error) {
	all, err := mounts.Mounts()
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	out := make([]mountedDevice, 0, len(all))
	for _, m := range all {
		md := mountedDevice{Mount: m, loop: m.LoopOver()}
		// A source that is no path in /dev is not looked at, because it may hang.
		if strings.HasPrefix(m.Source, "/dev/") {
			var st unix.Stat_t
			if unix.Stat(m.Source, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
				md.rdev = st.Rdev
				md.loop = cmp.Or(md.loop, mounts.SysText(mounts.SysDevice(st.Rdev), "loop/backing_file"))
			}
		}
		out = append(out, md)
	}
	return out, nil
}

// FindDevice finds the device for a path in /dev, a UUID or a label; the latter two may
// have "UUID=" or "LABEL=" before them. The error is ErrNoDevice if there is none. If
// there are several, the error names them.
func FindDevice(arg string) (Device, error) {
	if strings.HasPrefix(arg, "/") {
		return DeviceAt(arg)
	}
	uuid, byUUID := strings.CutPrefix(arg, "UUID=")
	label, byLabel := strings.CutPrefix(arg, "LABEL=")
	all, err := Devices()
	if err != nil {
		return Device{}, err
	}
	found := slices.DeleteFunc(slices.Clone(all), func(d Device) bool {
		return byLabel || d.UUID == "" || !strings.EqualFold(d.UUID, uuid)
	})
	if len(found) == 0 && !byUUID && label != "" {
		found = slices.DeleteFunc(all, func(d Device) bool { return d.Label != label })
	}
	switch {
	case len(found) == 0:
		return Device{}, fmt.Errorf("device %q: %w: no device has that UUID or label%s", arg, ErrNoDevice, unreadable(all))
	case len(found) == 1, !slices.ContainsFunc(found, func(d Device) bool { return d.Type != "btrfs" || d.UUID != found[0].UUID }):
		return found[0], nil // or all show one file system
	}
	var paths []string
	for _, d := range found {
		paths = append(paths, d.Path)
	}
	return Device{}, fmt.Errorf("device %q: %s all have that UUID or label; name one of them", arg, strings.Join(paths, ", "))
}

// unreadable says that some devices could not be read.
func unreadable(all []Device) string {
	for _, d := range all {
		if os.Geteuid() != 0 && errors.Is(d.Err, os.ErrPermission) {
			return "; devices that only root may read were not asked"
		}
	}
	return ""
}

// DeviceAt looks at the device that a path leads to.
func DeviceAt(path string) (Device, error) {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return Device{}, fmt.Errorf("device %s: %w: there is no such device", path, ErrNoDevice)
	case err != nil:
		return Device{}, fmt.Errorf("device %s: %w", path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFBLK:
		return Device{}, fmt.Errorf("%s: %w", path, ErrNotBlockDevice)
	}
	dir, err := filepath.EvalSymlinks(mounts.SysDevice(st.Rdev))
	if err != nil {
		return Device{}, fmt.Errorf("device %s: %w", path, ErrNoDevice)
	}
	d, ok := lookDevice(dir)
	if !ok {
		return Device{}, fmt.Errorf("device %s: %w: it has no medium", path, ErrNoDevice)
	}
	mounted, err := mountedDevices()
	if err != nil {
		return Device{}, err
	}
	d.look(mounted)
	return d, nil
}

// MountOf returns the mount that shows a directory of the device, and the directory's
// path there. rel is the directory's path below the top of the device. MountOf prefers
// the mount of the largest part of the device, and of those the oldest.
func (d Device) MountOf(rel string) (m mounts.Mount, dir string, ok bool) {
	rel = filepath.Join("/", rel)
	mounted := slices.Clone(d.Mounts)
	slices.SortStableFunc(mounted, func(a, b mounts.Mount) int { return cmp.Compare(len(a.Top()), len(b.Top())) })
	for _, m := range mounted {
		if mounts.Below(rel, m.Top()) {
			rest, _ := filepath.Rel(m.Top(), rel)
			return m, filepath.Join(m.Point, rest), true
		}
	}
	return mounts.Mount{}, "", false
}

// kernelTypes returns the types of file systems that the running kernel knows at
// present; the kernel loads further modules on demand.
func kernelTypes() []string {
	f, err := os.Open("/proc/filesystems")
	if err != nil {
		return nil
	}
	defer f.Close()
	var types []string
	for in := bufio.NewScanner(f); in.Scan(); {
		fields := strings.Fields(in.Text())
		if len(fields) > 0 {
			types = append(types, fields[len(fields)-1])
		}
	}
	return types
}
