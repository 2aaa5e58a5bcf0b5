package mounts

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// MountWatch reports when the mount table of this process has changed. Its owner must
// Close it.
type MountWatch struct{ f *os.File }

// WatchMounts begins to watch.
func WatchMounts() (*MountWatch, error) {
	// os.Open must not be used here: Go's own poller would look at the file too, and
	// the kernel reports each change only once, to the first poll.
	const table = "/proc/self/mountinfo"
	fd, err := unix.Open(table, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: table, Err: err}
	}
	return &MountWatch{f: os.NewFile(uintptr(fd), table)}, nil
}

// Wait reports whether the table has changed since the last call. It waits for at most
// timeout.
func (w *MountWatch) Wait(timeout time.Duration) (bool, error) {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.f.Fd()), Events: unix.POLLPRI}}, int(timeout.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}

// Close ends the watching.
func (w *MountWatch) Close() error { return w.f.Close() }
