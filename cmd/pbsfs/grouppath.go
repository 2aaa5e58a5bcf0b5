package main

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// place is a path that leads into a backup group.
type place struct {
	group name.Group
	// when is the name of a snapshot or "latest"; "" if the path has none.
	when string
	rest []string // the names after it
}

// placeOf takes a path apart, without looking whether it exists. It reports false if the
// path does not lead to a group.
func placeOf(p string) (at place, ok bool) {
	names := strings.FieldsFunc(path.Clean("/"+p), func(r rune) bool { return r == '/' })
	ns := name.Namespace{}
	for len(names) >= 2 && names[0] == "ns" {
		child, err := ns.Child(names[1])
		if err != nil {
			return place{}, false
		}
		ns, names = child, names[2:]
	}
	if len(names) < 2 {
		return place{}, false
	}
	typ, err := name.ParseType(names[0])
	if err != nil {
		return place{}, false
	}
	if at.group, err = name.NewGroup(ns, typ, names[1]); err != nil {
		return place{}, false
	}
	at.rest = names[2:]
	if len(at.rest) > 0 {
		if _, err := name.ParseTime(at.rest[0]); err == nil || at.rest[0] == latestName {
			at.when, at.rest = at.rest[0], at.rest[1:]
		}
	}
	return at, true
}

// latestName is the link to the newest snapshot of a group.
const latestName = "latest"

// groupPath splits a path into a backup group and the names after it. The name of a
// snapshot after the group is left out.
func groupPath(p string) (name.Group, []string, error) {
	at, ok := placeOf(p)
	switch {
	case !ok:
		return name.Group{}, nil, usage.Errorf("%q does not begin with a backup group; write [ns/NAME/...]TYPE/ID/PATH", p)
	case len(at.rest) == 0:
		return at.group, nil, usage.Errorf("%q is no file in a backup group; say whose history, such as that of %s/root.pxar/etc", p, at.group)
	}
	return at.group, at.rest, nil
}

// snapshot returns the snapshot of a place that has one.
func (at place) snapshot(ctx context.Context, r *store.Reader) (name.Snapshot, error) {
	if at.when == latestName {
		s, ok, err := store.Latest(ctx, r, at.group)
		if err == nil && !ok {
			err = fs.ErrNotExist
		}
		return s, err
	}
	t, err := name.ParseTime(at.when)
	if err != nil {
		return name.Snapshot{}, err
	}
	return name.NewSnapshot(at.group, t)
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
