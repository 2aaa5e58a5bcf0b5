package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/text"
)

const maintenanceHelp = `Show, set or clear the maintenance mode of a datastore.

In read-only, backups and everything else that writes is refused; in offline,
reading too: nothing below the datastore is opened any more, and its disk can be
unmounted. The mode is PBS's own, in datastore.cfg.`

func newMaintenanceCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "maintenance",
		Short: "show, set or clear the maintenance mode of a datastore",
		Long:  maintenanceHelp,
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usage.Errorf("maintenance: say show, set or clear")
		},
	}
	cmd.AddCommand(newMaintenanceShowCommand(a), newMaintenanceSetCommand(a), newMaintenanceClearCommand(a))
	return cmd
}

// modeText describes a mode for the terminal.
func modeText(m status.Mode) string {
	if m.Type == nil {
		return "none"
	}
	out := *m.Type
	if m.Via != "" {
		out += fmt.Sprintf(" (via %s, which is the same datastore)", m.Via)
	}
	if m.Message != "" {
		out += ": " + m.Message
	}
	return text.Printable(out)
}

// showMode prints the mode of a datastore.
func (a *app) showMode(host hosts.Host, store string, asJSON bool) error {
	m, err := status.ModeOf(host, store)
	if err != nil {
		return err
	}
	if asJSON {
		return a.json(m)
	}
	_, err = fmt.Fprintf(a.out(), "%s\n", modeText(m))
	return err
}

func newMaintenanceShowCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show DATASTORE",
		Short:             "show the maintenance mode",
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeDatastores(1),
		RunE: func(_ *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			t, err := locate.Resolve(host, args[0])
			if err != nil {
				return err
			}
			return a.showMode(host, t.Name, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, `print {"datastore","type","message"}; type is null without a mode; "via" is another entry of the same datastore that has it`)
	return cmd
}

type setOptions struct {
	message string
	wait    time.Duration
	waitSet bool
	drain   bool
	json    bool
}

const maintenanceSetHelp = `Set the maintenance mode of a datastore.

The command waits for --wait while operations are active that the mode would
forbid. Then it is refused (exit 3), with a list of the processes that have them,
and nothing has changed. The same holds if the mode is set already: exit 0 says
that no such operation is active.

With --drain the mode is set first, so that no new operation begins. Then the
command waits for the active operations, without limit unless --wait is given. If
the wait ends early, by --wait or Ctrl-C, the mode stays set (exit 3). If another
command changes the mode meanwhile, so that operations may begin, the command
fails (exit 1).

It is refused (exit 4) while PBS has set delete, unmount or s3-refresh.`

func newMaintenanceSetCommand(a *app) *cobra.Command {
	var o setOptions
	cmd := &cobra.Command{
		Use:               "set DATASTORE read-only|offline",
		Short:             "set the maintenance mode",
		Long:              maintenanceSetHelp,
		Args:              usageArgs(cobra.ExactArgs(2)),
		ValidArgsFunction: a.completeMaintenance,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.waitSet = cmd.Flags().Changed("wait")
			mode := cfg.ModeType(args[1])
			switch {
			case mode != cfg.ReadOnly && mode != cfg.Offline:
				return usage.Errorf("maintenance mode %q cannot be set, only read-only and offline", args[1])
			case o.wait < 0:
				return usage.Errorf("--wait %s: cannot be negative", o.wait)
			}
			return a.setMode(cmd.Context(), args[0], mode, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.message, "message", "", "for who is refused by the mode; 64 characters at most")
	f.DurationVar(&o.wait, "wait", defaultWait, "how long to wait for active operations")
	f.BoolVar(&o.drain, "drain", false, "set the mode first, then wait for active operations")
	f.BoolVar(&o.json, "json", false, `print {"datastore","type","message"}`)
	return cmd
}

// namingMoment bounds the time, after a signal, to name the remaining processes.
const namingMoment = 10 * time.Second

func (a *app) setMode(ctx context.Context, arg string, mode cfg.ModeType, o setOptions) error {
	defer a.moment.allow(namingMoment)()
	host, err := a.host()
	if err != nil {
		return err
	}
	t, err := locate.Resolve(host, arg)
	if err != nil {
		return err
	}
	also, err := served.FormerNames(host, t)
	if err != nil {
		return err
	}
	a.warnOfUsers(host, t.Name)
	err = maint.SetMode(ctx, host, t.Name, mode, maint.SetOptions{Message: o.message, Wait: o.wait, Drain: o.drain, Also: also})
	if errors.Is(err, cfg.ErrNotConfigured) {
		return fmt.Errorf("%s is not in %s; first: pbsfs datastore add NAME %s", arg, host.ConfigFiles()[0], t.Path)
	}
	if err == nil && o.drain {
		err = a.drain(ctx, host, t, mode, o, also)
	}
	if err != nil {
		return status.WithHolders(ctx, err, host, t)
	}
	return a.showSet(host, t, o.json)
}

// showSet reports that a mode was set. Without --json it prints nothing, because the
// mode is what the user asked for.
func (a *app) showSet(host hosts.Host, t locate.Target, asJSON bool) error {
	if !asJSON {
		return nil
	}
	return a.showMode(host, t.Name, true)
}

// drain waits for the operations that a mode, which is already set, forbids. It shows
// what it waits for.
func (a *app) drain(ctx context.Context, host hosts.Host, t locate.Target, mode cfg.ModeType, o setOptions, also []string) error {
	if o.waitSet {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.wait)
		defer cancel()
	}
	return maint.WaitIdle(ctx, host, t.Name, mode, func(procs []maint.ProcessCount) {
		fmt.Fprintf(a.stderr, "%s is set %s; waiting for:\n%s", t.Name, mode, status.ProcessLines(procs))
	}, also...)
}

func newMaintenanceClearCommand(a *app) *cobra.Command {
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "clear DATASTORE",
		Short: "end the maintenance",
		Long: `End the maintenance of a datastore.

It is refused (exit 4) while PBS has set delete, unmount or s3-refresh; --force
clears an unmount that is stuck, and nothing else.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeDatastores(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			t, err := locate.Resolve(host, args[0])
			if err != nil {
				return err
			}
			err = maint.ClearMode(cmd.Context(), host, t.Name, maint.SetOptions{Force: force})
			if errors.Is(err, cfg.ErrNotConfigured) {
				return fmt.Errorf("%s is not in %s, so it has no maintenance mode", args[0], host.ConfigFiles()[0])
			}
			if err != nil {
				return err
			}
			a.warnOfOthers(host, t)
			return a.showSet(host, t, asJSON)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "clear an unmount that is stuck")
	cmd.Flags().BoolVar(&asJSON, "json", false, `print {"datastore","type","message"}`)
	return cmd
}

// warnOfOthers warns that the datastore is still in maintenance because of another
// entry for it.
func (a *app) warnOfOthers(host hosts.Host, t locate.Target) {
	if m, err := status.ModeOf(host, t.Name); err == nil && m.Via != "" {
		fmt.Fprintf(a.stderr, "pbsfs: warning: datastore %s is still %s\n", t.Name, modeText(m))
	}
}

// warnOfUsers warns of counts of other users that are not believed.
func (a *app) warnOfUsers(host hosts.Host, store string) {
	if tally, err := maint.Count(host, store); err == nil {
		a.complain(tally.Problems)
	}
}

func (a *app) complain(problems []error) {
	for _, err := range problems {
		fmt.Fprintf(a.stderr, "pbsfs: warning: %s\n", text.Printable(oneLine(err.Error())))
	}
}
