package mountpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Two commands that mount on one directory at the same time would lay one tree
// upon the other. So they lock the directory itself, whatever it is called and
// wherever they keep their state, from the look at what is mounted there until
// the tree is.

const (
	// lockPatience is how long one command waits for another that mounts.
	lockPatience = 20 * time.Second
	// foreignPatience is how long root waits for a lock that may be anybody's,
	// on a directory that others can open.
	foreignPatience = 2 * time.Second
	// lockRetry is how often a lock that another command has is tried again.
	lockRetry = 50 * time.Millisecond
)

// Lock is the lock of a mount point, nil where there is none.
type Lock struct{ dir *os.File }

// Acquire locks a directory that is to be mounted on. A directory that
// cannot be read cannot be locked either; mounting there tells what is wrong.
func Acquire(ctx context.Context, where string) (*Lock, error) {
	dir, err := os.OpenFile(where, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil
	}
	deadline := time.Now().Add(lockPatience)
	if os.Geteuid() == 0 && others(dir) {
		deadline = time.Now().Add(foreignPatience)
	}
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return &Lock{dir}, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, dir.Close() // the file system has no locks
		}
		if !time.Now().Before(deadline) {
			break
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), dir.Close())
		}
	}
	if os.Geteuid() == 0 {
		// Whoever it is does not keep root from mounting; who mounts there all
		// the same at this moment finds the other tree below.
		return nil, dir.Close()
	}
	return nil, errors.Join(fmt.Errorf("cannot mount on %s: somebody else has the directory locked", where), dir.Close())
}

// others reports whether other users than root can open a directory, and lock it.
func others(dir *os.File) bool {
	info, err := dir.Stat()
	return err != nil || info.Mode().Perm()&0o044 != 0
}

// Release unlocks the directory. The nil lock has none.
func (l *Lock) Release() {
	if l != nil {
		_ = l.dir.Close()
	}
}
