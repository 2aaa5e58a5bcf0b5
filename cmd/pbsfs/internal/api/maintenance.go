package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unmount"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
)

const (
	// defaultWait is how long a change waits for operations that are about to end: it
	// takes a moment until a file that was just closed is known to be closed.
	defaultWait = 2 * time.Second
	// maxWait bounds how long a caller may want to wait.
	maxWait = time.Minute
)

// aboutMaintenance are the operations on modes, ours and those of PBS that have no entry
// of their own in the configuration.
func aboutMaintenance() []*operation {
	return []*operation{
		answering("POST", "admin/datastore/{store}/unmount", token.Admin, "unmount a removable datastore", unmountStore),
		answering("GET", "pbsfs/status", token.Audit, "tell what 'pbsfs status --json' tells", statusOf),
		answering("GET", "pbsfs/maintenance/{store}", token.Audit, "show the maintenance mode", showMode),
		answering("POST", "pbsfs/maintenance/{store}/set", token.Admin, "set the maintenance mode", setMaintenance),
		answering("POST", "pbsfs/maintenance/{store}/clear", token.Admin, "end the maintenance", clearMaintenance),
	}
}

// setMode sets a mode. A refusal lists the holders.
func (c *call) setMode(name storeName, mode cfg.ModeType, o maint.SetOptions) error {
	t, err := c.Stores.target(name)
	if err != nil {
		return err
	}
	if o.Also, err = served.FormerNames(c.Host, t); err != nil {
		return err
	}
	o.Log = c.Log
	err = standing(maint.SetMode(c.r.Context(), c.Host, t.Name, mode, o))
	c.logChange(t.Name, "set "+string(mode), err)
	return status.WithHolders(c.r.Context(), err, c.Host, t)
}

// clearMode ends the maintenance.
func (c *call) clearMode(name storeName, o maint.SetOptions) error {
	t, err := c.Stores.target(name)
	if err != nil {
		return err
	}
	o.Log = c.Log
	err = standing(maint.ClearMode(c.r.Context(), c.Host, t.Name, o))
	c.logChange(t.Name, "cleared", err)
	return err
}

// errStanding says that the present mode is not ours to change.
var errStanding = errors.New("the mode stays")

// standing tells the refusal of a change from that of a read.
func standing(err error) error {
	var mode *cfg.ModeError
	if errors.As(err, &mode) {
		return fmt.Errorf("%w: %w", errStanding, err)
	}
	return err
}

// logChange logs who has changed a mode.
func (c *call) logChange(datastore, what string, err error) {
	if err == nil {
		c.Log.Info("maintenance mode "+what, "datastore", datastore, "caller", c.by())
	}
}

// ModeNow is a mode, and what is active that it would not let begin any more.
type ModeNow struct {
	status.Mode
	Active []maint.ProcessCount `json:"active"`
	Open   []OpenIn             `json:"open"`
}

// modeNow returns the present mode.
func (c *call) modeNow(name storeName) (ModeNow, error) {
	out := ModeNow{Active: []maint.ProcessCount{}, Open: []OpenIn{}}
	t, err := c.Stores.target(name)
	if err != nil {
		return out, err
	}
	if out.Mode, err = status.ModeOf(c.Host, t.Name); err != nil || out.Type == nil {
		return out, err
	}
	also, err := served.FormerNames(c.Host, t)
	if err != nil {
		return out, err
	}
	at, cancel := context.WithCancel(c.r.Context())
	cancel() // only a look
	err = maint.WaitIdle(at, c.Host, t.Name, cfg.ModeType(*out.Type), nil, also...)
	var active *status.InUse
	switch err = status.WithHolders(c.r.Context(), err, c.Host, t); {
	case errors.As(err, &active):
		h := holdersOf(active)
		out.Active, out.Open = h.Processes, h.Open
		return out, nil
	case errors.Is(err, context.Canceled):
		return out, nil
	}
	return out, err
}

func showMode(c *call, in oneStore) (ModeNow, error) { return c.modeNow(in.Store) }

// setIn are the parameters of setMaintenance.
type setIn struct {
	oneStore
	Mode    cfg.ModeType `param:"mode" doc:"the mode to set"`
	Message string       `param:"message,optional" doc:"for who is refused by the mode; 64 characters at most"`
	Drain   bool         `param:"drain,optional" doc:"set the mode first, then wait for active operations"`
	Wait    seconds      `param:"wait,optional" doc:"how many seconds to wait for active operations; without it 2, with drain 0"`
}

// setMaintenance sets a mode. With drain, the answer lists what is still active when the
// wait is over.
func setMaintenance(c *call, in setIn) (ModeNow, error) {
	wait := time.Duration(in.Wait)
	if !c.has["wait"] && !in.Drain {
		wait = defaultWait
	}
	err := c.setMode(in.Store, in.Mode, maint.SetOptions{Message: in.Message, Drain: in.Drain, Wait: wait})
	if err != nil {
		return ModeNow{}, err
	}
	if in.Drain && wait > 0 {
		if err := c.drain(in, wait); err != nil {
			return ModeNow{}, err
		}
	}
	return c.modeNow(in.Store)
}

// drain waits for active operations. If some are left, that is no error: the mode stands.
func (c *call) drain(in setIn, wait time.Duration) error {
	t, err := c.Stores.target(in.Store)
	if err != nil {
		return err
	}
	also, err := served.FormerNames(c.Host, t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), wait)
	defer cancel()
	err = maint.WaitIdle(ctx, c.Host, t.Name, in.Mode, nil, also...)
	if errors.Is(err, maint.ErrConflict) {
		return nil
	}
	return err
}

// clearIn are the parameters of clearMaintenance.
type clearIn struct {
	oneStore
	Force bool `param:"force,optional" doc:"clear an unmount that is stuck"`
}

func clearMaintenance(c *call, in clearIn) (ModeNow, error) {
	if err := c.clearMode(in.Store, maint.SetOptions{Force: in.Force}); err != nil {
		return ModeNow{}, err
	}
	return c.modeNow(in.Store)
}

// statusIn are the parameters of statusOf.
type statusIn struct {
	Store storeName `param:"store,optional" doc:"only this datastore"`
}

func statusOf(c *call, in statusIn) ([]status.Store, error) {
	all, err := c.Stores.Look(c.r.Context())
	if in.Store == "" {
		return all, nil // an error of one datastore is among its problems
	}
	i := slices.IndexFunc(all, func(s status.Store) bool { return s.Datastore == string(in.Store) })
	if i < 0 {
		return nil, errors.Join(fmt.Errorf("%w '%s'", errNoStore, in.Store), err)
	}
	return all[i : i+1], nil
}

// Look finds out what happens on all datastores.
func (s *Stores) Look(ctx context.Context) ([]status.Store, error) {
	known, err := served.Records(s.host)
	if err != nil {
		return nil, err
	}
	targets, err := status.Targets(s.host, nil, known)
	if err != nil {
		return nil, err
	}
	ours, err := s.Targets()
	if err != nil {
		return nil, err
	}
	for _, t := range ours {
		if !slices.ContainsFunc(targets, func(o locate.Target) bool { return o.Name == t.Name }) {
			targets = append(targets, t)
		}
	}
	return status.Of(ctx, s.host, targets, known)
}

// unmountStore unmounts a removable datastore. The answer has the form of a task of PBS;
// the task has ended by then.
func unmountStore(c *call, in oneStore) (string, error) {
	t, err := c.Stores.target(in.Store)
	if err != nil {
		return "", err
	}
	if t.Removable == nil {
		return "", fmt.Errorf("datastore %s: %w", t.Name, errRemovable)
	}
	began := time.Now()
	err = unmount.Named(c.r.Context(), c.Host, t.Name, unmount.Options{
		Wait: defaultWait, Serving: true, Stderr: io.Discard, Allow: func(time.Duration) func() { return func() {} },
	})
	if err != nil {
		return "", err
	}
	c.Log.Info("unmounted", "datastore", t.Name, "caller", c.by())
	return upid(c, began, "unmount-device", t.Name), nil
}
