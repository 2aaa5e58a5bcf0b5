package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/fault"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
)

// mountOptions are what the mount command was told.
type mountOptions struct {
	openOptions
	diskCache   diskCacheOptions
	datastore   string // "" with a device
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
	debug       bool
}

const mountHelp = `Mount a datastore as one read-only tree.

The command returns when the tree answers, and a process of its own serves it
from then on. SIGTERM ends that process: nothing more is opened, open files are
waited for (--stop-timeout), then the mount is taken away. It exits with 1 and
says what was cut off if files were still open; a second signal does not wait.

A datastore on a removable device is named by its name, if it is configured with
one, or with --device by the UUID or label of its file system, or by the path of
the device. A device that is mounted is used where it is. Any other one is
mounted read-only, without replay of its journal and without a byte of it being
changed: a configured one on /mnt/datastore/NAME, where 'pbsfs unmount NAME'
unmounts it; another one in the run directory, until its last tree is unmounted.
On a host with a Proxmox Backup Server, the server mounts what it configures;
--rescue does it all the same, and keeps the server from doing so meanwhile.

With --standby, or -o nofail, the tree is mounted though the datastore is not
plugged in, or is in maintenance: it answers "No medium found" or "Host is down"
until it is there. The same command once more mounts the device under the tree.

Mount options (-o, separated by commas):
  allow_other     let other users use the mount; the kernel checks permissions
  uid=N, gid=N    show everything as belonging to this user, or group
  umask=OCTAL     take these permissions away; hides ACLs, as uid and gid do
  nofail          mount the tree though the datastore is not there, as --standby
  nonempty        mount over a directory that is not empty
  noexec          do not run programs from the mount
Those of mount(8) that say what is the case anyway (ro, nosuid, nodev, ...) are
accepted.

The log goes to the journal or to syslog, if there is one, else to a file in the
run directory; with --foreground to the standard error.`

func newMountCommand(a *app) *cobra.Command {
	o := &mountOptions{}
	cmd := &cobra.Command{
		Use:   "mount DATASTORE|--device DEVICE MOUNTPOINT",
		Short: "mount a datastore as one read-only tree",
		Long:  mountHelp,
		Args: usageArgs(func(cmd *cobra.Command, args []string) error {
			if o.device != "" {
				return cobra.ExactArgs(1)(cmd, args)
			}
			return cobra.ExactArgs(2)(cmd, args)
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.pathSet = cmd.Flags().Changed("path")
			if cmd.Flags().Changed("device") && o.device == "" {
				return usage.Errorf("--device: the device's name is empty")
			}
			if err := o.complete(args); err != nil {
				return err
			}
			return a.startMount(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	o.register(f)
	o.diskCache.register(f)
	f.StringVar(&o.device, "device", "", "the UUID, label or path in /dev of the device that the datastore lies on")
	f.StringVar(&o.path, "path", "", "with --device: the datastore's directory, from the top of the device")
	f.BoolVar(&o.rescue, "rescue", false, "with --device: mount it although it is for the server of this host to mount")
	f.BoolVar(&o.standby, "standby", false, "mount the tree though the datastore is not there, as -o nofail")
	f.StringArrayVarP(&o.lists, "options", "o", nil, "mount options, separated by commas")
	f.BoolVar(&o.flags.allowOther, "allow-other", false, "let other users use the mount, as -o allow_other")
	f.BoolVarP(&o.foreground, "foreground", "f", false, "serve in this process, until it is unmounted or interrupted")
	f.DurationVar(&o.stopTimeout, "stop-timeout", 10*time.Second, "how long SIGTERM waits for open files")
	f.IntVar(&o.maxInodes, "max-inodes", fs.DefaultMaxInodes, "have the kernel forget files before it knows more; 0: never")
	f.StringVar(&o.logTo, "log", "", "where the log goes: journal, syslog or a FILE")
	f.BoolVar(&o.debug, "debug", false, "log each request of the kernel")
	return cmd
}

// startMount opens the keys and starts what serves the mount: this process, or
// with keys or passphrases or without --foreground this program anew, which
// never had the passphrases.
func (a *app) startMount(ctx context.Context, o *mountOptions) error {
	handed, err := takeSecrets(a.getenv)
	if err != nil {
		return err
	}
	if ready := readyPipe(a.getenv); ready != nil {
		return serveDetached(ctx, a, o, handed, ready)
	}
	if handed != nil {
		return a.serve(ctx, o, handed, a.warn)
	}
	s, err := a.keyring().Open(ctx, o.Options)
	if err != nil {
		return err
	}
	switch {
	case !o.foreground:
		return a.detach(ctx, o, s)
	case !s.Empty(), len(unlock.WithoutPassphrases(os.Environ())) < len(os.Environ()):
		return reexec(s)
	}
	return a.serve(ctx, o, s, a.warn)
}

// complete checks what can be checked on the command line alone.
func (o *mountOptions) complete(args []string) error {
	allowOther := o.flags.allowOther
	if err := o.flags.parse(o.lists); err != nil {
		return err
	}
	o.flags.allowOther = o.flags.allowOther || allowOther
	if o.stopTimeout < 0 {
		return usage.Errorf("--stop-timeout %s: cannot be negative", o.stopTimeout)
	}
	if o.maxInodes < 0 {
		return usage.Errorf("--max-inodes %d: cannot be negative", o.maxInodes)
	}
	if o.device == "" && (o.pathSet || o.rescue) {
		return usage.Errorf("--path and --rescue say more about --device, which is not given")
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

// serve mounts and serves until the mount ends. ready is called when the tree
// answers.
func (a *app) serve(ctx context.Context, o *mountOptions, s *unlock.Secrets, ready func(warning string) error) error {
	if !s.Empty() {
		if err := unlock.GuardMemory(); err != nil {
			return err
		}
	}
	host, err := a.host()
	if err != nil {
		return err
	}
	t, err := locate.Attach(ctx, host, o.request())
	if err != nil {
		return err
	}
	if there, err := under(ctx, host, t, o); there || err != nil {
		if err == nil {
			return ready("")
		}
		return errors.Join(err, t.End(false))
	}
	if err := a.serveTree(ctx, host, t, o, s, ready); err != nil {
		return errors.Join(err, t.End(false))
	}
	return nil
}

// under reports whether the tree is mounted already, and waited for the device
// that was mounted now.
func under(ctx context.Context, host hosts.Host, at *locate.Attached, o *mountOptions) (bool, error) {
	if !at.TookDevice() {
		return false, nil
	}
	trees, err := mountpoint.TreesAt(ctx, o.mountpoint)
	if err != nil || len(trees) == 0 || trees[0].Source != at.Path {
		return false, err
	}
	if !at.Shared() {
		return true, nil
	}
	known, err := served.Records(host)
	if err != nil {
		return false, err
	}
	r := served.Find(known, trees[0])
	if r == nil {
		return false, nil
	}
	return true, at.PassTo(r.ProcessMark)
}

// request is what is to be mounted.
func (o *mountOptions) request() locate.Request {
	return locate.Request{Datastore: o.datastore, Device: o.device, Path: o.path, PathSet: o.pathSet, Rescue: o.rescue, Standby: o.standby}
}

// serveTree mounts the tree of a datastore whose device is mounted, and serves
// it.
func (a *app) serveTree(ctx context.Context, host hosts.Host, t *locate.Attached, o *mountOptions, s *unlock.Secrets, ready func(warning string) error) error {
	if err := mountpoint.Check(ctx, o.mountpoint, t.Path, o.flags.nonempty); err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(o.mountpoint); err == nil {
		o.mountpoint = real // as the mount table has it
	}
	if err := checkFUSE(o.flags.allowOther); err != nil {
		return err
	}
	log, closeLog, err := a.openLog(o, host)
	if err != nil {
		return err
	}
	defer closeLog()
	o.metadataDir, o.cacheEncrypted = o.diskCache.dir(a.getenv, os.Geteuid()), o.diskCache.encrypted
	ref, err := openTarget(ctx, host, t.Target, o.openOptions, s, log)
	if err != nil {
		return err
	}
	serveWhileDecoding()
	boundHeap(o.maxInodes)
	log = log.With("datastore", ref.Name(), "mountpoint", o.mountpoint)
	defer a.moment.allow(0)() // signals end the mount, which takes what it takes
	m, err := o.mountTree(ctx, ref, t.Path, log)
	if err != nil {
		_ = ref.Close()
		return err
	}
	fault.At("tree mounted")
	warning := t.Warning
	tell := func(text string, err error) {
		if err != nil {
			log.Warn(text, "error", err)
			warning += fmt.Sprintf("pbsfs: warning: %s: %v\n", text, err)
		}
	}
	record, err := served.Leave(host, ref, m.At())
	tell("other commands will not find this mount", err)
	defer record.Remove()
	answers, err := served.Listen(record, m, ref, log)
	tell("'pbsfs status' will not see what is open here", err)
	defer answers.Close()
	if ref.Untracked() {
		warning += "pbsfs: warning: untracked: maintenance and unmounting of the datastore's disk do not see what is read here\n"
	}
	stop := stopSignals()
	if ctx.Err() != nil && len(stop) == 0 {
		stop <- syscall.SIGTERM // which came before
	}
	if err := ready(warning + unfitKeys(ctx, ref, s, log)); err != nil {
		log.Warn("the process that asked for the mount has gone", "error", err)
	}
	log.Info("mounted", "path", ref.Path(), "version", version())
	err = a.wait(m, ref, o, stop, log)
	if err := t.End(true); err != nil { // there is nobody else to be told any more
		log.Warn("the device stays mounted", "error", err)
	}
	return err
}

// serveWhileDecoding has Go run more threads than there are processors. Chunks
// are decoded on all of those, in loops that Go cannot interrupt: requests that
// memory answers would wait for them. The kernel shares a processor between
// threads at once.
func serveWhileDecoding() { runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0)) }

// mountTree mounts the tree, while no other command mounts on the same directory.
func (o *mountOptions) mountTree(ctx context.Context, ref *store.Lookup, path string, log *slog.Logger) (*fs.Mount, error) {
	lock, err := mountpoint.Acquire(ctx, o.mountpoint)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if err := mountpoint.Check(ctx, o.mountpoint, path, o.flags.nonempty); err != nil {
		return nil, err
	}
	return fs.New(ref, o.mountpoint, fs.Options{
		AllowOther: o.flags.allowOther, UID: o.flags.uid, GID: o.flags.gid, Umask: o.flags.umask,
		Extra: o.flags.kernel, MaxInodes: o.maxInodes, Log: log, Debug: o.debug,
	})
}

const (
	// heapBytes is above what Go's heap needs besides the objects that the kernel
	// knows: a limit that is reached has Go collect without end, also when idle.
	// Blocks of chunks lie elsewhere; the program itself takes the rest of 100 MiB.
	heapBytes = 88 << 20
	// heapGrowth is by how much the heap may grow before it is collected, in
	// percent of what is in use.
	heapGrowth = 100
)

// boundHeap has memory collected before there is more of it than is promised.
func boundHeap(maxInodes int) {
	debug.SetGCPercent(heapGrowth)
	if maxInodes > 0 {
		debug.SetMemoryLimit(heapBytes + int64(maxInodes)<<10)
	}
}

// unfitKeys returns a warning of keys that fit nothing.
func unfitKeys(ctx context.Context, ref *store.Lookup, s *unlock.Secrets, log *slog.Logger) string {
	list, _, err := s.Open()
	if err != nil || ref.Away() != nil { // then nobody knows
		return ""
	}
	left, err := unlock.Unfit(ctx, ref, list)
	if err != nil {
		log.Warn("looking for what the keys fit", "error", err)
	}
	return unlock.UnfitWarning(left)
}

// warn tells people of what is no failure.
func (a *app) warn(text string) error {
	_, err := fmt.Fprint(a.stderr, text)
	return err
}

// stopSignals returns a channel that gets the signals that end a mount. The
// first one no longer ends the process by itself.
func stopSignals() chan os.Signal {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	return stop
}

// wait returns when the mount has ended, by itself or by a signal.
func (a *app) wait(m *fs.Mount, ref *store.Lookup, o *mountOptions, stop chan os.Signal, log *slog.Logger) error {
	var cut []fs.Handle
	select {
	case <-m.Ended():
	case s := <-stop:
		log.Info("ending", "signal", s.String(), "open", len(m.Handles()))
		ctx, cancel := context.WithTimeout(context.Background(), o.stopTimeout)
		defer cancel()
		go func() { // a second signal does not wait
			select {
			case <-stop:
				cancel()
			case <-ctx.Done():
			}
		}()
		var err error
		if cut, err = m.Stop(ctx); err != nil {
			return err
		}
	}
	if len(cut) > 0 {
		return cutOff(cut, log)
	}
	log.Info("unmounted")
	return ref.Close()
}

// cutOff says which handles were open when the mount was taken away.
func cutOff(cut []fs.Handle, log *slog.Logger) error {
	text := fmt.Sprintf("unmounted while %d files or directories were open; cut off:", len(cut))
	for _, h := range cut {
		log.Warn("cut off", "path", h.Path, "opened_by", h.Opener.PID, "name", h.Opener.Name)
		text += fmt.Sprintf("\n  /%s, opened by process %d (%s)", h.Path, h.Opener.PID, h.Opener.Name)
	}
	return &exitError{code: exitFailed, text: text}
}
