package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unmount"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
)

const unmountHelp = `Unmount a tree: the one at MOUNTPOINT, or all those of DATASTORE.

It is refused (exit 3), with a list of what is in the way, while files are open in
the mount, a process has its working directory there, or something would go on
using the tree: an overlay, or a copy of the mount in another namespace. All
trees are looked at, for as long as --wait, before the first is unmounted. A
mount that another program has made upon the tree stays. The command returns when
the process that served the mount has ended. If the tree is mounted in another
place too, by mount --bind, the process goes on, and the command says so.

For a removable datastore, DATASTORE is its device as well. It is refused (exit 3)
while any process, pbsfs or the Proxmox Backup Server, has operations active, or
something keeps the device or a tree busy; then nothing has changed. During the
unmount the maintenance mode is unmount; if the command is killed, the next one
takes that mode back. A mode that the server has set is left alone (exit 4).

A mount whose serving process is gone is taken away even if it is in use. A mount
whose process does not answer is left as it is (exit 1).

--force takes the mount away while it is in use, lazily: open files stay readable,
and the serving process stays until the last of them is closed. If the serving
process does not answer, programs that wait for it get an error. A mount inside a
tree is in the way. If no process serves the tree any more, that mount cannot be
reached, and --force takes it away with the tree.`

// defaultWait is how long commands wait for processes that are in the way: it takes a
// moment until a file that was just closed is known to be closed.
const defaultWait = 2 * time.Second

func newUnmountCommand(a *app) *cobra.Command {
	var o unmount.Options
	cmd := &cobra.Command{
		Use:               "unmount MOUNTPOINT|DATASTORE",
		Aliases:           []string{"umount"},
		Short:             "unmount a tree",
		Long:              unmountHelp,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeMountpoint(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Wait < 0 {
				return usage.Errorf("--wait %s: cannot be negative", o.Wait)
			}
			return a.unmount(cmd.Context(), args[0], o)
		},
	}
	cmd.Flags().DurationVar(&o.Wait, "wait", defaultWait, "how long to wait for who is in the way")
	cmd.Flags().BoolVar(&o.Force, "force", false, "unmount lazily although it is in use")
	return cmd
}

func (a *app) unmount(ctx context.Context, arg string, o unmount.Options) error {
	host, err := a.host()
	if err != nil {
		return err
	}
	o.Stderr, o.Allow = a.stderr, a.moment.allow
	return unmount.Named(ctx, host, arg, o)
}
