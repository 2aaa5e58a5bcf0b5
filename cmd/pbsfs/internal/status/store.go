package status

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// Store is what is known of one datastore.
type Store struct {
	Datastore string               `json:"datastore"`
	Path      string               `json:"path"`
	Mode      *string              `json:"mode"`
	Message   string               `json:"message"`
	Via       string               `json:"via,omitempty"`
	Mounts    []Mount              `json:"mounts"`
	Processes []maint.ProcessCount `json:"processes"`
	Handles   []Handle             `json:"handles"`
	Locked    []Locked             `json:"locked_snapshots"`
	Problems  []served.Problem     `json:"problems"`
	Device    *Device              `json:"device,omitempty"`
}

// Mount is a mount. Without a serving process PID is 0 and Since is nil.
type Mount struct {
	Mountpoint string     `json:"mountpoint"`
	PID        int        `json:"pid"`
	Since      *time.Time `json:"since"`
	Untracked  bool       `json:"untracked,omitempty"`
	// Salvage says that damaged data is shown as zeros.
	Salvage bool   `json:"salvage,omitempty"`
	Away    string `json:"away,omitempty"`
	// Elsewhere says that the process keeps its record in another run
	// directory.
	Elsewhere bool `json:"elsewhere,omitempty"`
	// TakenAway says that the tree is no longer mounted there, but still in use.
	TakenAway bool `json:"taken_away,omitempty"`
	// Unlisted says that the datastore was removed from the configuration.
	Unlisted bool `json:"unlisted,omitempty"`
	// Namespace is the namespace of the PID, if it is not the one that we see.
	Namespace string `json:"pid_namespace,omitempty"`
}

// Device is the device of a removable datastore.
type Device struct {
	UUID      string  `json:"uuid"`
	State     string  `json:"state"`
	Device    string  `json:"device"`
	MountedAt *string `json:"mounted_at"`
}

// deviceStatusOf finds out where a datastore's device is.
func deviceStatusOf(d cfg.Datastore) *Device {
	s := &Device{UUID: d.BackingDevice, State: "unknown"}
	if m, err := mounts.FindMount(d.Dir()); err == nil { // the device itself is not asked, because it may hang
		s.Device, s.State, s.MountedAt = m.Source, "mounted", &m.Point
		return s
	}
	dev, err := device.FindDevice("UUID=" + d.BackingDevice)
	switch {
	case errors.Is(err, device.ErrNoDevice):
		s.State = "not plugged in"
	case err == nil:
		s.Device, s.State = dev.Path, "not mounted"
		if m, _, ok := dev.MountOf(d.Path); ok {
			s.State, s.MountedAt = "mounted", &m.Point
		}
	}
	return s
}

// Handle is an open file or directory. Age is how long it has been open, in seconds;
// nil if that is not known.
type Handle struct {
	Path string   `json:"path"`
	PID  int      `json:"pid"`
	Name string   `json:"name"`
	How  string   `json:"how"`
	Age  *float64 `json:"age_s"`
}

// Locked is a snapshot that one of the mounts protects from removal.
type Locked struct {
	Snapshot   string    `json:"snapshot"`
	Mountpoint string    `json:"mountpoint"`
	Since      time.Time `json:"since"`
}

// Targets returns the named datastore, or all that are configured or mounted.
func Targets(host hosts.Host, args []string, known []*served.Record) ([]locate.Target, error) {
	if len(args) == 1 {
		t, err := served.Resolve(host, args[0], known)
		return []locate.Target{t}, err
	}
	configured, err := locate.Configured(host)
	if err != nil {
		return nil, err
	}
	modes.Identities(context.Background(), host, configured) // looks at all of them at once, because some may hang
	var out []locate.Target
	for _, d := range configured {
		out = append(out, locate.TargetOf(host, configured, d))
	}
	for _, r := range known {
		if !slices.ContainsFunc(out, r.Serves) {
			out = append(out, locate.Target{Name: r.Datastore, Path: r.Path, ID: modes.Present(r.Identity)})
		}
	}
	ours, err := mountpoint.Ours()
	if err != nil {
		return nil, err
	}
	for _, m := range ours { // these may have no record
		if !slices.ContainsFunc(out, func(t locate.Target) bool { return served.Shows(host, t, known, m) }) {
			id := served.SourceOf(host, m)
			out = append(out, locate.Target{Name: modes.UnlistedName(m.Source, id), Path: m.Source, ID: id})
		}
	}
	return out, nil
}

// Of returns what is known of datastores. An error about one of them is among its
// problems, and is returned as well.
func Of(ctx context.Context, host hosts.Host, targets []locate.Target, known []*served.Record) ([]Store, error) {
	answers := served.AskAll(ctx, slices.DeleteFunc(slices.Clone(known), func(r *served.Record) bool {
		return !slices.ContainsFunc(targets, r.Serves)
	}))
	all := make([]Store, 0, len(targets))
	var wrong error
	for _, t := range targets {
		s, err := statusOf(ctx, host, t, known, answers)
		if err != nil {
			wrong = errors.Join(wrong, err)
			s.Problems = append(s.Problems, served.Problem{Time: time.Now(), Text: err.Error()})
		}
		all = append(all, s)
	}
	return all, wrong
}

func statusOf(ctx context.Context, host hosts.Host, t locate.Target, known []*served.Record, answers map[*served.Record]served.Answer) (Store, error) {
	s := Store{
		Datastore: t.Name, Path: t.Path, Processes: []maint.ProcessCount{},
		Mounts: []Mount{}, Handles: []Handle{}, Locked: []Locked{}, Problems: []served.Problem{},
	}
	mode, err := ModeOf(host, t.Name)
	if err != nil {
		return s, err
	}
	s.Mode, s.Message, s.Via = mode.Type, mode.Message, mode.Via
	if t.Removable != nil {
		s.Device = deviceStatusOf(*t.Removable)
	}
	also, err := served.FormerNames(host, t)
	if err != nil {
		return s, err
	}
	tally, err := maint.Count(host, t.Name, also...)
	if err != nil {
		return s, err
	}
	s.Processes = append(s.Processes, tally.Processes...)
	for _, err := range tally.Problems {
		s.Problems = append(s.Problems, served.Problem{Time: time.Now(), Text: err.Error()})
	}
	for _, r := range known {
		if r.Serves(t) {
			s.addMount(ctx, r, answers[r])
		}
	}
	reading, problems, err := readersOf(host, t)
	if err != nil {
		return s, err
	}
	s.Handles, s.Problems = append(s.Handles, reading...), append(s.Problems, problems...)
	return s, s.addUnrecorded(ctx, host, t, known)
}

// addMount adds what is known of one mount. If a process does not answer, that is a
// problem to be shown; the rest is shown all the same.
func (s *Store) addMount(ctx context.Context, r *served.Record, state served.Answer) {
	point := r.Mountpoint
	s.Mounts = append(s.Mounts, Mount{
		Mountpoint: point, PID: r.PID, Since: &r.Since, Untracked: r.Untracked, Salvage: r.Salvage, Away: state.Away, Unlisted: state.Unlisted,
		TakenAway: r.TakenAway(),
	})
	if r.Look() == procfs.Unseen {
		s.Mounts[len(s.Mounts)-1].Namespace = r.Namespace
	}
	if state.Unlisted && s.Mode == nil {
		mode := string(cfg.Unlisted)
		s.Mode, s.Message = &mode, "no longer in datastore.cfg, so nothing new is done with it; unmount it, and mount it again"
	}
	if state.Err != nil {
		s.Problems = append(s.Problems, served.Problem{Time: time.Now(), Text: state.Err.Error()})
	}
	holders, err := mounts.Holders(ctx, point)
	if err != nil && !errors.Is(err, mounts.ErrNotMounted) {
		s.Problems = append(s.Problems, served.Problem{Time: time.Now(), Text: err.Error()})
	}
	s.Handles = append(s.Handles, handlesOf(point, state.Handles, holders)...)
	for _, l := range state.Locked {
		s.Locked = append(s.Locked, Locked{l.Snapshot, point, l.Since})
	}
	s.Problems = append(s.Problems, state.Problems...)
}
