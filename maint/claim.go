package maint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/pbs"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// The pids in a run directory are those of one pid namespace: the namespace of the
// server that owns the directory, or else that of the processes that use it. A claim,
// which is a shared lock on a file that names the namespace, states this for as long as
// it is held. A process that finds the directory claimed by another namespace is a
// guest there. It cannot tell live processes from dead ones in the operations files. So
// it changes none of them, and counts in a directory of its own, which every process
// adds up. A lock tells whether a guest is alive: the kernel releases it when the guest
// dies, and it means the same in all namespaces.

const (
	claimName  = "pid-namespace"
	guestsName = "guests"
	aliveName  = "alive"

	// claimTries is how often a claim is tried while another process may be making one.
	claimTries = 5
	claimPause = 3 * time.Millisecond
)

// runClaim is this process's standing in a run directory.
type runClaim struct {
	home  bool            // the pids in it are those of our own namespace
	held  *statefile.Lock // nil if no lock is needed
	guest string          // a guest's own directory
}

func (c *runClaim) release() {
	if c == nil {
		return
	}
	if c.guest != "" {
		removeGuest(c.guest)
	}
	c.held.Unlock()
}

// stands reports whether the lock that we hold is still on the file that others look
// at.
func (c *runClaim) stands() bool {
	return c.held == nil || statefile.SameFile(c.held.File, c.held.File.Name())
}

// claimRun finds out which namespace's pids the run directory has. The caller must
// release the claim.
func claimRun(host hosts.Host) (*runClaim, error) {
	v, err := procfs.Around()
	if err != nil {
		return nil, err
	}
	if host.IsPBS() {
		daemons, err := pbs.Daemons(host)
		return &runClaim{home: err == nil && (v.Namespace == procfs.InitPIDNamespace || len(daemons) > 0)}, nil
	}
	lock, err := claimNamespace(filepath.Join(host.RunDir(), claimName), v.Namespace)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return &runClaim{home: v.Namespace == procfs.InitPIDNamespace}, nil // nothing to be shared, or not with us
	}
	if err != nil {
		return nil, fmt.Errorf("whose pids %s has: %w", host.RunDir(), err)
	}
	return &runClaim{home: lock != nil, held: lock}, nil
}

// claimNamespace takes the claim at path for a namespace. It returns nil if another
// namespace has the claim.
func claimNamespace(path, namespace string) (*statefile.Lock, error) {
	if namespace == "" {
		return nil, nil
	}
	for range claimTries {
		l, settled, err := tryClaim(path, namespace)
		if settled || err != nil {
			return l, err
		}
		time.Sleep(claimPause)
	}
	return nil, nil
}

// tryClaim is one attempt. settled is false if another process tried at the same
// moment.
func tryClaim(path, namespace string) (l *statefile.Lock, settled bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, false, err
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
		}
	}()
	if err := statefile.Flock(f, unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, false, unlessBusy(err)
	}
	if claimedBy(f) != namespace {
		// Perhaps no process of that namespace is left.
		err := statefile.Flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, false, nil
		}
		if err == nil {
			err = writeClaim(f, namespace)
		}
		if err == nil {
			err = statefile.Flock(f, unix.LOCK_SH|unix.LOCK_NB)
		}
		if err != nil {
			return nil, false, unlessBusy(err)
		}
	}
	if claimedBy(f) != namespace || !statefile.SameFile(f, path) {
		return nil, false, nil
	}
	keep = true
	return &statefile.Lock{File: f}, true, nil
}

func unlessBusy(err error) error {
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	return err
}

func claimedBy(f *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 128))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func writeClaim(f *os.File, namespace string) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(namespace+"\n"), 0)
	return err
}

// claimToCount is claimRun for a process that is about to count operations in an
// existing run directory. A guest gets a directory of its own.
func claimToCount(ctx context.Context, host hosts.Host) (*runClaim, error) {
	c, err := claimRun(host)
	if err != nil || c.home {
		return c, err
	}
	if host.IsPBS() {
		return nil, fmt.Errorf("the server's processes cannot be seen from here (another pid namespace), so it cannot be told what is counted in %s", host.RunDir())
	}
	m, err := procfs.MarkSelf()
	if err != nil {
		return nil, err
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, err
	}
	number := strings.Trim(strings.TrimPrefix(ns, "pid:"), "[]")
	c.guest = filepath.Join(host.RunDir(), guestsName, fmt.Sprintf("%s-%d-%d", number, os.Getpid(), m.StartTime))
	alive := filepath.Join(c.guest, aliveName)
	c.held, err = statefile.WaitLock(ctx, alive, unix.LOCK_SH, func() (*os.File, error) {
		if err := statefile.MakeDir(c.guest, host.Files(), 0o755); err != nil {
			return nil, err
		}
		return statefile.OpenLock(alive, host.Files(), 0o644)
	}, nil)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// guestDirs returns the directories of a run directory's live guests. It removes those
// of dead guests.
func guestDirs(runDir string) []string {
	dirs, _ := filepath.Glob(filepath.Join(runDir, guestsName, "*-*-*"))
	var living []string
	for _, dir := range dirs {
		if guestLives(dir) {
			living = append(living, dir)
		} else {
			removeGuest(dir)
		}
	}
	return living
}

// guestLives reports whether a process holds the lock of a guest's directory. A
// directory that cannot be looked at counts as held.
func guestLives(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, aliveName), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	defer f.Close()
	return statefile.Flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil
}

// removeGuest removes the directory of a guest, which holds only files.
func removeGuest(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		os.Remove(filepath.Join(dir, e.Name()))
	}
	os.Remove(dir)
}
