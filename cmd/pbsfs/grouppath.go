package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// groupPath splits a path into a backup group and the names after it. The name of a
// snapshot after the group is left out.
func groupPath(p string) (name.Group, []string, error) {
	names := slices.DeleteFunc(strings.Split(p, "/"), func(s string) bool { return s == "" || s == "." })
	bad := func() (name.Group, []string, error) {
		return name.Group{}, nil, usage.Errorf("%q does not begin with a backup group; write [ns/NAME/...]TYPE/ID/PATH", p)
	}
	ns := name.Namespace{}
	for len(names) >= 2 && names[0] == "ns" {
		child, err := ns.Child(names[1])
		if err != nil {
			return bad()
		}
		ns, names = child, names[2:]
	}
	if len(names) < 2 {
		return bad()
	}
	typ, err := name.ParseType(names[0])
	if err != nil {
		return bad()
	}
	g, err := name.NewGroup(ns, typ, names[1])
	if err != nil {
		return bad()
	}
	names = names[2:]
	if len(names) > 0 {
		if _, err := name.ParseTime(names[0]); err == nil || names[0] == "latest" {
			names = names[1:]
		}
	}
	if len(names) == 0 {
		return g, nil, usage.Errorf("%q is a backup group; say the history of which file, such as %s/root.pxar/etc", p, g)
	}
	return g, names, nil
}

// snapshotsOf returns the finished snapshots of a group, oldest first, that are not older
// or newer than allowed.
func (d *opened) snapshotsOf(ctx context.Context, g name.Group, span timeSpan) (all []name.Snapshot, err error) {
	err = d.at(ctx, g.String(), false, func(r *store.Reader, n *tree.Node) error {
		return tree.Snapshots(ctx, r, n, func(s name.Snapshot) error {
			if span.has(s.Time().Time()) {
				all = append(all, s)
			}
			return nil
		})
	})
	return all, err
}

// archivesOf returns under which names of a group's snapshots a path may lie: the first
// name of the path, if a snapshot has something of that name, else each archive.
func archivesOf(ctx context.Context, holds *tree.Holds, t *tree.Tree, snaps []name.Snapshot, first string) (archives []string, own bool, err error) {
	for _, s := range snaps {
		err := holds.Use(ctx, s, func(r *store.Reader) error {
			n, err := t.Walk(ctx, r, s.String(), false)
			if err != nil {
				return err
			}
			return tree.Visit(ctx, r, n, func(e tree.Entry) error {
				own = own || e.Name == first
				isArchive := e.Stored.Content() == name.Pxar || e.Stored.Content() == name.PxarMeta
				if isArchive && !slices.Contains(archives, e.Name) {
					archives = append(archives, e.Name)
				}
				return nil
			})
		})
		if err != nil && !notReadable(err) && !isGone(err) {
			return nil, false, err
		}
	}
	slices.Sort(archives)
	return archives, own, nil
}

// isGone reports whether err says that a snapshot has been removed.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) && !notReadable(err) }
