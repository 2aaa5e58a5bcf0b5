package hosts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/statefile"
)

// LockOperations takes the lock of an operations file.
func LockOperations(ctx context.Context, host Host, file string) (*statefile.Lock, error) {
	if err := MakeRunDir(host); err != nil {
		return nil, err
	}
	if err := statefile.MakeDir(filepath.Dir(file), host.at.Files, 0o750); err != nil {
		return nil, fmt.Errorf("create the directory of operations files: %w", err)
	}
	return statefile.LockFile(ctx, file+".lock", host.at.Files, statefile.LockMode)
}

// MakeRunDir creates the run directory. A user's run directory is accessible to that
// user alone.
func MakeRunDir(host Host) error {
	mode := os.FileMode(0o755)
	if host.at.UID != 0 && !host.at.PBS {
		mode = 0o700
	}
	if err := statefile.MakeDir(host.at.RunDir, host.at.Files, mode); err != nil {
		return fmt.Errorf("create the run directory: %w", err)
	}
	return nil
}

// Spare creates a user's spare run directory and returns the host with it. The
// directory lies where other users may have created something before.
func (h Host) Spare() (Host, error) {
	if h.at.SpareRun == "" {
		return h, os.ErrNotExist
	}
	if err := os.Mkdir(h.at.SpareRun, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return h, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(h.at.SpareRun, &st); err != nil {
		return h, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
		return h, fmt.Errorf("%s is not ours: %w", h.at.SpareRun, os.ErrPermission)
	}
	h.at.RunDir = h.at.SpareRun
	return h, nil
}

// configLocks are the locks of every datastore.cfg that binds us.
type configLocks struct {
	held    []*statefile.Lock
	at      map[string]*statefile.Lock // the same by path, for locks that root can take away
	missing []string                   // lock files that were not there
}

// Unlock releases the locks, the one taken last first.
func (c *configLocks) Unlock() {
	for _, l := range slices.Backward(c.held) {
		l.Unlock()
	}
}

// Incomplete reports whether a lock file that was missing is there now, or whether
// another lock file has replaced one that we hold. Another process may have set a mode
// under the new lock, with or without seeing our entry. The next attempt finds out.
func (c *configLocks) Incomplete() bool {
	for path, l := range c.at {
		if !statefile.SameFile(l.File, path) {
			return true
		}
	}
	for _, path := range c.missing {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

// LockConfigs takes the config locks, our own first. file names the lock that could not
// be taken.
func LockConfigs(ctx context.Context, host Host) (locks *configLocks, file string, err error) {
	locks = &configLocks{at: map[string]*statefile.Lock{}}
	for _, place := range host.at.Configs {
		var l *statefile.Lock
		if place.Shared {
			l, err = statefile.ShareLock(ctx, place.Lock())
			if errors.Is(err, os.ErrNotExist) {
				locks.missing = append(locks.missing, place.Lock())
				continue
			}
		} else {
			l, err = LockOwnConfig(ctx, host)
		}
		if err != nil {
			locks.Unlock()
			return nil, place.Lock(), err
		}
		locks.held = append(locks.held, l)
		locks.at[place.Lock()] = l
	}
	return locks, "", nil
}

// LockOwnConfig takes the lock of the datastore.cfg that we may change. On hosts
// without PBS every user may read the lock file, because users take the lock shared.
func LockOwnConfig(ctx context.Context, host Host) (*statefile.Lock, error) {
	if len(host.at.Configs) == 0 || host.at.Configs[0].Shared {
		return nil, fmt.Errorf("no datastore.cfg of our own: %w", os.ErrPermission)
	}
	dirMode, mode := os.FileMode(0o755), os.FileMode(0o644)
	switch {
	case host.at.PBS:
		mode = statefile.LockMode
	case host.at.UID != 0:
		dirMode, mode = 0o700, 0o600
	}
	if err := statefile.MakeDir(host.ConfigDir(), host.at.Files, dirMode); err != nil {
		return nil, fmt.Errorf("create the configuration directory: %w", err)
	}
	if host.at.UID == 0 && !host.at.PBS {
		return statefile.LockFromUsers(ctx, host.ConfigLock(), host.at.Files, mode, host.free)
	}
	return statefile.LockFile(ctx, host.ConfigLock(), host.at.Files, mode)
}
