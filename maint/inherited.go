package maint

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// LetGo closes what this process has inherited of file systems that it is about to
// unmount, and leaves a working directory there: a command is not in its own way.
// Standard input, output and error become /dev/null.
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
	if id, ok := mountBehind("/proc/self/cwd"); ok && ids[id] {
		if err := os.Chdir("/"); err != nil {
			return err
		}
	}
	fds, err := numericDirs("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if id, ok := mountID("/proc/self/fdinfo/" + strconv.Itoa(fd)); !ok || !ids[id] {
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
