package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/watch"
	"github.com/pbsfs/pbsfs/maint/hosts"
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
age_s is null if it is not known; since is null for a mount that has no record
here. If a process of another run directory serves such a mount, the mount has
"elsewhere":true, and pid 0 if the process cannot be seen. A mount that was taken
away while it was in use has "taken_away":true. A mount with "unlisted":true
refuses new operations, because its datastore is no longer in datastore.cfg; mode
is "unlisted" then. More fields may be added.`

// longOpen is the age from which an open handle is marked as old.
const longOpen = 24 * time.Hour

func newStatusCommand(a *app) *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:               "status [DATASTORE]",
		Short:             "show modes, mounts, operations and open files",
		Long:              statusHelp,
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completeDatastores(1),
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
	cmd.Flags().BoolVar(&watch, "watch", false, "look each second until interrupted, and show what has changed")
	return cmd
}

// watchStatus shows the status again whenever something has changed, and on a terminal
// each second, because handles get older.
func (a *app) watchStatus(ctx context.Context, host hosts.Host, args []string, asJSON bool) error {
	sub := watch.NewSource(func(ctx context.Context) ([]status.Store, error) { return a.look(ctx, host, args) }).Subscribe()
	defer sub.Close()
	redraw := isTerminal(a.stdout) && !asJSON
	for first := true; ; first = false {
		select {
		case v := <-sub.Views():
			if v.Err != nil && len(args) > 0 {
				return v.Err
			}
			if !redraw && !first && len(v.Changed) == 0 && len(v.Gone) == 0 {
				continue
			}
			if redraw {
				fmt.Fprint(a.stdout, "\033[H\033[J")
			}
			if err := a.printStatus(v.All, asJSON); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *app) showStatus(ctx context.Context, host hosts.Host, args []string, asJSON bool) error {
	all, err := a.look(ctx, host, args)
	if err != nil && (len(args) > 0 || all == nil) { // in a list of all, an error of one datastore does not hide the others
		return err
	}
	return a.printStatus(all, asJSON)
}

// look finds out what goes on with the named datastore, or with all.
func (a *app) look(ctx context.Context, host hosts.Host, args []string) ([]status.Store, error) {
	known, problems, err := served.Trusted(host)
	a.complain(problems)
	if err != nil {
		return nil, err
	}
	targets, err := status.Targets(host, args, known)
	if err != nil {
		return nil, err
	}
	return status.Of(ctx, host, targets, known)
}

// printStatus prints what goes on with datastores.
func (a *app) printStatus(all []status.Store, asJSON bool) error {
	if asJSON {
		return a.json(all)
	}
	for _, s := range all {
		if _, err := fmt.Fprint(a.out(), statusText(s)); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(a.stderr, "no datastore is configured or mounted")
	}
	return nil
}

// statusText returns the status of a datastore as text.
func statusText(s status.Store) string {
	var b strings.Builder
	mode := status.Mode{Type: s.Mode, Message: s.Message, Via: s.Via}
	fmt.Fprintf(&b, "%s  %s\n  mode: %s\n", text.Printable(s.Datastore), text.Path(s.Path), modeText(mode))
	if s.Device != nil {
		fmt.Fprintf(&b, "  device: %s\n", text.Printable(deviceText(*s.Device)))
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
		if m.Salvage {
			note += ", SALVAGE: damaged data is zeros"
		}
		if m.TakenAway {
			note += ", TAKEN AWAY, and still in use"
		}
		if m.Since == nil {
			fmt.Fprintf(&b, "  mounted: %s, %s\n", text.Path(m.Mountpoint), unrecordedText(m))
			continue
		}
		if m.Namespace != "" {
			note = " (the pid is of another namespace)" + note
		}
		fmt.Fprintf(&b, "  mounted: %s, by process %d since %s%s\n", text.Path(m.Mountpoint), m.PID, m.Since.Local().Format(time.DateTime), note)
	}
	for _, p := range s.Processes {
		fmt.Fprintf(&b, "  operations: process %d %s: %d read, %d write\n", p.PID, text.Printable(p.Name), p.Read, p.Write)
	}
	for _, h := range s.Handles {
		fmt.Fprintf(&b, "  open: %s\n", handleText(h))
	}
	for _, l := range s.Locked {
		fmt.Fprintf(&b, "  locked: %s, since %s\n", text.Printable(l.Snapshot), l.Since.Local().Format(time.DateTime))
	}
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "  problem: %s %s\n", p.Time.Local().Format(time.DateTime), text.Printable(oneLine(p.Text)))
	}
	return b.String()
}

// deviceText returns the state of a device as text.
func deviceText(s status.Device) string {
	out := fmt.Sprintf("UUID %s, %s", s.UUID, s.State)
	if s.MountedAt != nil {
		out += " on " + text.Path(*s.MountedAt)
	}
	if s.Device != "" {
		out += ", " + s.Device
	}
	return out
}

// handleText returns an open handle as text.
func handleText(h status.Handle) string {
	name, how := text.Printable(h.Name), text.Printable(h.How)
	who := fmt.Sprintf("process %d %s (%s)", h.PID, name, how)
	if h.PID == 0 {
		who = fmt.Sprintf("%s (%s)", name, how)
	}
	if h.Age == nil {
		return fmt.Sprintf("%s by %s", text.Path(h.Path), who)
	}
	age := time.Duration(*h.Age * float64(time.Second))
	mark := ""
	if age > longOpen {
		mark = " (more than a day!)"
	}
	return fmt.Sprintf("%s by %s, for %s%s", text.Path(h.Path), who, age.Round(time.Second), mark)
}

// unrecordedText says who serves a mount that has no record here.
func unrecordedText(m status.Mount) string {
	switch {
	case !m.Elsewhere:
		return "by no process any more"
	case m.PID == 0:
		return "served from elsewhere, by a process of another run directory"
	}
	return fmt.Sprintf("served from elsewhere, by process %d of another run directory", m.PID)
}
