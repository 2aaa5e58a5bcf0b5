package mountpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Two commands that mount on one directory at the same time would mount one tree upon
// the other. So a command locks the directory itself, whatever its path and wherever
// the command keeps its state. It holds the lock from its look at the present mounts
// until the tree is mounted.

const (
	// lockPatience is how long a command waits for another one that mounts.
	lockPatience = 20 * time.Second
	// foreignPatience is how long root waits for a lock on a directory that other users
	// can open: the lock may be theirs.
	foreignPatience = 2 * time.Second
	// lockRetry is the pause between two attempts to take a lock.
	lockRetry = 50 * time.Millisecond
)

// Lock is the lock of a mount point, nil if there is none.
type Lock struct{ dir *os.File }

// Acquire locks a directory on which a tree is to be mounted. A directory that cannot
// be read cannot be locked either; the mount itself then tells what is wrong.
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
		// Another user's lock does not keep root from mounting. A command that mounts
		// there at the same moment all the same finds the other tree below.
		return nil, dir.Close()
	}
	return nil, errors.Join(fmt.Errorf("cannot mount on %s: somebody else has the directory locked", where), dir.Close())
}

// others reports whether users other than root can open a directory, and so lock it.
func others(dir *os.File) bool {
	info, err := dir.Stat()
	return err != nil || info.Mode().Perm()&0o044 != 0
}

// Release unlocks the directory. It may be called on nil.
func (l *Lock) Release() {
	if l != nil {
		_ = l.dir.Close()
	}
}
