package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
)

// helperNames are the names by which mount(8) calls this program for the types pbsfs and
// fuse.pbsfs.
var helperNames = []string{"mount.pbsfs", "mount.fuse.pbsfs"}

// isMountHelper reports whether the program was called by the name of a mount helper.
func isMountHelper(name string) bool { return slices.Contains(helperNames, filepath.Base(name)) }

// helperOptions are the flags that mount(8) gives to a helper.
type helperOptions struct {
	sloppy, fake, noTable, verbose bool

	namespace, fstype string
	lists             []string
}

const mountHelperHelp = `Mount a datastore, as mount(8) and fstab ask for it.

SPEC is a DATASTORE as for 'pbsfs mount': a name, a path or s3://BUCKET/STORE; or the
device that a datastore lies on: /dev/..., UUID=... or LABEL=.... mount(8) takes a
name for a path if there is such a file where it runs; pbsfs#NAME is always a name.

The options are those of 'pbsfs mount -o', which has each flag of 'pbsfs mount' as a
word. Options that mount(8) and systemd read themselves are accepted. A tree that is
mounted on DIR already is no failure, so that 'mount -a' can be given again.

With -o remount, nothing can be changed; it succeeds if nothing is to be changed.

Exit codes are those of mount(8): 0 done, 1 the command line is wrong, 8 interrupted,
32 the mount failed.`

// newMountHelperCommand makes the command that the program is when mount(8) calls it.
func newMountHelperCommand(a *app, name string) *cobra.Command {
	o := &helperOptions{}
	cmd := &cobra.Command{
		Use:           filepath.Base(name) + " SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTION,...] [-t TYPE]",
		Short:         "mount a datastore, for mount(8)",
		Long:          mountHelperHelp,
		SilenceErrors: true,
		SilenceUsage:  true,

		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(2)(cmd, args); err != nil {
				return usage.Errorf("%w; usage: %s", err, cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.helpMount(cmd.Context(), args[0], args[1], o)
		},
	}
	cmd.SetIn(a.stdin)
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage.New(err) })
	f := cmd.Flags()
	f.BoolVarP(&o.sloppy, "sloppy", "s", false, "pass over options that do not exist")
	f.BoolVarP(&o.fake, "fake", "f", false, "check the command line, and mount nothing")
	f.BoolVarP(&o.noTable, "no-mtab", "n", false, "write no table of mounts, as ever")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say what was mounted")
	f.StringVarP(&o.namespace, "namespace", "N", "", "refused: mount in another namespace by nsenter(1)")
	f.StringArrayVarP(&o.lists, "options", "o", nil, "mount options, separated by commas")
	f.StringVarP(&o.fstype, "types", "t", "", "the type by which mount(8) knows the file system")
	return cmd
}

// helpMount answers one call of mount(8).
func (a *app) helpMount(ctx context.Context, spec, dir string, o *helperOptions) error {
	if o.namespace != "" {
		return usage.Errorf("-N: pbsfs does not mount in another namespace from here; 'nsenter --mount=/proc/PID/ns/mnt mount ...' does")
	}
	// For an ordinary user, mount(8) leaves no PATH; other programs are needed then.
	if a.getenv("PATH") == "" {
		if err := os.Setenv("PATH", systemPath); err != nil {
			return err
		}
	}
	root := newRootCommand(a)
	mount, _, err := root.Find([]string{"mount"})
	if err != nil {
		return err
	}
	mount.InheritedFlags() // which joins them to Flags
	words := o.words(mount.Flags())
	if slices.Contains(words, "remount") {
		return a.remount(ctx, dir, words)
	}
	args, err := helperArgs(spec, dir, words)
	if err != nil {
		return err
	}
	if o.fake {
		args = append([]string{"mount", "--" + fakeFlag}, args[1:]...)
	}
	a.args = args
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		return err
	}
	if o.verbose && !o.fake {
		fmt.Fprintf(a.stdout, "pbsfs: %s mounted on %s\n", spec, dir)
	}
	return nil
}

// words returns the options that were given. mount(8) says rw where nothing else was said,
// which is not meant.
func (o *helperOptions) words(flags *pflag.FlagSet) []string {
	var words []string
	for _, list := range o.lists {
		words = append(words, splitOptions(list)...)
	}
	return slices.DeleteFunc(words, func(w string) bool {
		return w == "rw" || o.sloppy && !isWord(flags, w)
	})
}

// isWord reports whether there is such an option.
func isWord(flags *pflag.FlagSet, word string) bool {
	key, _, _ := strings.Cut(word, "=")
	known := []string{"allow_other", "nonempty", "nofail", "noexec", "uid", "gid", "umask", "remount"}
	return isAccepted(word) || refused[key] != "" || slices.Contains(known, key) || isPasswordWord(key) || flagOf(flags, key) != nil
}

// systemPath is where programs of the system are.
const systemPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// nameMark stands before a name, which is then not taken for a path.
const nameMark = "pbsfs#"

// helperArgs returns the arguments of the mount command that does what mount(8) asks for.
func helperArgs(spec, dir string, words []string) ([]string, error) {
	args := []string{"mount", "--" + againFlag, "-o", strings.Join(words, ",")}
	named := slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "device=") })
	spec, marked := strings.CutPrefix(spec, nameMark)
	switch {
	case named && spec != "none" && spec != "pbsfs":
		return nil, usage.Errorf("option device= names the device, and so does %q; write none in its place, or leave the option out", spec)
	case named:
		return append(args, "--", dir), nil
	case !marked && isDeviceSpec(spec):
		return append(args, "--device", spec, "--", dir), nil
	}
	return append(args, "--", spec, dir), nil
}

// isDeviceSpec reports whether the first field of a line of fstab names a device.
func isDeviceSpec(spec string) bool {
	if strings.HasPrefix(spec, "UUID=") || strings.HasPrefix(spec, "LABEL=") {
		return true
	}
	if !strings.HasPrefix(spec, "/dev/") {
		return false
	}
	info, err := os.Stat(spec)
	return err != nil || info.Mode()&os.ModeDevice != 0
}
