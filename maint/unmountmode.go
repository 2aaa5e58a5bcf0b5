package maint

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// While we unmount the device of a removable datastore, the datastore's mode is
// unmount, as it is while PBS does so: nothing begins to read then. The message tells
// our mode from PBS's own. It names the process and the boot, so that another command
// can tell whether the process that set the mode still runs or has left the mode
// behind.

// ourMessage matches the message of our mode: the pid, the start time, the place where
// the two have a meaning, and a mark if the datastore was in read-only maintenance
// before. PBS allows 64 characters.
var ourMessage = regexp.MustCompile(`^pbsfs unmount ([0-9]{1,10}) ([0-9]{1,18}) ([0-9a-f]{16}|[0-9a-f]{8}n[0-9a-f]{7})( ro)?$`)

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// bootID returns 16 hexadecimal digits that tell this boot from others.
func bootID() (string, error) {
	text, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "", err
	}
	id := strings.ReplaceAll(strings.TrimSpace(string(text)), "-", "")
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
		return "", fmt.Errorf("%s: %q is no id", bootIDFile, id)
	}
	return id[:16], nil
}

// processPlace returns the place in which the pid and start time of this process have a
// meaning: for the first pid namespace the first half of the boot id, for another
// namespace a quarter of the boot id with the number of the namespace.
func processPlace() (string, error) {
	boot, err := bootID()
	if err != nil {
		return "", err
	}
	v, err := procfs.Around()
	if err != nil || v.Namespace == procfs.InitPIDNamespace {
		return boot, err
	}
	number, _ := strconv.ParseUint(strings.Trim(strings.TrimPrefix(v.Namespace, "pid:"), "[]"), 10, 64)
	return fmt.Sprintf("%sn%07x", boot[:8], number&0xfffffff), nil
}

// unmounting is the content of our message.
type unmounting struct {
	pid       int
	starttime uint64
	place     string
	readOnly  bool // the mode before ours was read-only
}

func (u unmounting) String() string {
	s := fmt.Sprintf("pbsfs unmount %d %d %s", u.pid, u.starttime, u.place)
	if u.readOnly {
		s += " ro"
	}
	return s
}

// ownUnmounting reads the message of a mode that pbsfs has set. ok is false for any
// other mode.
func ownUnmounting(m cfg.Mode) (u unmounting, ok bool) {
	f := ourMessage.FindStringSubmatch(m.Message)
	if m.Type != cfg.Unmount || f == nil {
		return u, false
	}
	pid, err1 := strconv.Atoi(f[1])
	start, err2 := strconv.ParseUint(f[2], 10, 64)
	return unmounting{pid, start, f[3], f[4] != ""}, err1 == nil && err2 == nil
}

// abandoned reports whether the process that set the mode is known to have ended.
func (u unmounting) abandoned() bool {
	here, err := processPlace()
	switch {
	case err != nil:
		return false
	case here == u.place:
		return procfs.LookAt(u.pid, u.starttime) == procfs.Ended
	}
	return here[:8] != u.place[:8] // it was another boot, not just another namespace
}

// before returns the value of the mode that stood before ours.
func (u unmounting) before() string {
	if u.readOnly {
		return string(cfg.ReadOnly)
	}
	return ""
}

// Abandoned reports whether a pbsfs command has set this mode for an unmount and left
// it behind when it was killed. See [FinishUnmount].
func Abandoned(m cfg.Mode) bool {
	u, ok := ownUnmounting(m)
	return ok && u.abandoned()
}

// FinishUnmount removes the mode that a pbsfs command left behind when it was killed
// during an unmount, or when the machine lost its power. Whether the device had been
// unmounted by then does not matter: the mode of before is consistent with both. Any
// other mode stays.
func FinishUnmount(ctx context.Context, host hosts.Host, store string) error {
	c := newModeChange(host, store, cfg.None, SetOptions{})
	changed, err := c.locked(ctx, func(now cfg.Mode) (string, error) {
		u, ok := ownUnmounting(now)
		if !ok || !u.abandoned() {
			return "", errKept
		}
		return u.before(), nil
	})
	if errors.Is(err, errKept) {
		return nil
	}
	if err == nil && changed {
		c.announce(ctx)
	}
	return err
}

// errKept says that a mode is not ours to take back.
var errKept = errors.New("mode is kept")

// Unmounting is the mode unmount that this process has set. Its owner must call End.
type Unmounting struct {
	change *modeChange
	own    unmounting
	before string // the value of the mode that stood before
	set    bool
}

// BeginUnmount forbids all operations on a datastore while its device is unmounted.
// After waiting for opts.Wait, it is refused with a [*ConflictError] if any process,
// ours or PBS's, still has active operations. It is refused with a [*ModeError] if PBS
// has set a mode of its own, or if another pbsfs process is unmounting the device. A
// datastore that is offline already stays so.
func BeginUnmount(ctx context.Context, host hosts.Host, store string, opts SetOptions) (*Unmounting, error) {
	me, err := procfs.Self()
	if err != nil {
		return nil, err
	}
	here, err := processPlace()
	if err != nil {
		return nil, fmt.Errorf("telling this boot from others: %w", err)
	}
	u := &Unmounting{
		change: newModeChange(host, store, cfg.Unmount, opts),
		own:    unmounting{pid: me.PID, starttime: me.StartTime, place: here},
	}
	deadline := time.Now().Add(opts.Wait)
	for {
		changed, err := u.change.locked(ctx, u.decide)
		if err == nil || errors.Is(err, errKept) {
			u.set = changed
			if changed {
				u.change.announce(ctx)
			}
			return u, nil
		}
		if !errors.Is(err, ErrConflict) || !time.Now().Before(deadline) {
			return nil, err
		}
		if err := u.change.tally.waitQuiet(ctx, cfg.Unmount, deadline); err != nil {
			return nil, err
		}
	}
}

// decide returns the mode for the time of the unmount, or the reason why the unmount is
// refused.
func (u *Unmounting) decide(now cfg.Mode) (string, error) {
	switch now.Type {
	case cfg.None, cfg.Offline:
		u.own.readOnly, u.before = false, ""
	case cfg.ReadOnly:
		before, err := cfg.EncodeMode(cfg.ReadOnly, now.Message)
		if err != nil {
			return "", err
		}
		u.own.readOnly, u.before = true, before
	default:
		return "", now.Refusal(u.change.store)
	}
	if err := u.change.unlessActive(cfg.Unmount); err != nil {
		return "", err
	}
	if now.Type == cfg.Offline {
		return "", errKept
	}
	return cfg.EncodeMode(cfg.Unmount, u.own.String())
}

// End restores the former mode, unless another program has set a mode meanwhile. It may
// be called twice.
func (u *Unmounting) End(ctx context.Context) error {
	if !u.set {
		return nil
	}
	changed, err := u.change.locked(ctx, func(now cfg.Mode) (string, error) {
		if at, ok := ownUnmounting(now); !ok || at != u.own {
			return "", errKept
		}
		return u.before, nil
	})
	switch {
	case errors.Is(err, errKept):
	case err != nil:
		return err
	case changed:
		u.change.announce(ctx)
	}
	u.set = false
	return nil
}
