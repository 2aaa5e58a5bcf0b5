package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/space"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

const usageHelp = `Say how much each group and snapshot refers to, and how much only it does.

The figures are for everything at or below PATH, without PATH for the datastore.
All indexes of the datastore are read, whatever PATH is, because any snapshot may
refer to the same chunks; no chunk is read. The columns are:

  RESTORED  what a restore would write, in archives and images
  DATA      the distinct chunks that are referred to, decoded
  ONLY      those of them that nothing else refers to: with the snapshot, or the
            whole group, they would go, too
  FREED     the files of those on disk, with --stored, which looks at each chunk
            file: what a garbage collection would free

What snapshots that are not finished refer to is not known, and blobs and indexes
are not counted. Memory is needed for each distinct chunk: 48 bytes.`

// usageOptions are the flags of usage.
type usageOptions struct {
	openOptions
	stored bool
	json   bool
}

func newUsageCommand(a *app) *cobra.Command {
	o := &usageOptions{}
	cmd := &cobra.Command{
		Use:               "usage DATASTORE [PATH]",
		Short:             "how much groups and snapshots refer to, and how much only they do",
		Long:              usageHelp,
		Args:              usageArgs(cobra.RangeArgs(1, 2)),
		ValidArgsFunction: a.completePaths(&o.openOptions, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := optionalPath(args)
			return a.read(cmd.Context(), args[0], o.openOptions, func(ctx context.Context, d *opened) error {
				return a.usage(ctx, d, p, o)
			})
		},
	}
	f := cmd.Flags()
	o.register(f)
	f.BoolVar(&o.stored, "stored", false, "look at the files of the chunks, too")
	f.BoolVar(&o.json, "json", false, "print the figures as JSON, in bytes")
	return cmd
}

// usage runs usage.
func (a *app) usage(ctx context.Context, d *opened, p string, o *usageOptions) error {
	r, err := d.ref.Acquire(ctx)
	if err != nil {
		return err
	}
	defer r.Release()
	n, err := d.tree.Walk(ctx, r, p, true)
	if err != nil {
		return d.notThere(ctx, r, p, atPath(p, err))
	}
	wanted := make(map[name.Snapshot]bool)
	err = tree.Snapshots(ctx, r, n, func(s name.Snapshot) error {
		wanted[s] = true
		return nil
	})
	if err != nil && !errors.Is(err, tree.ErrIncomplete) {
		return atPath(p, err)
	}
	res, err := a.measure(ctx, d, r, o)
	if res == nil {
		return err
	}
	_, one := n.Snapshot()
	shown := usageShown{all: p == "", groups: !one}
	damage := shown.pick(res, wanted)
	if o.json {
		err = errors.Join(a.json(shown.json(res, o)), err)
	} else {
		err = errors.Join(shown.print(a, res, o), err)
	}
	return errors.Join(damage, err)
}

// measure measures the datastore, and shows how far that is.
func (a *app) measure(ctx context.Context, d *opened, r *store.Reader, o *usageOptions) (*space.Result, error) {
	var snapshots, chunks atomic.Int64
	live := a.liveLine(func(time.Duration) string {
		return fmt.Sprintf("usage: %s, %s", counted(snapshots.Load(), "snapshot"), counted(chunks.Load(), "distinct chunk"))
	})
	defer live.end()
	return space.Measure(ctx, r, d.tree.Root(), space.Options{Stored: o.stored, Progress: func(s, c int64) {
		snapshots.Store(s)
		chunks.Store(c)
	}})
}

// usageShown is what is shown of the figures.
type usageShown struct {
	all    bool // the sum of the datastore
	groups bool // the sums of groups
	list   []space.Group
}

// pick picks the groups with the snapshots that are wanted. It returns what could not be
// read, of any snapshot: that makes all figures wrong.
func (u *usageShown) pick(res *space.Result, wanted map[name.Snapshot]bool) (damage error) {
	unread := 0
	for _, g := range res.Groups {
		var kept []space.Snapshot
		for _, s := range g.Snapshots {
			gone := store.Vanished(s.Err)
			if s.Err != nil && !gone {
				if unread++; damage == nil {
					damage = s.Err
				}
			}
			if wanted[s.Name] && !gone {
				kept = append(kept, s)
			}
		}
		if len(kept) > 0 {
			g.Snapshots = kept
			u.list = append(u.list, g)
		}
	}
	if damage != nil {
		return fmt.Errorf("the figures are not complete: %s could not be read: %w", counted(int64(unread), "snapshot"), damage)
	}
	return nil
}

// print prints a table for people.
func (u *usageShown) print(a *app, res *space.Result, o *usageOptions) error {
	out := a.table()
	line := func(what string, figures ...string) {
		if !o.stored {
			figures = figures[:3]
		}
		out.row(append(figures, what)...)
	}
	row := func(what string, s space.Size) {
		line(what, sizeText(s.Logical), sizeText(s.Data), sizeText(s.Only), sizeText(s.OnlyStored))
	}
	line("", "RESTORED", "DATA", "ONLY", "FREED")
	for _, g := range u.list {
		if u.groups {
			row(g.Name.String(), g.Size)
		}
		for _, s := range g.Snapshots {
			what := s.Name.String()
			if u.groups {
				what = "  " + s.Name.Time().String()
			}
			if s.Err != nil {
				what += "  (not all could be read)"
			}
			row(what, s.Size)
		}
	}
	if u.all {
		row("in all", res.Total)
	}
	return out.print(a.out())
}

// usageSize are the figures in bytes. docs/verify.md says what is in them.
type usageSize struct {
	Restored   int64  `json:"restored"`
	Data       int64  `json:"data"`
	Chunks     int64  `json:"chunks"`
	Only       int64  `json:"only"`
	OnlyChunks int64  `json:"only_chunks"`
	Freed      *int64 `json:"freed,omitempty"`
}

type usageSnapshot struct {
	Snapshot string `json:"snapshot"`
	usageSize
	Error string `json:"error,omitempty"`
}

type usageGroup struct {
	Group string `json:"group"`
	usageSize
	Snapshots []usageSnapshot `json:"snapshots"`
}

type usageResult struct {
	Groups        []usageGroup `json:"groups"`
	Total         usageSize    `json:"total"` // of the datastore, whatever is shown
	MissingChunks *int64       `json:"missing_chunks,omitempty"`
}

// json returns the figures to be printed as JSON.
func (u *usageShown) json(res *space.Result, o *usageOptions) usageResult {
	size := func(s space.Size) usageSize {
		out := usageSize{Restored: s.Logical, Data: s.Data, Chunks: s.Chunks, Only: s.Only, OnlyChunks: s.OnlyChunks}
		if o.stored {
			out.Freed = &s.OnlyStored
		}
		return out
	}
	out := usageResult{Groups: []usageGroup{}, Total: size(res.Total)}
	if o.stored {
		out.MissingChunks = &res.Missing
	}
	for _, g := range u.list {
		group := usageGroup{Group: g.Name.String(), usageSize: size(g.Size)}
		for _, s := range g.Snapshots {
			line := usageSnapshot{Snapshot: s.Name.String(), usageSize: size(s.Size)}
			if s.Err != nil {
				line.Error = s.Err.Error()
			}
			group.Snapshots = append(group.Snapshots, line)
		}
		out.Groups = append(out.Groups, group)
	}
	return out
}
