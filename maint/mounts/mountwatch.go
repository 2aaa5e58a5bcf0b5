package mounts

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// MountWatch tells when the mount table of this process has changed. Its owner
// must Close it.
type MountWatch struct{ f *os.File }

// WatchMounts begins to watch.
func WatchMounts() (*MountWatch, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return &MountWatch{f: f}, nil
}

// Wait reports whether the table has changed since the last call, waiting for
// at most timeout.
func (w *MountWatch) Wait(timeout time.Duration) (bool, error) {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.f.Fd()), Events: unix.POLLPRI}}, int(timeout.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}

// Close ends the watching.
func (w *MountWatch) Close() error { return w.f.Close() }
