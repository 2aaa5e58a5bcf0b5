package mounts

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/text"
)

// AbortConnection ends the connection between the kernel and the process that serves a
// FUSE mount and may hang. A program that waits for the mount gets an error.
func AbortConnection(m Mount) error {
	if m.Major != 0 || !strings.HasPrefix(m.FSType, "fuse") {
		return fmt.Errorf("%s: not a mount of FUSE", text.Printable(m.Point))
	}
	dir, err := controlFS()
	if err != nil {
		return fmt.Errorf("reaching the connections of FUSE: %w", err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, fmt.Sprintf("%d/abort", m.Minor), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("aborting the connection of %s: %w", text.Printable(m.Point), err)
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("1"))
	return err
}

// controlFS opens the control file system of FUSE: where it is mounted, or in a mount
// that no other process sees.
func controlFS() (int, error) {
	table, err := Mounts()
	if err != nil {
		return -1, err
	}
	const usual = "/sys/fs/fuse/connections"
	if m, ok := table.At(usual); ok && m.FSType == "fusectl" {
		return unix.Open(usual, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	fs, err := unix.Fsopen("fusectl", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

// ServerOf finds the process that serves a FUSE mount: the one that has the mount's
// connection open. Kernels before 6.14 do not tell, and neither do later ones if the
// caller may not look into the process. The kernel uses numbers of connections again,
// so the newest process counts.
func ServerOf(m Mount) (procfs.Process, bool) {
	pids, err := procfs.NumericDirs("/proc")
	if err != nil {
		return procfs.Process{}, false
	}
	var newest procfs.Process
	for _, pid := range pids {
		if !hasConnection(pid, m) {
			continue
		}
		if p, ok := procfs.LookProcess(pid); ok && p.StartTime >= newest.StartTime {
			newest = p
		}
	}
	return newest, newest.PID != 0
}

// hasConnection reports whether a process has the connection of a mount open.
func hasConnection(pid int, m Mount) bool {
	fds, err := procfs.NumericDirs(procfs.ProcPath(pid, "fd"))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		n := strconv.Itoa(fd)
		to, err := os.Readlink(procfs.ProcPath(pid, "fd/"+n))
		if err == nil && strings.HasSuffix(to, "/fuse") && connection(procfs.ProcPath(pid, "fdinfo/"+n)) == int(m.Minor) {
			return true
		}
	}
	return false
}

// connection returns the number of the connection behind a descriptor of /dev/fuse, -1
// if the kernel does not tell.
func connection(fdinfo string) int {
	text, err := os.ReadFile(fdinfo)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "fuse_connection:"); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
				return n
			}
		}
	}
	return -1
}

// Stopped reports whether a process was stopped, by SIGSTOP or a terminal, and does
// nothing until it is continued.
func Stopped(pid int) bool {
	st, ok := procfs.ReadStat(pid)
	return ok && (st.State == 'T' || st.State == 't')
}

// Connection is this process's connection with the kernel for one FUSE mount. Its owner
// must Close it.
type Connection struct {
	mu sync.Mutex
	fd int // guarded by mu; -1 when closed
}

// FUSEDevice is the file of which each opening begins a connection.
const FUSEDevice = "/dev/fuse"

// OpenFUSE begins a connection, which a mount then takes. Package os does not open it,
// because reads would then not wait.
func OpenFUSE() (*os.File, error) {
	fd, err := unix.Open(FUSEDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: FUSEDevice, Err: err}
	}
	return os.NewFile(uintptr(fd), FUSEDevice), nil
}

// NewConnection returns a descriptor of its own of a connection.
func NewConnection(f *os.File) (*Connection, error) {
	dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Connection{fd: dup}, nil
}

// Lives reports whether the kernel still has the file system of the connection. After
// that, another file system may get its device number.
func (c *Connection) Lives() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return false
	}
	p := []unix.PollFd{{Fd: int32(c.fd)}}
	for {
		_, err := unix.Poll(p, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && p[0].Revents&unix.POLLERR == 0
	}
}

// Close closes this descriptor of the connection. It may be called twice.
func (c *Connection) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd >= 0 {
		unix.Close(c.fd)
	}
	c.fd = -1
}
