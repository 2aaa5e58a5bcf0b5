package maint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/pbs"
	"github.com/pbsfs/pbsfs/maint/reach"
)

// conflictPoll is how often a refused change is checked for whether it could be made
// now.
const conflictPoll = 20 * time.Millisecond

// ErrConflict is found in a [*ConflictError].
var ErrConflict = errors.New("operations are active")

// ConflictError says that operations are active which a mode forbids.
type ConflictError struct {
	Store     string
	Type      cfg.ModeType
	Processes []ProcessCount
	// Set says that the mode was set and stands all the same: the wait ended before
	// these operations did.
	Set bool
	// Err is what ended the wait; nil if its time was over.
	Err error
}

// Error names the processes.
func (e *ConflictError) Error() string {
	var b strings.Builder
	if e.Set {
		fmt.Fprintf(&b, "datastore %s is set %s, and still has active operations:", e.Store, e.Type)
	} else {
		fmt.Fprintf(&b, "datastore %s has active operations:", e.Store)
	}
	for i, p := range e.Processes {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " process %d (%s): %d read, %d write", p.PID, p.Name, p.Read, p.Write)
	}
	return b.String()
}

// Is matches ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// Unwrap returns what ended the wait.
func (e *ConflictError) Unwrap() error { return e.Err }

// SetOptions are the options of a change of the mode.
type SetOptions struct {
	// Message is shown to users whose operations the mode refuses.
	Message string
	// Wait is how long conflicting operations may take to end before SetMode gives up.
	// A Release arrives only after close(2) has returned, so even a file that was just
	// closed needs a moment.
	Wait time.Duration
	// Drain sets the mode at once, so that nothing new begins; [WaitIdle]
	// then waits for what is active.
	Drain bool
	// Force lets ClearMode clear PBS's own unmount mode if it is stuck.
	Force bool
	// Also lists further names under which the datastore may still be counted: those by
	// which its trees were mounted.
	Also []string
	// Digest is that of the datastore.cfg on which the decision is based. If the file is
	// another one by now, the change is refused with [ErrOutdated]. The zero Digest
	// accepts any file.
	Digest cfg.Digest
	// Log gets the failures that did not prevent the change; slog.Default() when nil.
	Log *slog.Logger
}

// ErrOutdated says that datastore.cfg was changed since it was read.
//
//lint:ignore ST1005 the text is that of PBS
var ErrOutdated = errors.New("detected modified configuration - file changed by other user? Try again.") //nolint:staticcheck // as above

// SetMode puts a datastore into ReadOnly or Offline maintenance. Unless Drain is set,
// it is refused with a [*ConflictError] while operations are active that the mode
// forbids, even if the mode stands already; nothing has changed then. A mode that PBS
// has set for itself is left alone: SetMode returns a [*ModeError].
func SetMode(ctx context.Context, host hosts.Host, store string, mode cfg.ModeType, opts SetOptions) error {
	if !mode.Settable() {
		return fmt.Errorf("maintenance mode %q cannot be set, only %s and %s", mode, cfg.ReadOnly, cfg.Offline)
	}
	value, err := cfg.EncodeMode(mode, opts.Message)
	if err != nil {
		return err
	}
	c := newModeChange(host, store, mode, opts)
	c.value = value
	deadline := time.Now().Add(opts.Wait)
	for {
		err := c.try(ctx)
		if !errors.Is(err, ErrConflict) || !time.Now().Before(deadline) {
			return err
		}
		if err := c.tally.waitQuiet(ctx, mode, deadline); err != nil {
			return err
		}
	}
}

// ClearMode ends the maintenance of a datastore.
func ClearMode(ctx context.Context, host hosts.Host, store string, opts SetOptions) error {
	c := newModeChange(host, store, cfg.None, opts)
	c.drain = true
	return c.try(ctx)
}

// modeChange is one change of a mode; mode None and value "" clear it.
type modeChange struct {
	host  hosts.Host
	store string
	mode  cfg.ModeType
	value string
	drain bool
	force bool
	based cfg.Digest
	log   *slog.Logger
	tally *tally
	bound modes.Binding // what the files said when they were read under the lock
}

func newModeChange(host hosts.Host, store string, mode cfg.ModeType, opts SetOptions) *modeChange {
	c := &modeChange{
		host: host, store: store, mode: mode, drain: opts.Drain, force: opts.Force, based: opts.Digest, log: opts.Log,
		tally: newTally(host, store),
	}
	c.tally.also = opts.Also
	return c
}

// try makes the change or refuses it. It holds the config lock, under which no
// operation can be registered.
func (c *modeChange) try(ctx context.Context) error {
	changed, err := c.locked(ctx, func(now cfg.Mode) (string, error) { return c.value, c.permit(now) })
	if err == nil && len(c.bound.Unsure) > 0 {
		c.warn("these entries count by name alone", fmt.Errorf("%s: %w", strings.Join(c.bound.Unsure, ", "), reach.ErrHangs))
	}
	if err == nil && changed {
		c.announce(ctx)
	}
	return err
}

// announce tells PBS that the mode has changed.
func (c *modeChange) announce(ctx context.Context) {
	if !c.host.IsPBS() {
		return
	}
	// The lock is not held here: PBS may need it to answer.
	if err := pbs.TellProxy(ctx, c.host, c.store); err != nil {
		c.warn("PBS was not told of the new maintenance mode", err)
	}
}

func (c *modeChange) warn(what string, err error) {
	log := c.log
	if log == nil {
		log = slog.Default()
	}
	log.Warn(what, "datastore", c.store, "error", err)
}

// locked changes the mode, under the config lock, to the value that decide returns.
func (c *modeChange) locked(ctx context.Context, decide func(now cfg.Mode) (value string, err error)) (changed bool, err error) {
	if len(c.host.Configs()) == 0 {
		return false, hosts.ErrZero
	}
	for tries := 1; ; tries++ {
		if _, err := c.tally.names(ctx); err != nil {
			return false, err
		}
		changed, err = c.lockedOnce(ctx, tries >= enoughTries, decide)
		if !errors.Is(err, modes.ErrUnseen) || ctx.Err() != nil {
			return changed, err
		}
	}
}

// lockedOnce is one attempt. Under the lock it reads each file once, and looks only at
// those files, the operations files and /proc.
func (c *modeChange) lockedOnce(ctx context.Context, anyhow bool, decide func(now cfg.Mode) (value string, err error)) (changed bool, err error) {
	if c.host.Configs()[0].Shared {
		if _, err := c.entry(c.tally.modes.LastRead()); err != nil {
			return false, err
		}
	}
	lock, err := hosts.LockOwnConfig(ctx, c.host)
	if err != nil {
		return false, fmt.Errorf("change the maintenance mode of datastore %s: %w", c.store, err)
	}
	defer lock.Unlock()
	bound, path, err := c.tally.modes.Fresh(anyhow)
	if err != nil && path != "" {
		err = fmt.Errorf("read %s: %w", path, err)
	}
	if err != nil {
		return false, err
	}
	c.bound = bound
	file, err := c.entry(c.tally.modes.LastRead())
	if err != nil {
		return false, err
	}
	if c.based != (cfg.Digest{}) && c.based != file.Digest() {
		return false, ErrOutdated
	}
	value, err := decide(file.Mode(c.store))
	if err != nil {
		return false, err
	}
	out, err := file.SetMode(c.store, value)
	if err != nil || bytes.Equal(out, file.Bytes()) {
		return false, err
	}
	if err := writeConfig(c.host, out); err != nil {
		return false, fmt.Errorf("write %s: %w", c.host.Configs()[0].File(), err)
	}
	if err := pbs.BumpGeneration(c.host); err != nil {
		c.warn("PBS may trust its old configuration for a minute", err)
	}
	return true, nil
}

// entry makes sure that a file which we may change lists the datastore, and returns
// that file.
func (c *modeChange) entry(files []modes.Reading) (*cfg.Config, error) {
	for i, f := range files {
		if s, err := f.Config.Find(c.store); s == nil && err == nil {
			continue
		}
		if place := c.host.Configs()[i]; i > 0 || place.Shared {
			return nil, fmt.Errorf("datastore %s is configured in %s, which is not ours to change: %w", c.store, place.File(), os.ErrPermission)
		}
		return f.Config, nil
	}
	return nil, fmt.Errorf("datastore %s: %w", c.store, cfg.ErrNotConfigured)
}

// permit decides whether the present mode may be replaced.
func (c *modeChange) permit(now cfg.Mode) error {
	standing := now.Type
	if standing == cfg.Unknown {
		standing = now.Stated
	}
	forced := c.force && c.mode == cfg.None && now.Type == cfg.Unmount
	settable := now.Type == cfg.None || standing.Settable()
	if !settable && !forced {
		return now.Refusal(c.store)
	}
	if c.drain {
		return nil
	}
	err := c.unlessActive(c.mode)
	var conflict *ConflictError
	if errors.As(err, &conflict) { // also if the mode stands: a caller that sets it wants these operations to end
		conflict.Set = now.Type == c.mode
	}
	return err
}

// unlessActive refuses a mode while operations that it forbids are active under any
// name of the datastore. The caller holds the config lock.
func (c *modeChange) unlessActive(mode cfg.ModeType) error {
	procs, err := c.tally.conflictingUnder(namesOf(c.bound, c.store).and(c.tally.also), mode)
	if err == nil && len(procs) > 0 {
		return &ConflictError{Store: c.store, Type: mode, Processes: procs}
	}
	return err
}

// ErrTakenBack says that a mode no longer stands, because another command has changed
// it.
var ErrTakenBack = errors.New("the maintenance mode was taken back")

// WaitIdle waits, while a mode stands, until no operation is active any more that the
// mode forbids. If progress is not nil, it is called whenever the list of processes
// changes. If ctx ends first, the error is a [*ConflictError] that names the remaining
// processes. If the mode no longer stands, so that other operations may begin, the
// error matches [ErrTakenBack]. also lists further names under which the datastore may
// still be counted.
func WaitIdle(ctx context.Context, host hosts.Host, store string, mode cfg.ModeType, progress func([]ProcessCount), also ...string) error {
	tick := time.NewTicker(conflictPoll)
	defer tick.Stop()
	counted := newTally(host, store)
	counted.also = also
	var last string
	for {
		procs, err := counted.conflicting(ctx, mode)
		if err == nil {
			err = counted.stillStands(ctx, mode)
		}
		if err != nil || len(procs) == 0 {
			return err
		}
		if now := fmt.Sprint(procs); progress != nil && now != last {
			progress(procs)
			last = now
		}
		select {
		case <-ctx.Done():
			return &ConflictError{Store: store, Type: mode, Processes: procs, Set: true, Err: context.Cause(ctx)}
		case <-tick.C:
		}
	}
}

// stillStands returns an error if the mode that was set has been changed.
func (t *tally) stillStands(ctx context.Context, mode cfg.ModeType) error {
	b, file, err := t.modes.Current(ctx)
	store, now := t.store, b.Stated
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", file, err)
	case now.Type == cfg.None:
		return fmt.Errorf("datastore %s: %w: it was set %s, and now has none", store, ErrTakenBack, mode)
	case now.Type != mode:
		return fmt.Errorf("datastore %s: %w: it was set %s, and now is %s", store, ErrTakenBack, mode, now.Type)
	}
	return nil
}
