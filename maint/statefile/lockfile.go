package statefile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/procfs"
)

const (
	// LockTimeout bounds the wait for a lock; PBS has the same limit.
	LockTimeout = 10 * time.Second
	// LockMode is the mode PBS gives its lock files and operations files.
	LockMode = 0o660

	lockPollMin = time.Millisecond
	lockPollMax = 25 * time.Millisecond
)

// ErrLocked is found in a [*LockError].
var ErrLocked = errors.New("lock is held by another process")

// LockError says that a lock could not be had in time, and which process holds it.
type LockError struct {
	File   string
	Waited time.Duration
	Holder procfs.Process // zero if the process cannot be seen
}

// Error names the lock file and its holder.
func (e *LockError) Error() string {
	who := "a process that cannot be seen from here"
	if e.Holder.PID != 0 {
		who = fmt.Sprintf("process %d (%s)", e.Holder.PID, e.Holder.Name)
	}
	return fmt.Sprintf("lock %s is held by %s (waited %v)", e.File, who, e.Waited.Round(time.Millisecond))
}

// Is matches ErrLocked.
func (e *LockError) Is(target error) bool { return target == ErrLocked }

// Lock is a flock on a lock file that is never removed. It belongs to the open file, so
// two locks of one process exclude each other as well.
type Lock struct{ File *os.File }

// Unlock releases the lock. It may be called on nil.
func (l *Lock) Unlock() {
	if l != nil && l.File != nil {
		l.File.Close() // gives the flock back
	}
}

// LockFile takes the exclusive lock at path, and creates the file as PBS does. It gives
// up after LockTimeout or when ctx ends.
func LockFile(ctx context.Context, path string, own Owner, mode os.FileMode) (*Lock, error) {
	return WaitLock(ctx, path, unix.LOCK_EX, func() (*os.File, error) { return OpenLock(path, own, mode) }, nil)
}

// LockFromUsers is LockFile for root, for a lock that every user can take. If this
// process may not see who holds it, free is asked to take it from them; it may be nil.
func LockFromUsers(ctx context.Context, path string, own Owner, mode os.FileMode, free func(context.Context) error) (*Lock, error) {
	open := func() (*os.File, error) { return OpenLock(path, own, mode) }
	return WaitLock(ctx, path, unix.LOCK_EX, open, &seizer{path: path, own: own, mode: mode, free: free})
}

// ShareLock takes the shared lock on another user's lock file, which must exist.
func ShareLock(ctx context.Context, path string) (*Lock, error) {
	return WaitLock(ctx, path, unix.LOCK_SH, func() (*os.File, error) {
		return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	}, nil)
}

// WaitLock tries until it has the lock. If take is not nil, it takes the lock from its
// holder.
func WaitLock(ctx context.Context, path string, how int, open func() (*os.File, error), take *seizer) (*Lock, error) {
	start, poll := time.Now(), lockPollMin
	deadline := time.NewTimer(LockTimeout)
	defer deadline.Stop()
	for {
		l, err := tryLock(path, how, open)
		if l == nil && err == nil {
			l, err = take.try(ctx, time.Since(start))
		}
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-time.After(poll):
			poll = min(2*poll, lockPollMax)
			continue
		case <-deadline.C:
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, fmt.Errorf("wait for lock %s: %w", path, context.Cause(ctx))
			}
		}
		return nil, &LockError{File: path, Waited: time.Since(start), Holder: LockHolder(path)}
	}
}

// tryLock returns nil and no error while another process holds the lock.
func tryLock(path string, how int, open func() (*os.File, error)) (*Lock, error) {
	f, err := open()
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	err = Flock(f, how|unix.LOCK_NB)
	if err == nil && SameFile(f, path) {
		return &Lock{f}, nil
	}
	f.Close()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil // or the file was replaced while we waited
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// Flock calls flock(2), and repeats the call if a signal interrupts it.
func Flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
}

// SameFile reports whether a path leads to the file that is open.
func SameFile(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// OpenLock opens a lock file. A missing file appears with its final mode and owner:
// PBS's proxy runs as another user and must never find it with others.
func OpenLock(path string, own Owner, mode os.FileMode) (*os.File, error) {
	const flags = os.O_RDWR | os.O_APPEND | syscall.O_NOFOLLOW
	f, err := os.OpenFile(path, flags, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	tmp, err := createTemp(path, own, mode)
	if err != nil {
		return nil, err
	}
	defer tmp.Close()
	err = unix.Renameat2(unix.AT_FDCWD, tmp.Name(), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if err != nil {
		os.Remove(tmp.Name())
		if !errors.Is(err, unix.EEXIST) {
			return nil, &os.PathError{Op: "create", Path: path, Err: err}
		}
	}
	return os.OpenFile(path, flags, 0)
}

// LockHolder finds the process that holds the lock, as far as the kernel tells.
func LockHolder(path string) procfs.Process {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return procfs.Process{}
	}
	return FlockHolder(st)
}

// FlockHolder finds the process that holds a lock on a file.
func FlockHolder(st unix.Stat_t) procfs.Process {
	f, err := os.Open("/proc/locks")
	if err != nil {
		return procfs.Process{}
	}
	defer f.Close()
	byDevice, byInode := 0, 0
	for in := bufio.NewScanner(f); in.Scan(); {
		l, ok := parseLock(in.Text())
		if !ok || l.ino != st.Ino || l.waits || l.pid <= 0 {
			continue
		}
		if l.dev == fmt.Sprintf("%02x:%02x", unix.Major(st.Dev), unix.Minor(st.Dev)) {
			byDevice = l.pid
		}
		byInode = l.pid
	}
	if byDevice == 0 {
		byDevice = byInode // some file systems show other device numbers in stat
	}
	p, _ := procfs.LookProcess(byDevice)
	return p
}

// lockLine is a line of /proc/locks about a flock.
type lockLine struct {
	pid   int // of the process that took the lock, which may have ended
	dev   string
	ino   uint64
	waits bool
}

// parseLock reads a line like "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF". Lines
// with "->" are about processes that wait.
func parseLock(line string) (l lockLine, ok bool) {
	f := strings.Fields(line)
	if len(f) > 1 && f[1] == "->" {
		l.waits = true
		f = append(f[:1:1], f[2:]...)
	}
	if len(f) < 6 || f[1] != "FLOCK" {
		return l, false
	}
	i := strings.LastIndexByte(f[5], ':')
	if i < 0 {
		return l, false
	}
	l.pid, _ = strconv.Atoi(f[4])
	ino, err := strconv.ParseUint(f[5][i+1:], 10, 64)
	l.dev, l.ino = f[5][:i], ino
	return l, err == nil
}

// MakeDir creates a directory and its missing parents, with our owner and mode. A
// directory that exists stays as it is.
func MakeDir(dir string, own Owner, mode os.FileMode) error {
	if st, err := os.Stat(dir); err == nil {
		if !st.IsDir() {
			return &os.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := MakeDir(parent, Owner{}, 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, mode); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil
		}
		return err
	}
	if err := own.give(dir); err != nil {
		return err
	}
	return os.Chmod(dir, mode) // whatever the umask
}
