package statefile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/procfs"
)

// Every user can take root's config lock, because users register under it. A user who
// does not release it would keep root from maintenance for ever. So root replaces the
// lock file. A process that registers under the old file finds that out before any
// operation begins, and registers again.

const (
	// seizeAfter is how long root waits for users to release the lock.
	seizeAfter = 2 * time.Second
	// seizeAgain is the pause between two attempts.
	seizeAgain = 500 * time.Millisecond
)

// lockHeld is a process that holds a lock.
type lockHeld struct {
	procfs.Process
	Root bool // the process has root's rights
}

// FlockHolders finds the processes that have a locked file open, even if another
// process took the lock: descriptors are inherited and handed on. Only root sees all
// processes, and only with CAP_SYS_PTRACE.
func FlockHolders(st unix.Stat_t) ([]lockHeld, error) {
	pids, err := procfs.NumericDirs("/proc")
	if err != nil {
		return nil, err
	}
	var held []lockHeld
	for _, pid := range pids {
		if !hasLock(pid, st) {
			continue
		}
		p, _ := procfs.LookProcess(pid)
		held = append(held, lockHeld{Process: p, Root: isRoot(pid)})
	}
	return held, nil
}

// hasLock reports whether a descriptor of a process holds a lock on a file.
func hasLock(pid int, st unix.Stat_t) bool {
	dir := procfs.ProcPath(pid, "fdinfo")
	fds, err := procfs.NumericDirs(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if infoHasLock(dir+"/"+strconv.Itoa(fd), st) {
			return true
		}
	}
	return false
}

func infoHasLock(path string, st unix.Stat_t) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		line, ok := strings.CutPrefix(in.Text(), "lock:")
		if !ok {
			continue
		}
		if l, ok := parseLock(line); ok && l.ino == st.Ino && !l.waits {
			return true
		}
	}
	return false
}

// isRoot reports whether a process has, or may take, root's rights.
func isRoot(pid int) bool {
	for _, id := range strings.Fields(procfs.StatusLine(pid, "Uid:")) {
		if id == "0" {
			return true
		}
	}
	return false
}

// seizer is how root takes a lock from ordinary users.
type seizer struct {
	path  string
	own   Owner
	mode  os.FileMode
	free  func(context.Context) error // has another process take it, or nil
	again time.Time                   // the next attempt
}

// try takes the lock if only ordinary users hold it. Otherwise it returns nil.
func (s *seizer) try(ctx context.Context, waited time.Duration) (*Lock, error) {
	if s == nil || waited < seizeAfter || time.Now().Before(s.again) {
		return nil, nil
	}
	s.again = time.Now().Add(seizeAgain)
	v, err := procfs.Around()
	if err != nil || !v.All || v.Namespace != procfs.InitPIDNamespace {
		return nil, nil // the holder may be root
	}
	if !seesHolders() {
		return nil, s.askOther(ctx)
	}
	alone, err := tryLock(s.path+".seize", unix.LOCK_EX, func() (*os.File, error) { return OpenLock(s.path+".seize", s.own, 0o600) })
	if err != nil || alone == nil {
		return nil, err
	}
	defer alone.Unlock()
	var st unix.Stat_t
	if err := unix.Lstat(s.path, &st); err != nil {
		return nil, nil
	}
	holders, err := FlockHolders(st)
	if err != nil || hasRoot(holders) {
		return nil, err
	}
	l, err := s.replace()
	if err != nil {
		return nil, fmt.Errorf("take lock %s from an ordinary user: %w", s.path, err)
	}
	for _, h := range holders {
		slog.Default().Warn("lock was taken from an ordinary user's process, which had it for too long", "file", s.path, "pid", h.PID, "name", h.Name)
	}
	return l, s.awaitRoot(ctx, st, l)
}

// seesHolders reports whether this process may look into others. If not, it would take
// nobody for the holder.
func seesHolders() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	err := unix.Capget(&header, &have[0])
	return err == nil && have[0].Effective&(1<<unix.CAP_SYS_PTRACE) != 0
}

// askOther has another process take the lock, and give it back.
func (s *seizer) askOther(ctx context.Context) error {
	if s.free == nil {
		return nil // and wait
	}
	if err := s.free(ctx); err != nil {
		return fmt.Errorf("take lock %s from an ordinary user: %w", s.path, err)
	}
	return nil
}

func hasRoot(holders []lockHeld) bool {
	for _, h := range holders {
		if h.Root {
			return true
		}
	}
	return false
}

// replace puts a new lock file, which is locked already, in the place of the old one.
func (s *seizer) replace() (*Lock, error) {
	f, err := createTemp(s.path, s.own, s.mode)
	if err != nil {
		return nil, err
	}
	err = Flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = os.Rename(f.Name(), s.path)
	}
	if err != nil {
		os.Remove(f.Name())
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f}, nil
}

// awaitRoot waits for a process of root's that took the old lock just before the file
// was replaced.
func (s *seizer) awaitRoot(ctx context.Context, old unix.Stat_t, l *Lock) error {
	for end := time.Now().Add(LockTimeout); ; {
		holders, err := FlockHolders(old)
		if err == nil && !hasRoot(holders) {
			return nil
		}
		if err == nil && !time.Now().Before(end) {
			err = &LockError{File: s.path, Waited: LockTimeout}
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			l.Unlock()
			return err
		}
		time.Sleep(lockPollMax)
	}
}
