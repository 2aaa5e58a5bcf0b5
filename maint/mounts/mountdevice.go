package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// SysBlock is the directory in which the kernel lists block devices.
const SysBlock = "/sys/class/block"

// Top returns the mounted directory of the device. A btrfs subvolume that is mounted by
// default is the top.
func (m Mount) Top() string {
	if m.FSType != "btrfs" {
		return m.Root
	}
	for opt := range strings.SplitSeq(m.SuperOptions, ",") {
		if sub, ok := strings.CutPrefix(opt, "subvol="); ok {
			if rest, err := filepath.Rel(unescapeMount(sub), m.Root); err == nil && !strings.HasPrefix(rest, "..") {
				return filepath.Join("/", rest)
			}
		}
	}
	return m.Root
}

// SysText returns the text of a file in /sys, "" if there is none.
func SysText(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

// SysDevice returns the directory in /sys of the block device with a number.
func SysDevice(rdev uint64) string {
	return fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(rdev), unix.Minor(rdev))
}

// Attributes returns the options of a mount as attributes for a new one.
func (m Mount) Attributes() int {
	attr := 0
	for opt, flag := range map[string]int{
		"ro": unix.MOUNT_ATTR_RDONLY, "nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV,
		"noexec": unix.MOUNT_ATTR_NOEXEC, "noatime": unix.MOUNT_ATTR_NOATIME,
	} {
		if HasOption(m.Options, opt) {
			attr |= flag
		}
	}
	return attr
}

// HasOption reports whether an option is in a list of options.
func HasOption(list, opt string) bool { return slices.Contains(strings.Split(list, ","), opt) }

// MediumGone reports whether the block device under a path is no longer there: it was
// unplugged while it was mounted. The path itself is not looked at.
func MediumGone(path string) bool {
	on, ok := MountUnder(path)
	return ok && on.DeviceGone()
}

// MountUnder returns the mount on which a path lies. It looks at names only.
func MountUnder(path string) (on Mount, ok bool) {
	mounts, err := Mounts()
	if err != nil {
		return on, false
	}
	for _, m := range mounts {
		if Below(path, m.Point) && (!ok || len(m.Point) >= len(on.Point)) {
			on, ok = m, true
		}
	}
	return on, ok
}

// LoopOver returns what the mounted loop device shows, "" for any other device.
func (m Mount) LoopOver() string {
	if m.Major == 0 {
		return ""
	}
	return SysText(SysDevice(unix.Mkdev(m.Major, m.Minor)), "loop/backing_file")
}

// DeviceGone looks in /sys whether the device is gone. A file system without a device
// number of its own is identified by its source.
func (m Mount) DeviceGone() bool {
	if m.Major != 0 {
		dir := SysDevice(unix.Mkdev(m.Major, m.Minor))
		_, err := os.Stat(dir)
		if below := SysText(dir, "loop/backing_file"); strings.HasPrefix(below, "/dev/") { // shown by a loop device
			_, err = os.Stat(filepath.Join(SysBlock, strings.TrimPrefix(strings.TrimSuffix(below, " (deleted)"), "/dev/")))
		}
		return errors.Is(err, os.ErrNotExist)
	}
	if !strings.HasPrefix(m.Source, "/dev/") {
		return false
	}
	var st unix.Stat_t
	switch err := unix.Stat(m.Source, &st); {
	case errors.Is(err, unix.ENOENT):
		return true
	case err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK:
		return false
	}
	_, err := os.Stat(SysDevice(st.Rdev))
	return errors.Is(err, os.ErrNotExist)
}

// MountByID returns the mount with an ID.
func MountByID(id uint64) (Mount, bool) {
	mounts, err := Mounts()
	if err != nil {
		return Mount{}, false
	}
	for _, m := range mounts {
		if uint64(m.ID) == id {
			return m, true
		}
	}
	return Mount{}, false
}

// PathOnDisk converts a path below the mount to a path from the top of its file system.
// The top is what is mounted if no part of the file system is named.
func (m Mount) PathOnDisk(path string) string {
	if m.FSType == "btrfs" {
		if rel, ok := pathInDefault(path); ok {
			return rel
		}
	}
	rest, err := filepath.Rel(m.Point, path)
	if err != nil {
		return ""
	}
	return filepath.Join(m.Root, rest)
}

// Disk names the disk below a file system that has its disk's device number: the
// device, or, for a loop device, what is behind it.
func (m Mount) Disk() string {
	if m.Major == 0 {
		return ""
	}
	at := unix.Mkdev(m.Major, m.Minor)
	for range 8 {
		dir := SysDevice(at)
		file := SysText(dir, "loop/backing_file")
		var st unix.Stat_t
		switch {
		case file == "":
			return fmt.Sprintf("%d:%d", unix.Major(at), unix.Minor(at))
		case !strings.HasPrefix(file, "/dev/") || unix.Stat(file, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK:
			return file + "@" + SysText(dir, "loop/offset")
		}
		at = st.Rdev
	}
	return ""
}
