package mounts

import (
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/procfs"
)

// LetGo closes the descriptors that this process has inherited on file systems that it
// is about to unmount, and leaves a working directory there. Otherwise a command would
// hinder itself. Standard input, output and error become /dev/null.
func LetGo(mounts []Mount) error {
	table, err := Mounts()
	if err != nil {
		return err
	}
	ids := make(map[int]bool)
	for _, m := range mounts {
		for _, o := range table.OfDevice(m) {
			ids[o.ID] = true
		}
	}
	there := func(link string) bool {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, 0, &st); err != nil {
			return false
		}
		of := Mount{Major: st.Dev_major, Minor: st.Dev_minor}
		return st.Mask&unix.STATX_MNT_ID != 0 && ids[int(st.Mnt_id)] || slices.ContainsFunc(mounts, of.sameDevice)
	}
	if there("/proc/self/cwd") {
		if err := os.Chdir("/"); err != nil {
			return err
		}
	}
	fds, err := procfs.NumericDirs("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if !there("/proc/self/fd/" + strconv.Itoa(fd)) {
			continue
		}
		if err := letGoOf(fd); err != nil {
			return err
		}
	}
	return nil
}

func letGoOf(fd int) error {
	if fd > 2 {
		return unix.Close(fd)
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	return unix.Dup3(null, fd, 0)
}
