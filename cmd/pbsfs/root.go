package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/confine"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint/hosts"
)

// app is the environment of the commands.
type app struct {
	// args are the arguments with which the program runs anew in another process.
	args   []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string

	// confine gives up the rest of this process's rights; nil in a process that has other
	// work to do afterwards.
	confine func(confine.Capabilities, confine.Calls) error

	// configDir and runDir are the values of the flags.
	configDir, runDir string

	// moment is how long the command may go on after a signal.
	moment moment
}

const rootHelp = `pbsfs shows a Proxmox Backup Server datastore as one read-only tree of files:

  MOUNTPOINT/host/NAME/TIME/root.pxar/      files of a host or container
  MOUNTPOINT/vm/ID/TIME/drive-scsi0.img     disk image of a virtual machine
  MOUNTPOINT/vm/ID/TIME/drive-scsi0.img.d/  files on that disk
  MOUNTPOINT/vm/ID/latest                   link to the newest snapshot
  MOUNTPOINT/ns/NAME/...                    namespaces, the same again

DATASTORE is the name of a datastore in datastore.cfg, or the path of a
directory that has .chunks (an argument with a slash is a path), or
s3://BUCKET/STORE. One on a removable disk that has no name is mounted by its
device (mount --device). PATH is the path below the mount point.

Exit codes:
  0  done
  1  failed, or not everything could be done: what is missing is told
  2  the command line is wrong
  3  refused: operations are active
  4  refused by the maintenance mode, or the datastore is not there
  5  damaged data found
  6  a key is missing or wrong`

func newRootCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:           "pbsfs",
		Short:         "show a Proxmox Backup Server datastore as a tree of files",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage.Errorf("no command given; see 'pbsfs --help'")
		},
	}
	cmd.SetIn(a.stdin)
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage.New(err) })
	cmd.PersistentFlags().StringVar(&a.configDir, "config-dir", "", "directory of datastore.cfg (environment: PBSFS_CONFIG_DIR)")
	cmd.PersistentFlags().StringVar(&a.runDir, "run-dir", "", "directory of operations, locks and mount records; beside a server of mount records alone (environment: PBSFS_RUN_DIR)")
	cmd.AddCommand(
		newMountCommand(a),
		newUnmountCommand(a),
		newStatusCommand(a),
		newMaintenanceCommand(a),
		newDatastoreCommand(a),
		newDeviceCommand(a),
		newKeyCommand(a),
		newSnapshotCommand(a),
		newLsCommand(a),
		newCatCommand(a),
		newRestoreCommand(a),
		newFindCommand(a),
		newHistoryCommand(a),
		newDiffCommand(a),
		newVerifyCommand(a),
		newUsageCommand(a),
		newServeCommand(a),
		newDemoCommand(a),
		newVersionCommand(a),
		newAnswersCommand(),
		newUsherCommand(a),
		newCompletionCommand(a),
		newManCommand(a),
	)
	completeFlags(cmd)
	return cmd
}

// host returns where this host keeps its state.
func (a *app) host() (hosts.Host, error) {
	return hosts.NewHost(hosts.HostOptions{
		ConfigDir: a.configDir, RunDir: a.runDir, Getenv: a.getenv, UID: os.Geteuid(),
	})
}

// usageArgs turns a wrong number of arguments into a usage error of one line.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err != nil && !cmd.HasParent() {
			return usage.New(err) // a command that does not exist has no usage
		}
		if err != nil {
			return usage.Errorf("%s: %w; usage: %s", cmd.Name(), err, cmd.UseLine())
		}
		return nil
	}
}

// keyring returns the keyring with which this command opens keys.
func (a *app) keyring() *unlock.Keyring {
	k := &unlock.Keyring{Stdin: a.stdin, Stderr: a.stderr, Getenv: a.getenv}
	// The command itself reports an error of the host.
	if host, err := a.host(); err == nil && host.UID() == 0 {
		k.ServerKeys = filepath.Join(host.ConfigDir(), "encryption-keys")
	}
	return k
}
