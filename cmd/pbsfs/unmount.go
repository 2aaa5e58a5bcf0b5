package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unmount"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
)

const unmountHelp = `Unmount a tree: the one at MOUNTPOINT, or all those of DATASTORE.

It is refused (exit 3), with a list of who is in the way, while files are open in
the mount, a process has its working directory there, or something would go on
using the tree: an overlay, or a copy of the mount in another namespace. All
trees are looked at, for as long as --wait, before the first is unmounted. What
somebody else has mounted upon the tree stays. The command returns when the
process that served the mount has ended; where the tree is mounted in another
place too, by mount --bind, the process goes on, and the command says so.

For a removable datastore, DATASTORE is its device as well. It is refused (exit 3)
while any process, pbsfs or the Proxmox Backup Server, has operations active, or
something keeps the device or a tree busy; then nothing has changed. Meanwhile the
maintenance mode is unmount; should the command be killed, the next one takes that
back. A mode that the server has set is left alone (exit 4).

A mount whose serving process is gone is taken away whoever uses it. One whose
process does not answer is left as it is (exit 1).

--force takes the mount away from under those who use it, lazily: what is open
stays readable for them, and the serving process stays until the last of them
has closed it. Where the process does not answer, who waits for it gets an error.
What is mounted inside of a tree is in the way; where nobody serves the tree any more
that cannot be reached, and --force takes it with the tree.`

// defaultWait is how long commands wait for processes that are in the way: it takes a
// moment until a file that was just closed is known to be closed.
const defaultWait = 2 * time.Second

func newUnmountCommand(a *app) *cobra.Command {
	var o unmount.Options
	cmd := &cobra.Command{
		Use:     "unmount MOUNTPOINT|DATASTORE",
		Aliases: []string{"umount"},
		Short:   "unmount a tree",
		Long:    unmountHelp,
		Args:    usageArgs(cobra.ExactArgs(1)),
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
