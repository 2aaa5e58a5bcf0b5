package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/compare"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

const diffHelp = `Show what differs from one snapshot to another.

Each SNAPSHOT is the path of a snapshot below a mount point, such as
host/NAME/latest, or of something in one, such as vm/ID/TIME/drive-scsi0.img; the
two may belong to different groups. PATH is looked up below both. Lines are sorted
by path:
  A PATH          added
  D PATH          removed
  M PATH (WHAT)   changed: content, size, mode, owner, mtime, target, device,
                  xattr NAME, acl, default-acl, capabilities, type
  R OLD -> NEW    moved: a file with the same content, size and time, and the
                  same name, unless there is but one such file
Contents are compared by the digests of their chunks, and read only where these do
not tell. Of a disk image, the ranges that differ are shown, exact to 4 KiB. The
time of a directory counts with --all only, because each new entry changes it.
Manifest, catalog and log of a snapshot are left out unless they are named, as is
what lies on a disk (*.img.d): the image is compared.

--content adds the lines of text files that have changed, as diff -u does.
The exit code is 0 whether there are differences or not; with --exit-code it is 1
if there are.`

// diffOptions are the flags of diff.
type diffOptions struct {
	openOptions
	asJSON, stat, content, exitCode, all bool
	ignore                               []string
}

func newDiffCommand(a *app) *cobra.Command {
	o := &diffOptions{}
	cmd := &cobra.Command{
		Use:               "diff DATASTORE SNAPSHOT SNAPSHOT [PATH]",
		Short:             "show what differs between two snapshots",
		Long:              diffHelp,
		Args:              usageArgs(cobra.RangeArgs(3, 4)),
		ValidArgsFunction: a.completeDiff(&o.openOptions),
		RunE: func(cmd *cobra.Command, args []string) error {
			below := ""
			if len(args) == 4 {
				below = args[3]
			}
			if err := o.check(); err != nil {
				return err
			}
			return a.read(cmd.Context(), args[0], o.openOptions, func(ctx context.Context, d *opened) error {
				return a.diff(ctx, d, args[1], args[2], below, o)
			})
		},
	}
	f := cmd.Flags()
	o.register(f)
	f.BoolVar(&o.asJSON, "json", false, "print JSON, one line for each difference")
	f.BoolVar(&o.stat, "stat", false, "print only how much differs")
	f.BoolVar(&o.content, "content", false, "print the lines in which text files differ")
	f.BoolVar(&o.exitCode, "exit-code", false, "end with exit code 1 if there are differences")
	f.BoolVar(&o.all, "all", false, "count the times of directories as well")
	f.StringSliceVar(&o.ignore, "ignore", nil, "changes that do not count, such as mtime,owner")
	return cmd
}

// check refuses values that are none.
func (o *diffOptions) check() error {
	for _, what := range o.ignore {
		if !slices.Contains(compare.Aspects(), what) {
			return usage.Errorf("--ignore: %q cannot change; say %s", what, strings.Join(compare.Aspects(), ", "))
		}
	}
	if o.stat && o.content {
		return usage.Errorf("--stat and --content exclude each other")
	}
	return nil
}

// compared is the two sides of a diff, and how its lines are called.
type compared struct {
	a, b         compare.Side
	fromA, fromB string // the paths of the two sides
	below        string // what is put in front of relative paths
}

// diff compares what lies at two paths.
func (a *app) diff(ctx context.Context, d *opened, from, to, below string, o *diffOptions) error {
	c := compared{fromA: join(from, below), fromB: join(to, below), below: strings.Trim(below, "/")}
	return d.side(ctx, from, below, &c.a, func() error {
		return d.side(ctx, to, below, &c.b, func() error {
			if c.a.Node == nil && c.b.Node == nil {
				return d.notThere(ctx, c.b.Right.(*store.Reader), c.fromB, atPath(c.fromB, fs.ErrNotExist))
			}
			return a.showDiff(ctx, &c, o)
		})
	})
}

// join joins two parts of a path, of which the second may be "".
func join(dir, name string) string {
	return strings.Trim(strings.Trim(dir, "/")+"/"+strings.Trim(name, "/"), "/")
}

// side finds one side of a diff, holds its snapshot and calls fn. There is no node if
// below leads nowhere.
func (d *opened) side(ctx context.Context, snapshot, below string, s *compare.Side, fn func() error) error {
	at := snapshot
	if path.Base(snapshot) == latestName {
		at += "/." // which follows the link
	}
	return d.at(ctx, at, false, func(r *store.Reader, n *tree.Node) error {
		if _, ok := n.Snapshot(); !ok {
			return usage.Errorf("/%s is not in a snapshot that could be compared; say TYPE/ID/TIME", strings.Trim(snapshot, "/"))
		}
		s.Right, s.Node = r, n
		if strings.Trim(below, "/") != "" {
			var err error
			s.Node, err = d.tree.Walk(ctx, r, join(at, below), false)
			if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, store.ErrCorrupt) {
				s.Node, err = nil, nil
			}
			if err != nil {
				return atPath(join(snapshot, below), err)
			}
		}
		return fn()
	})
}

// showDiff prints what differs.
func (a *app) showDiff(ctx context.Context, c *compared, o *diffOptions) (err error) {
	out := bufio.NewWriter(a.stdout)
	defer func() { err = errors.Join(err, out.Flush()) }()
	p := &diffPrinter{app: a, diffOptions: o, compared: c, ctx: ctx, out: out, show: printer{out: out, escape: isTerminal(a.stdout)}.text, busy: a.working()}
	defer p.busy.end()
	p.busy.at(c.fromB)
	ignore := make(map[string]bool)
	for _, what := range o.ignore {
		ignore[what] = true
	}
	moves := &compare.Moves{A: c.a.Right, B: c.b.Right, Fn: p.print}
	err = compare.Trees(ctx, c.a, c.b, compare.Options{
		Ignore: ignore, DirTimes: o.all, Seen: func() { p.busy.add(1) },
		Problem: func(at string, err error) { p.unread.add(join(c.fromB, at), err) },
	}, moves.Add)
	if err == nil {
		err = moves.Finish(ctx)
	}
	if err == nil && moves.TooMany {
		fmt.Fprintln(a.stderr, "so much differs that moved files are shown as removed and added")
	}
	if err == nil && o.stat {
		err = p.total()
	}
	if err == nil {
		err = p.unread.err()
	}
	if err == nil && o.exitCode && p.count > 0 {
		err = &exitError{exitFailed, fmt.Sprintf("/%s and /%s differ", c.fromA, c.fromB)}
	}
	return err
}
