package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
	"github.com/pbsfs/pbsfs/maint/text"
)

const statusHelp = `Show what goes on with a datastore, or with all that are configured or mounted:
its maintenance mode, where it is mounted, the operations of each process, who
has what open, which snapshots are locked, and the last problems.

--json prints
  [{"datastore","path","mode","message","mounts":[{"mountpoint","pid","since"}],
    "processes":[{"pid","starttime","name","read","write"}],
    "handles":[{"path","pid","name","how","age_s"}],
    "locked_snapshots":[{"snapshot","mountpoint","since"}],
    "problems":[{"time","text"}]}]
mounts have a field "away" where the datastore is not there for them, and a
removable datastore has "device":{"uuid","state","device","mounted_at"}; state is
"not plugged in", "not mounted", "mounted" or "unknown".
mode is null without one, and "via" another entry of the same datastore that has it;
age_s is null where it is not known; since is null for a mount of
which there is no record here. Where it is served all the same, by a process of
another run directory, it has "elsewhere":true, and pid 0 if that cannot be seen.
One that was taken away while it was in use has "taken_away":true. A
mount with "unlisted":true refuses what is new, for its datastore is no longer in
datastore.cfg, and mode is "unlisted". More fields may be added.`

// watchEvery is how often status --watch looks again.
const watchEvery = time.Second

// longOpen is the age from which an open handle is marked.
const longOpen = 24 * time.Hour

func newStatusCommand(a *app) *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status [DATASTORE]",
		Short: "show modes, mounts, operations and open files",
		Long:  statusHelp,
		Args:  usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			if !watch {
				return a.showStatus(cmd.Context(), host, args, asJSON)
			}
			return a.watchStatus(cmd.Context(), host, args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&watch, "watch", false, "look again each second until interrupted")
	return cmd
}

// storeStatus is what is known of one datastore.
type storeStatus struct {
	Datastore string               `json:"datastore"`
	Path      string               `json:"path"`
	Mode      *string              `json:"mode"`
	Message   string               `json:"message"`
	Via       string               `json:"via,omitempty"`
	Mounts    []mountStatus        `json:"mounts"`
	Processes []maint.ProcessCount `json:"processes"`
	Handles   []handleStatus       `json:"handles"`
	Locked    []lockedStatus       `json:"locked_snapshots"`
	Problems  []served.Problem     `json:"problems"`
	Device    *deviceStatus        `json:"device,omitempty"`
}

// mountStatus is a mount. Without a process that answers for it, PID is 0 and
// Since is nil.
type mountStatus struct {
	Mountpoint string     `json:"mountpoint"`
	PID        int        `json:"pid"`
	Since      *time.Time `json:"since"`
	Untracked  bool       `json:"untracked,omitempty"`
	Away       string     `json:"away,omitempty"`
	// Elsewhere says that the process keeps its record in another run
	// directory.
	Elsewhere bool `json:"elsewhere,omitempty"`
	// TakenAway says that it is no longer mounted there, and still in use.
	TakenAway bool `json:"taken_away,omitempty"`
	// Unlisted: the datastore has gone from the configuration.
	Unlisted bool `json:"unlisted,omitempty"`
	// Namespace is that of the PID, where it is not the one that we see.
	Namespace string `json:"pid_namespace,omitempty"`
}

// deviceStatus is the device of a removable datastore.
type deviceStatus struct {
	UUID      string  `json:"uuid"`
	State     string  `json:"state"`
	Device    string  `json:"device"`
	MountedAt *string `json:"mounted_at"`
}

// deviceStatusOf finds out where a datastore's device is.
func deviceStatusOf(d cfg.Datastore) *deviceStatus {
	s := &deviceStatus{UUID: d.BackingDevice, State: "unknown"}
	if m, err := mounts.FindMount(d.Dir()); err == nil { // the device, which may hang, is not asked
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

// text returns the state of a device for people.
func (s deviceStatus) text() string {
	out := fmt.Sprintf("UUID %s, %s", s.UUID, s.State)
	if s.MountedAt != nil {
		out += fmt.Sprintf(" on %q", *s.MountedAt)
	}
	if s.Device != "" {
		out += ", " + s.Device
	}
	return out
}

type handleStatus struct {
	Path string   `json:"path"`
	PID  int      `json:"pid"`
	Name string   `json:"name"`
	How  string   `json:"how"`
	Age  *float64 `json:"age_s"`
}

type lockedStatus struct {
	Snapshot   string    `json:"snapshot"`
	Mountpoint string    `json:"mountpoint"`
	Since      time.Time `json:"since"`
}

func (a *app) watchStatus(ctx context.Context, host hosts.Host, args []string, asJSON bool) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if isTerminal(a.stdout) && !asJSON {
			fmt.Fprint(a.stdout, "\033[H\033[J")
		}
		if err := a.showStatus(ctx, host, args, asJSON); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *app) showStatus(ctx context.Context, host hosts.Host, args []string, asJSON bool) error {
	known, problems, err := served.Trusted(host)
	a.complain(problems)
	if err != nil {
		return err
	}
	targets, err := statusTargets(host, args, known)
	if err != nil {
		return err
	}
	answers := served.AskAll(ctx, slices.DeleteFunc(slices.Clone(known), func(r *served.Record) bool {
		return !slices.ContainsFunc(targets, r.Serves)
	}))
	all := make([]storeStatus, 0, len(targets))
	for _, t := range targets {
		s, err := statusOf(ctx, host, t, known, answers)
		if err != nil && len(args) > 0 {
			return err
		}
		if err != nil { // one datastore's trouble does not hide the others
			s.Problems = append(s.Problems, served.Problem{Time: time.Now(), Text: err.Error()})
		}
		all = append(all, s)
	}
	if asJSON {
		return a.json(all)
	}
	for _, s := range all {
		if _, err := fmt.Fprint(a.out(), s.text()); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(a.stderr, "no datastore is configured or mounted")
	}
	return nil
}

// statusTargets returns the datastore that was named, or all that are
// configured or mounted.
func statusTargets(host hosts.Host, args []string, known []*served.Record) ([]locate.Target, error) {
	if len(args) == 1 {
		t, err := served.Resolve(host, args[0], known)
		return []locate.Target{t}, err
	}
	configured, err := locate.Configured(host)
	if err != nil {
		return nil, err
	}
	modes.Identities(context.Background(), host, configured) // all at once: some may hang
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
	for _, m := range ours { // without a record, perhaps
		if !slices.ContainsFunc(out, func(t locate.Target) bool { return served.Shows(host, t, known, m) }) {
			id := served.SourceOf(host, m)
			out = append(out, locate.Target{Name: modes.UnlistedName(m.Source, id), Path: m.Source, ID: id})
		}
	}
	return out, nil
}

func statusOf(ctx context.Context, host hosts.Host, t locate.Target, known []*served.Record, answers map[*served.Record]served.Answer) (storeStatus, error) {
	s := storeStatus{
		Datastore: t.Name, Path: t.Path, Processes: []maint.ProcessCount{},
		Mounts: []mountStatus{}, Handles: []handleStatus{}, Locked: []lockedStatus{}, Problems: []served.Problem{},
	}
	mode, err := modeOf(host, t.Name)
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
	return s, s.addUnrecorded(ctx, host, t, known)
}

// addMount adds what is known of one mount. A process that does not answer is a
// problem to be shown, not a reason to show nothing.
func (s *storeStatus) addMount(ctx context.Context, r *served.Record, state served.Answer) {
	point := r.Mountpoint
	s.Mounts = append(s.Mounts, mountStatus{
		Mountpoint: point, PID: r.PID, Since: &r.Since, Untracked: r.Untracked, Away: state.Away, Unlisted: state.Unlisted,
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
		s.Locked = append(s.Locked, lockedStatus{l.Snapshot, point, l.Since})
	}
	s.Problems = append(s.Problems, state.Problems...)
}

// text returns the status for people.
func (s storeStatus) text() string {
	var b strings.Builder
	mode := modeJSON{Type: s.Mode, Message: s.Message, Via: s.Via}
	fmt.Fprintf(&b, "%s  %q\n  mode: %s\n", text.Printable(s.Datastore), s.Path, mode.text())
	if s.Device != nil {
		fmt.Fprintf(&b, "  device: %s\n", text.Printable(s.Device.text()))
	}
	for _, m := range s.Mounts {
		note := ""
		if m.Away != "" {
			note = ", NOT THERE: " + text.Printable(oneLine(m.Away))
		}
		if m.Unlisted {
			note += ", UNLISTED: no longer in datastore.cfg"
		}
		if m.Untracked {
			note += ", UNTRACKED: maintenance does not see its operations"
		}
		if m.TakenAway {
			note += ", TAKEN AWAY, and still in use"
		}
		if m.Since == nil {
			fmt.Fprintf(&b, "  mounted: %q, %s\n", m.Mountpoint, m.unrecorded())
			continue
		}
		if m.Namespace != "" {
			note = " (the pid is of another namespace)" + note
		}
		fmt.Fprintf(&b, "  mounted: %q, by process %d since %s%s\n", m.Mountpoint, m.PID, m.Since.Local().Format(time.DateTime), note)
	}
	for _, p := range s.Processes {
		fmt.Fprintf(&b, "  operations: process %d %s: %d read, %d write\n", p.PID, text.Printable(p.Name), p.Read, p.Write)
	}
	for _, h := range s.Handles {
		fmt.Fprintf(&b, "  open: %s\n", h.text())
	}
	for _, l := range s.Locked {
		fmt.Fprintf(&b, "  locked: %s, since %s\n", text.Printable(l.Snapshot), l.Since.Local().Format(time.DateTime))
	}
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "  problem: %s %s\n", p.Time.Local().Format(time.DateTime), text.Printable(oneLine(p.Text)))
	}
	return b.String()
}

// text returns an open handle for people.
func (h handleStatus) text() string {
	name, how := text.Printable(h.Name), text.Printable(h.How)
	who := fmt.Sprintf("process %d %s (%s)", h.PID, name, how)
	if h.PID == 0 {
		who = fmt.Sprintf("%s (%s)", name, how)
	}
	if h.Age == nil {
		return fmt.Sprintf("%q by %s", h.Path, who)
	}
	age := time.Duration(*h.Age * float64(time.Second))
	mark := ""
	if age > longOpen {
		mark = " (more than a day!)"
	}
	return fmt.Sprintf("%q by %s, for %s%s", h.Path, who, age.Round(time.Second), mark)
}
