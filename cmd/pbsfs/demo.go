package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/maint/reach"
)

const demoHelp = `Show in a minute what pbsfs does, with real commands and their real output.

A small datastore is made in DIR (default: pbsfs-demo-UID in the directory for
temporary files) and mounted in DIR/mnt: two snapshots of a directory, one in a
namespace that is encrypted, and a disk image with a partition. Configuration,
operations, mount records and cache are in DIR, too; nothing else of this host
is touched, and no root is needed.

The mount stays, so that you can look at it. --clean removes the demo in DIR. If
there is none, it shows a demo and removes it at the end.

DIR must be empty or not exist, or hold an earlier demo, which is made anew.
mkfs.ext4 (package e2fsprogs) must be installed.`

func newDemoCommand(a *app) *cobra.Command {
	var clean bool
	cmd := &cobra.Command{
		Use:   "demo [DIR]",
		Short: "make a small datastore, mount it, and show what can be done with it",
		Long:  demoHelp,
		Args:  usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := filepath.Join(os.TempDir(), fmt.Sprintf("pbsfs-demo-%d", os.Geteuid()))
			if len(args) > 0 {
				dir = args[0]
			}
			return a.demo(cmd.Context(), dir, clean)
		},
	}
	cmd.Flags().BoolVar(&clean, "clean", false, "leave nothing behind")
	return cmd
}

// demoMark is the file that tells a demo from data that a user may want to keep.
const demoMark = ".pbsfs-demo"

// demoMoment bounds the time to unmount and remove a demo.
const demoMoment = 30 * time.Second

func (a *app) demo(ctx context.Context, dir string, clean bool) error {
	defer a.moment.allow(demoMoment)()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := reach.Answers(ctx, dir); err != nil {
		return err
	}
	d := &demo{app: a, dir: dir}
	there, err := d.isThere()
	if err != nil {
		return err
	}
	if there {
		if err := d.remove(ctx); err != nil || clean {
			return err
		}
	}
	if err := d.make(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := d.show(ctx); err != nil {
		return errors.Join(fmt.Errorf("demo: %w", err), d.remove(context.WithoutCancel(ctx)))
	}
	if clean {
		return d.remove(ctx)
	}
	d.tell()
	return nil
}

// demo is a demo in a directory.
type demo struct {
	*app
	dir string
}

// at returns a path in the demo's directory.
func (d *demo) at(name string) string { return filepath.Join(d.dir, name) }

// isThere reports whether the directory holds an earlier demo of ours. It is false for
// an empty directory; any other contents are an error.
func (d *demo) isThere() (bool, error) {
	info, err := os.Lstat(d.dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() {
		return false, fmt.Errorf("%s: not a directory of yours; name another one", d.dir)
	}
	if _, err := os.Lstat(d.at(demoMark)); err == nil {
		return true, nil
	}
	list, err := os.ReadDir(d.dir)
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("%s: not empty, and not an earlier demo; name another directory", d.dir)
	}
	return false, err
}

// remove unmounts and removes a demo.
func (d *demo) remove(ctx context.Context) error {
	host, err := d.ownHost()
	if err != nil {
		return err
	}
	known, err := served.Records(host)
	if err != nil {
		return err
	}
	for _, r := range known {
		if err := d.command(ctx, "pbsfs unmount "+r.Mountpoint).Run(); err != nil {
			return fmt.Errorf("demo: %s cannot be unmounted: somebody uses it; see: PBSFS_CONFIG_DIR=%s PBSFS_RUN_DIR=%s pbsfs status", r.Mountpoint, d.at("etc"), d.at("run"))
		}
	}
	fmt.Fprintf(d.stderr, "removing %s\n", d.dir) // it can take a while
	// Chunks are removed in the order in which they were made; on some file systems
	// this is several times faster.
	for i := range 1 << 16 {
		_ = os.Remove(d.at(fmt.Sprintf("store/.chunks/%04x", i)))
	}
	// The mark remains until everything else is gone.
	list, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name() != demoMark {
			err = errors.Join(err, os.RemoveAll(d.at(e.Name())))
		}
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(d.dir)
}

// command returns a shell that runs a line as the user would type it: in the demo's
// directory, with this pbsfs in the path, and with the demo's configuration.
func (d *demo) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "PBSFS_CONFIG_DIR="+d.at("etc"), "PBSFS_RUN_DIR="+d.at("run"),
		"PATH="+d.at("bin")+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "XDG_CONFIG_HOME="+d.at("etc"), "XDG_CACHE_HOME="+d.at("cache"), "LC_ALL=C")
	return cmd
}

// run shows a line and its output. It returns an error unless the exit code is want.
func (d *demo) run(ctx context.Context, line string, want int) error {
	fmt.Fprintf(d.out(), "$ %s\n", line)
	return d.quietly(ctx, line, want)
}

// quietly is run without showing the line.
func (d *demo) quietly(ctx context.Context, line string, want int) error {
	cmd := d.command(ctx, line)
	cmd.Stdout, cmd.Stderr = d.stdout, d.stdout
	err := cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if got := cmd.ProcessState.ExitCode(); cmd.ProcessState == nil || got != want {
		return fmt.Errorf("%q ended with %d, not %d (%w)", line, got, want, err)
	}
	return nil
}

// say prints what the next lines are about.
func (d *demo) say(text string) { fmt.Fprintf(d.out(), "\n# %s\n", text) }

// tell says what the user can do with the files that remain.
func (d *demo) tell() {
	self, err := os.Executable()
	if err != nil {
		self = "pbsfs"
	}
	arg := ""
	if d.dir != filepath.Join(os.TempDir(), fmt.Sprintf("pbsfs-demo-%d", os.Geteuid())) {
		arg = " " + d.dir
	}
	fmt.Fprintf(d.out(), `
# The tree stays mounted. To try next:
  ls -lR %[1]s
  cat %[1]s/vm/100/latest/index.json
  %[2]s demo --clean%[3]s
`, d.at("mnt"), self, arg)
}

// steps is a sequence of commands, which ends at the first error.
type steps []func() error

func (s steps) run() error {
	for _, step := range s {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// show walks through the demo.
func (d *demo) show(ctx context.Context) error {
	ok := func(line string) func() error { return func() error { return d.run(ctx, line, exitDone) } }
	ends := func(line string, code int) func() error { return func() error { return d.run(ctx, line, code) } }
	say := func(text string) func() error { return func() error { d.say(text); return nil } }
	var old string
	err := steps{
		say("A datastore in " + d.dir + ", with a configuration of its own"),
		ok("pbsfs datastore add demo store --create"),
		ok("pbsfs snapshot create home.pxar:home demo --id laptop"),
		func() error { return d.change() },
		ok("pbsfs snapshot create home.pxar:home demo --id laptop"),
		ok("pbsfs snapshot create drive-scsi0.img:disk.img demo --type vm --id 100"),
		ok("pbsfs key create key.json"),
		ok("pbsfs snapshot create home.pxar:home demo --id laptop --ns offsite --keyfile key.json"),
		say("All of it, as one tree"),
		ok("pbsfs mount demo mnt --keyfile key.json"),
		ok("ls mnt mnt/host/laptop mnt/ns/offsite/host/laptop/latest/home.pxar"),
		func() (err error) { old, err = d.oldest(); return err },
	}.run()
	if err != nil {
		return err
	}
	return steps{
		say("What has changed, and the old version of a file"),
		ends("diff -r mnt/host/laptop/"+old+"/home.pxar mnt/host/laptop/latest/home.pxar", 1),
		ok("cp -a mnt/host/laptop/" + old + "/home.pxar/letter.txt restored.txt && cat restored.txt"),
		say("A file in the partition of a disk image"),
		ok("ls mnt/vm/100/latest/drive-scsi0.img.d/part/1"),
		ok("cat mnt/vm/100/latest/drive-scsi0.img.d/part/1/etc/motd"),
		say("It never stands in the way of maintenance: who is in the way is told"),
		func() error { return d.whileOpen(ctx) },
		ok("pbsfs maintenance set demo offline"),
		ends("cat mnt/host/laptop/latest/home.pxar/letter.txt", 1),
		ok("pbsfs maintenance clear demo"),
		ok("pbsfs unmount mnt"),
		ok("pbsfs mount demo mnt --keyfile key.json"),
	}.run()
}

// whileOpen shows what the maintenance command says while a file is open, and closes
// it.
func (d *demo) whileOpen(ctx context.Context) error {
	const line = "sleep 600 < mnt/host/laptop/latest/home.pxar/letter.txt"
	fmt.Fprintf(d.out(), "$ %s &\n", line)
	file, err := os.Open(d.at("mnt/host/laptop/latest/home.pxar/letter.txt"))
	if err != nil {
		return err
	}
	holder := d.command(ctx, "")
	holder.Args = []string{"sleep", "600"}
	if holder.Path, err = exec.LookPath("sleep"); err != nil {
		return errors.Join(err, file.Close())
	}
	holder.Stdin = file
	// Once started, the shell becomes sleep, which has the file open.
	if err := errors.Join(holder.Start(), file.Close()); err != nil {
		return err
	}
	err = d.run(ctx, "pbsfs maintenance set demo offline --wait 0s", exitActive)
	fmt.Fprintln(d.out(), "$ kill %1")
	_ = holder.Process.Kill()
	_ = holder.Wait() // it was killed, as intended
	return err
}

// oldest returns the time of the first snapshot.
func (d *demo) oldest() (string, error) {
	list, err := os.ReadDir(d.at("mnt/host/laptop"))
	if err != nil || len(list) == 0 {
		return "", fmt.Errorf("no snapshot is in the tree: %w", err)
	}
	return list[0].Name(), nil
}
