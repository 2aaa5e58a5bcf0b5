package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/compare"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

const historyHelp = `Show what became of one file or directory in a backup group.

PATH is GROUP/ARCHIVE/PATH, such as host/NAME/root.pxar/etc/hosts, or
vm/ID/drive-scsi0.img. Without ARCHIVE, the path is looked for in all archives of
the group. Each line is one version, the newest first: the snapshots that have it,
its attributes, and what differs from the version before. Snapshots that follow
each other and have the same version are one line.

Whether contents are the same is told by the digests of their chunks; contents are
read only where these do not tell. Of a directory, the names that were added and
removed are counted.`

// historyOptions are the flags of history.
type historyOptions struct {
	openOptions
	asJSON bool
	span   timeSpan
}

// register adds the flags of a span of snapshots.
func (s *timeSpan) register(f *pflag.FlagSet) {
	f.Var(&s.since, "since", "only snapshots from this time on: 2026-11-20, or 7d for seven days ago")
	f.Var(&s.until, "until", "only snapshots up to this time")
}

func newHistoryCommand(a *app) *cobra.Command {
	o := &historyOptions{}
	cmd := &cobra.Command{
		Use:               "history DATASTORE GROUP[/ARCHIVE]/PATH",
		Short:             "show the versions of a file in a backup group",
		Long:              historyHelp,
		Args:              usageArgs(cobra.ExactArgs(2)),
		ValidArgsFunction: a.completeHistory(&o.openOptions),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, names, err := groupPath(args[1])
			if err != nil {
				return err
			}
			return a.read(cmd.Context(), args[0], o.openOptions, func(ctx context.Context, d *opened) error {
				return a.history(ctx, d, g, names, o)
			})
		},
	}
	o.register(cmd.Flags())
	o.span.register(cmd.Flags())
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON, one line for each version")
	return cmd
}

// heldSnapshots is how many snapshots a command keeps locked at once.
const heldSnapshots = 64

// history prints the versions of a path.
func (a *app) history(ctx context.Context, d *opened, g name.Group, names []string, o *historyOptions) error {
	snaps, err := d.snapshotsOf(ctx, g, o.span)
	if err != nil && len(snaps) == 0 {
		return err
	}
	incomplete := err
	if len(snaps) == 0 {
		return fmt.Errorf("/%s: there is no snapshot%s", g, o.span.text())
	}
	holds, err := tree.NewHolds(ctx, d.ref, heldSnapshots)
	if err != nil {
		return err
	}
	defer holds.Close()
	archives, own, err := archivesOf(ctx, holds, d.tree, snaps, names[0])
	if err != nil {
		return err
	}
	paths := []string{strings.Join(names, "/")}
	if !own {
		paths = paths[:0]
		for _, archive := range archives {
			paths = append(paths, archive+"/"+strings.Join(names, "/"))
		}
	}
	busy := a.working()
	defer busy.end()
	var unread unread
	found := false
	for _, p := range paths {
		busy.at(join(g.String(), p))
		versions, err := compare.Versions(ctx, holds, d.tree, snaps, p, func() { busy.add(1) })
		if err != nil {
			return atPath(join(g.String(), p), err)
		}
		if !slices.ContainsFunc(versions, func(v compare.Version) bool { return v.Node != nil || v.Err != nil }) {
			continue
		}
		found = true
		busy.clear()
		if err := a.showVersions(join(g.String(), p), versions, len(paths) > 1, o.asJSON, &unread); err != nil {
			return err
		}
	}
	if !found {
		return d.noHistory(ctx, snaps[len(snaps)-1], paths, join(g.String(), strings.Join(names, "/")))
	}
	return errors.Join(unread.err(), incomplete)
}

// text says which snapshots are meant, for messages.
func (s timeSpan) text() string {
	if s.since.IsZero() && s.until.IsZero() {
		return ""
	}
	return " in that time"
}

// noHistory is the error for a path that no snapshot has: with what the newest has
// instead.
func (d *opened) noHistory(ctx context.Context, newest name.Snapshot, paths []string, asked string) error {
	if len(paths) != 1 {
		return fmt.Errorf("/%s: no archive of any snapshot has that path", asked)
	}
	r, err := d.ref.Acquire(ctx)
	if err != nil {
		return err
	}
	defer r.Release()
	err = d.notThere(ctx, r, join(newest.String(), paths[0]), fs.ErrNotExist)
	return fmt.Errorf("/%s: no snapshot has that: %w", asked, err)
}

// showVersions prints versions, the newest first.
func (a *app) showVersions(p string, versions []compare.Version, titled, asJSON bool, unread *unread) (err error) {
	out := bufio.NewWriter(a.stdout)
	defer func() { err = errors.Join(err, out.Flush()) }()
	show := printer{out: out, escape: isTerminal(a.stdout)}.text
	if titled && !asJSON {
		fmt.Fprintf(out, "%s:\n", show(p))
	}
	for i, v := range slices.Backward(versions) {
		if v.Err != nil {
			unread.add(p, v.Err)
		}
		if v.ContentErr != nil {
			unread.add(p, v.ContentErr)
		}
		if asJSON {
			if err := a.json(versionObject(p, &v)); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintln(out, versionLine(versions, i, show)); err != nil {
			return err
		}
	}
	return nil
}

// versionLine is the line of a version for people.
func versionLine(versions []compare.Version, i int, show func(string) string) string {
	v := &versions[i]
	span := v.Snapshots[0].Time().String()
	if n := len(v.Snapshots); n > 1 {
		span += " to " + v.Snapshots[n-1].Time().String()
	}
	line := fmt.Sprintf("%-44s %4d  ", span, len(v.Snapshots))
	switch {
	case v.Err != nil:
		return line + "cannot be read"
	case v.Node == nil && i > 0 && versions[i-1].Node != nil:
		return line + "removed"
	case v.Node == nil:
		return line + "not there"
	}
	return line + longLine(v.Node) + "  " + strings.Join(versionNews(versions, i, show), ", ")
}

// versionNews says in what a version differs from the one before.
func versionNews(versions []compare.Version, i int, show func(string) string) []string {
	v := &versions[i]
	var out []string
	if i == 0 {
		out = append(out, "first seen")
	} else if versions[i-1].Node == nil {
		out = append(out, "there again")
		if !slices.ContainsFunc(versions[:i], func(v compare.Version) bool { return v.Node != nil || v.Err != nil }) {
			out[0] = "added"
		}
	}
	for _, d := range v.What {
		if d.What == compare.Content {
			out = append(out, "content changed")
			continue
		}
		out = append(out, d.Text(show))
	}
	if v.Added+v.Removed > 0 {
		out = append(out, fmt.Sprintf("entries +%d -%d", v.Added, v.Removed))
	}
	if v.ContentErr != nil {
		return append(out, "content cannot be compared")
	}
	// An adjacent version with the same content has said so by not saying that it changed.
	if i > 0 && v.Content > 0 && versions[i-1].Content != v.Content {
		for k := i - 1; k >= 0; k-- {
			if versions[k].Content == v.Content {
				last := versions[k].Snapshots[len(versions[k].Snapshots)-1]
				return append(out, "same content as "+last.Time().String())
			}
		}
	}
	return out
}

// versionJSON is a line of history --json.
type versionJSON struct {
	Path      string   `json:"path"`
	State     string   `json:"state"`
	Count     int      `json:"count"`
	First     string   `json:"first"`
	Last      string   `json:"last"`
	Snapshots []string `json:"snapshots"`
	*stateJSON
	Content int              `json:"content,omitempty"`
	What    []compare.Detail `json:"what,omitempty"`
	Added   int              `json:"entries_added,omitempty"`
	Removed int              `json:"entries_removed,omitempty"`
	Error   string           `json:"error,omitempty"`
}

func versionObject(p string, v *compare.Version) *versionJSON {
	out := &versionJSON{
		Path: p, State: "present", Count: len(v.Snapshots), stateJSON: stateOf(v.Node), Content: v.Content, What: v.What,
		First: v.Snapshots[0].Time().String(), Last: v.Snapshots[len(v.Snapshots)-1].Time().String(),
		Added: v.Added, Removed: v.Removed,
	}
	for _, s := range v.Snapshots {
		out.Snapshots = append(out.Snapshots, s.String())
	}
	switch {
	case v.Err != nil:
		out.State, out.Error = "unreadable", v.Err.Error()
	case v.Node == nil:
		out.State = "absent"
	case v.ContentErr != nil:
		out.Error = v.ContentErr.Error()
	}
	if v.Node != nil && v.Node.Type() != unix.S_IFREG {
		out.Content = 0
	}
	return out
}
