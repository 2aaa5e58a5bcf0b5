package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/metrics"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usher"
	"github.com/pbsfs/pbsfs/fs"
)

// mountOptions are the arguments and flags of the mount command.
type mountOptions struct {
	openOptions
	diskCache   diskCacheOptions
	datastore   string // "" if a device is given
	device      string
	path        string // on the device
	pathSet     bool
	rescue      bool
	mountpoint  string // absolute
	lists       []string
	flags       mountFlags
	foreground  bool
	stopTimeout time.Duration
	maxInodes   int
	logTo       string
	style       logStyle
	debug       bool
	auto        bool // mounts what the directory of mounts says
	again       bool // it is no failure if the tree is mounted there already
	fake        bool // only the command line is checked
	metrics     metrics.Address

	hands *usher.Usher // does what this process may not do
}

const mountHelp = `Mount a datastore as one read-only tree.

The command returns when the tree answers. From then on, a process of its own
serves the tree. SIGTERM ends that process: it opens nothing more, waits for open
files (--stop-timeout), and takes the mount away. If files are still open then, it
names them and exits with 1. A second signal ends the wait.

A datastore on a removable device is given by its configured name, or with
--device by the UUID or label of its file system or the path of the device. A
device that is mounted already is used where it is. Any other device is mounted
read-only, without replay of its journal and without changing a byte of it: a
configured one on /mnt/datastore/NAME, until 'pbsfs unmount NAME'; any other one
in the run directory, until its last tree is unmounted. On a host with a Proxmox
Backup Server, the server mounts the devices that it has configured; --rescue
mounts such a device all the same, and keeps the server from mounting it meanwhile.

With --standby, or -o nofail, the tree is mounted even if the datastore is not
plugged in, or is in maintenance: the tree answers "No medium found" or "Host is
down" until the datastore is there. The same command, given once more, mounts the
device under the tree.

With --salvage, or -o salvage, files of archives and disk images can be read although
chunks of them are damaged or missing: they read as zeros there, the log names each such
chunk once with the file and the bytes, and the extended attribute user.pbs.damaged of
the file lists them. What cannot be reached because metadata is damaged stays an error,
and so do the files in NAME.img.d. Without the option nothing is ever made up.

With --auto, the mounts are those that stand in files NAME.conf in the directory
mounts of the configuration (/etc/pbsfs/mounts), with a line AUTO=yes: all of them
whose device is there, or those that lie on DEVICE, if one is named. Lines of such a
file: DATASTORE=, MOUNTPOINT=, OPTIONS= (those of -o), AUTO=yes|no.

Mount options (-o, separated by commas):
  allow_other     let other users use the mount; the kernel checks permissions
  uid=N, gid=N    show everything as belonging to this user, or group
  umask=OCTAL     take these permissions away; hides ACLs, as uid and gid do
  nofail          mount the tree though the datastore is not there, as --standby
  nonempty        mount over a directory that is not empty
  noexec          do not run programs from the mount
Each flag is an option as well, with _ or - in its name: cache_size=1GiB, standby,
keyfile=FILE (and after it password_file=FILE or password_cmd=CMD). A value with
commas is put in double quotes. Those of mount(8) that say what is the case anyway (ro, nosuid, nodev, ...) are
accepted.

The log goes to the journal or to syslog, if there is one, else to a file in the
run directory; with --foreground to the standard error.`

func newMountCommand(a *app) *cobra.Command {
	o := &mountOptions{}
	cmd := &cobra.Command{
		Use:   "mount DATASTORE|--device DEVICE MOUNTPOINT | mount --auto [DEVICE]",
		Short: "mount a datastore as one read-only tree",
		Long:  mountHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.auto {
				return checkAuto(cmd, args)
			}
			if err := o.takeWords(cmd.Flags()); err != nil {
				return err
			}
			return usageArgs(o.count)(cmd, args)
		},
		ValidArgsFunction: a.completeMount(o),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.auto {
				return a.mountAuto(cmd.Context(), args)
			}
			o.pathSet = cmd.Flags().Changed("path")
			if cmd.Flags().Changed("device") && o.device == "" {
				return usage.Errorf("--device: the device's name is empty")
			}
			if err := o.complete(args); err != nil {
				return err
			}
			if o.fake {
				return nil
			}
			return a.startMount(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	o.register(f)
	o.registerSalvage(f)
	o.diskCache.register(f)
	f.StringVar(&o.device, "device", "", "the UUID, label or path in /dev of the device that the datastore lies on")
	_ = cmd.RegisterFlagCompletionFunc("device", completeDevice) // the flag is there
	f.StringVar(&o.path, "path", "", "with --device: the datastore's directory, from the top of the device")
	f.BoolVar(&o.rescue, "rescue", false, "with --device: mount it although it is for the server of this host to mount")
	f.BoolVar(&o.standby, "standby", false, "mount the tree though the datastore is not there, as -o nofail")
	f.StringArrayVarP(&o.lists, "options", "o", nil, "mount options, separated by commas")
	f.BoolVar(&o.flags.allowOther, "allow-other", false, "let other users use the mount, as -o allow_other")
	f.BoolVarP(&o.foreground, "foreground", "f", false, "serve in this process, until it is unmounted or interrupted")
	f.DurationVar(&o.stopTimeout, "stop-timeout", 10*time.Second, "how long SIGTERM waits for open files")
	f.IntVar(&o.maxInodes, "max-inodes", fs.DefaultMaxInodes, "have the kernel forget files before it knows more; 0: never")
	f.StringVar(&o.logTo, "log", "", "where the log goes: journal, syslog or a FILE")
	o.style.register(f)
	registerMetrics(f, &o.metrics)
	f.BoolVar(&o.debug, "debug", false, "log each request of the kernel")
	f.BoolVar(&o.auto, "auto", false, "mount what the directory of mounts says, on one DEVICE or on all that are there")
	f.BoolVar(&o.again, againFlag, false, "")
	f.BoolVar(&o.fake, fakeFlag, false, "")
	for _, internal := range []string{againFlag, fakeFlag} { // the mount helper gives them
		f.Lookup(internal).Hidden = true
	}
	return cmd
}

// startMount opens the keys and starts to serve the mount. Without --foreground a new
// process serves it. With --foreground this process does, but if there are keys or
// passphrases, it starts this program anew first, so that the program that serves never
// had the passphrases.
func (a *app) startMount(ctx context.Context, o *mountOptions) error {
	handed, err := takeSecrets(a.getenv)
	if err != nil {
		return err
	}
	if ready := readyPipe(a.getenv); ready != nil {
		return serveDetached(ctx, a, o, handed, ready)
	}
	if handed != nil {
		return a.serve(ctx, o, handed, a.ready(ctx, o))
	}
	s, err := a.keyring().Open(ctx, o.Options)
	if err != nil {
		return err
	}
	switch {
	case !o.foreground:
		return a.detach(ctx, o, s)
	case !s.Empty(), len(unlock.WithoutPassphrases(os.Environ())) < len(os.Environ()):
		return a.reexec(ctx, s)
	}
	return a.serve(ctx, o, s, a.ready(ctx, o))
}

// takeWords takes the words of -o, some of which are flags.
func (o *mountOptions) takeWords(f *pflag.FlagSet) error {
	allowOther := o.flags.allowOther
	if err := o.flags.parse(o.lists, f); err != nil {
		return err
	}
	o.flags.allowOther = o.flags.allowOther || allowOther
	return nil
}

// count checks how many arguments there are.
func (o *mountOptions) count(cmd *cobra.Command, args []string) error {
	if o.device != "" {
		return cobra.ExactArgs(1)(cmd, args)
	}
	return cobra.ExactArgs(2)(cmd, args)
}

// complete checks what it can check from the command line alone.
func (o *mountOptions) complete(args []string) error {
	if err := o.style.check(); err != nil {
		return err
	}
	if o.stopTimeout < 0 {
		return usage.Errorf("--stop-timeout %s: cannot be negative", o.stopTimeout)
	}
	if o.maxInodes < 0 {
		return usage.Errorf("--max-inodes %d: cannot be negative", o.maxInodes)
	}
	if o.device == "" && (o.pathSet || o.rescue) {
		return usage.Errorf("--path and --rescue say more about --device, which is not given")
	}
	if err := o.metrics.Complete(); err != nil {
		return err
	}
	o.standby = o.standby || o.flags.nofail
	mountpoint := args[len(args)-1]
	if mountpoint == "" {
		return usage.Errorf("the mount point is empty")
	}
	where, err := filepath.Abs(mountpoint)
	if err != nil {
		return err
	}
	o.mountpoint = where
	if o.device == "" {
		o.datastore = args[0]
	}
	return nil
}

// warn prints a warning, which is not a failure.
func (a *app) warn(text string) error {
	_, err := fmt.Fprint(a.stderr, text)
	return err
}
