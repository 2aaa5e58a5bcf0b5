package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/pattern"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/restore"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

type restoreOptions struct {
	openOptions
	overwrite string
	patterns  patternFlags
	verify    bool
	dryRun    bool
	json      bool
	numeric   bool

	to           string
	yes          bool
	targetIsZero bool
}

const restoreHelp = `Restore files of a datastore, with all their metadata, without mounting it.

PATH is what it would be below a mount point: a snapshot, an archive, a directory,
files, an image. Each PATH is restored as TARGET/NAME; what is in a single PATH that
ends with a slash is restored right into TARGET. TARGET is a directory, which is made
if only it is missing. It must be empty, unless --overwrite says what happens to what
is there: "never" (it stays), "older" (it is replaced if the backup's was changed
later), "changed" (if type, size, time or other metadata differ), "always". With
TARGET "-", a file, or a directory as tar, goes to the standard output.

A restore into an empty TARGET that was interrupted or killed goes on with the same
command. Each file appears under its name when it is complete. What cannot be restored
whole is not there and is named, and the exit code is 5 (damaged) or 1.

With --salvage, a file or an image of which data is lost is restored all the same, with
zeros there. Each is named with the first and last byte of each range, has those in its
extended attribute user.pbs.damaged, and never replaces a file; the exit code is 5. What
cannot be reached because metadata is damaged is not restored.

--exclude and --include take patterns like those of the official client: "/etc/*.conf"
from the top, "*.bak" anywhere, "cache/" directories only, "**" any directories, "!"
turns it round. The last pattern that matches decides; if the first one is --include,
only what is included is restored.

A snapshot is restored as a directory of its archives, images and files; the
directories NAME.img.d are left out, because the image has all that.

--to writes one image to a block device, or to a new file. What is on the device is
lost; the command asks first, unless --yes is given.`

func newRestoreCommand(a *app) *cobra.Command {
	o := &restoreOptions{}
	cmd := &cobra.Command{
		Use:               "restore DATASTORE PATH... TARGET | DATASTORE PATH --to DEVICE",
		Short:             "restore files and images of a datastore",
		Long:              restoreHelp,
		Args:              usageArgs(cobra.MinimumNArgs(2)),
		ValidArgsFunction: a.completeRestore(&o.openOptions),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := o.parse(args, cmd.Flags().Changed("overwrite"))
			if err != nil {
				return err
			}
			o.rights = forRestoring
			return a.read(cmd.Context(), args[0], o.openOptions, func(ctx context.Context, d *opened) error {
				return a.restore(ctx, d, job)
			})
		},
	}
	f := cmd.Flags()
	o.register(f)
	o.registerSalvage(f)
	f.StringVar(&o.overwrite, "overwrite", "never", "what happens to what is in TARGET: never, older, changed or always")
	f.Var(o.patterns.flag(false), "exclude", "leave out what matches a pattern")
	f.Var(o.patterns.flag(true), "include", "restore what matches a pattern")
	f.BoolVar(&o.verify, "verify", false, "read back what was restored, or was there already, and compare")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be restored, and write nothing")
	f.BoolVar(&o.json, "json", false, "print what was done as JSON")
	f.BoolVar(&o.numeric, "numeric-owner", true, "give files to the numbers of users and groups, as always: archives have no names")
	f.StringVar(&o.to, "to", "", "write one image to a block device, or to a new file")
	f.BoolVar(&o.yes, "yes", false, "do not ask before a device is written to")
	f.BoolVar(&o.targetIsZero, "target-is-zero", false, "the device is known to be all zeros: do not write zeros to it")
	return cmd
}

// restoreJob is a command line of restore that makes sense.
type restoreJob struct {
	*restoreOptions
	paths  []string
	target string // "" with --to
	how    restore.Options
}

// parse checks everything that can be checked before the datastore is opened.
func (o *restoreOptions) parse(args []string, explicit bool) (*restoreJob, error) {
	j := &restoreJob{restoreOptions: o, paths: args[1:]}
	overwrite, err := restore.ParseOverwrite(o.overwrite)
	if err != nil {
		return nil, usage.Errorf("--overwrite: %w", err)
	}
	if !o.numeric {
		return nil, usage.Errorf("--numeric-owner: archives have the numbers of owners and no names")
	}
	j.how = restore.Options{Overwrite: overwrite, IntoOthers: explicit, Verify: o.verify, DryRun: o.dryRun, Salvage: o.salvage, Patterns: o.patterns.list}
	switch {
	case o.to != "" && len(j.paths) != 1:
		return nil, usage.Errorf("--to writes one image, and no TARGET is given with it: restore DATASTORE PATH --to DEVICE")
	case o.to != "" && (explicit || len(o.patterns.texts) > 0):
		return nil, usage.Errorf("--to writes one image; --overwrite, --include and --exclude are for directories")
	case o.to == "" && (o.yes || o.targetIsZero):
		return nil, usage.Errorf("--yes and --target-is-zero are for a device, which --to names")
	case o.to != "":
		return j, nil
	case len(j.paths) < 2:
		return nil, usage.Errorf("restore: TARGET is missing; usage: pbsfs restore DATASTORE PATH... TARGET")
	}
	j.target = j.paths[len(j.paths)-1]
	j.paths = j.paths[:len(j.paths)-1]
	if j.target == "" {
		return nil, usage.Errorf("restore: TARGET is empty")
	}
	if j.target == "-" && (len(j.paths) > 1 || explicit || o.verify || o.dryRun || o.json || len(o.patterns.texts) > 0) {
		return nil, usage.Errorf("to the standard output goes one PATH, as it is, without --overwrite, --include, --exclude, --verify, --dry-run or --json")
	}
	return j, j.checkNames()
}

// checkNames refuses PATHs that would become one name.
func (j *restoreJob) checkNames() error {
	names := make(map[string]string)
	for _, p := range j.paths {
		name := nameBelow(p)
		if name == "" && len(j.paths) > 1 {
			return usage.Errorf("PATH %q ends with a slash, which is for a single PATH whose children are to be right in TARGET", p)
		}
		if other, ok := names[name]; ok {
			return usage.Errorf("PATH %q and PATH %q would both be TARGET/%s; restore them one by one", other, p, name)
		}
		names[name] = p
	}
	return nil
}

// nameBelow returns what a PATH is called below TARGET, "" if its children are to be right
// in TARGET.
func nameBelow(p string) string {
	clean := path.Clean("/" + p)
	if clean == "/" || strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") {
		return ""
	}
	return path.Base(clean)
}

// patternFlags are the patterns of --include and --exclude, in their order.
type patternFlags struct {
	list  pattern.List
	texts []string
}

type patternFlag struct {
	to      *patternFlags
	include bool
}

func (p *patternFlags) flag(include bool) pflag.Value { return &patternFlag{p, include} }

// Set adds a pattern.
func (f *patternFlag) Set(s string) error {
	p, err := pattern.Parse(s, f.include)
	if err != nil {
		return err
	}
	f.to.list.Add(p)
	sign := "-"
	if f.include {
		sign = "+"
	}
	f.to.texts = append(f.to.texts, sign+s)
	return nil
}

// String returns nothing: a list of patterns has no default.
func (f *patternFlag) String() string { return "" }

// Type names the type of the value in the help.
func (f *patternFlag) Type() string { return "PATTERN" }

// sources finds what is to be restored, and holds it: the right must be released.
func (d *opened) sources(ctx context.Context, paths []string) (_ []restore.Source, _ *store.Reader, err error) {
	var out []restore.Source
	err = d.ref.View(ctx, func(r *store.Reader) error {
		for _, p := range paths {
			n, err := d.source(ctx, r, p)
			if err != nil {
				return d.notThere(ctx, r, p, atPath(p, err))
			}
			out = append(out, restore.Source{Path: strings.Trim(p, "/"), Name: nameBelow(p), Node: n})
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	r, err := d.ref.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i, s := range out {
		snap, ok := s.Node.Snapshot()
		if !ok {
			continue
		}
		if err := r.Lock(ctx, snap); err != nil {
			r.Release()
			return nil, nil, atPath(paths[i], err)
		}
	}
	return out, r, nil
}

// source finds one PATH. The link to a group's newest snapshot is followed, but no link
// that was backed up.
func (d *opened) source(ctx context.Context, r *store.Reader, p string) (*tree.Node, error) {
	if strings.HasSuffix(p, "/.") {
		p = strings.TrimSuffix(p, ".")
	}
	n, err := d.tree.Walk(ctx, r, p, false)
	if err == nil && n.Type() == unix.S_IFLNK && !n.BackedUp() {
		n, err = d.tree.Walk(ctx, r, p, true)
	}
	return n, err
}

// restore runs the command.
func (a *app) restore(ctx context.Context, d *opened, j *restoreJob) (err error) {
	if j.target == "-" {
		return a.restoreToStdout(ctx, d, j.paths[0])
	}
	sources, r, err := d.sources(ctx, j.paths)
	if err != nil {
		return err
	}
	defer r.Release()
	guard, err := restore.NewGuard(ctx, d.ref.Path())
	if err != nil {
		return err
	}
	out := a.newRestoreOutput(j)
	report, err := out.run(ctx, d, sources, r, guard)
	if errors.Is(err, errNotBegun) {
		return err
	}
	return out.end(report, err)
}

// errNotBegun matches errors of a restore that has not begun to write.
var errNotBegun = errors.New("nothing was written")

// marker says what is restored, for one that goes on.
func (j *restoreJob) marker(d *opened, sources []restore.Source) restore.Marker {
	id := d.ref.Identity()
	m := restore.Marker{Version: 1, Datastore: id.UUID + " " + id.Path, Patterns: append([]string{}, j.patterns.texts...), Salvage: j.salvage}
	if id.UUID == "" {
		m.Datastore = fmt.Sprintf("%s %s", id.Sum(), d.ref.Path())
	}
	for _, s := range sources {
		m.Sources = append(m.Sources, restore.MarkedSource{Path: s.Path, Name: s.Name, ID: fmt.Sprintf("%x", s.Node.ID())})
	}
	return m
}
