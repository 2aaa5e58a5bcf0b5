package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/name"
)

// A listing that ends early is returned as far as it came, with the error. Its caller
// must not let it look complete.

// list reads a directory below the datastore. A missing directory is [fs.ErrNotExist],
// unless the datastore itself is gone.
func list(ctx context.Context, right CanRead, dir string) (backend.Backend, []backend.Entry, error) {
	r, root, err := begin(ctx, right)
	if err != nil {
		return nil, nil, err
	}
	entries, err := root.List(ctx, dir)
	return root, entries, r.ds.blame(ctx, root, err)
}

// Stat returns the attributes of a directory above the snapshots. dir comes from a
// method Dir of package name.
func Stat(ctx context.Context, right CanRead, dir string) (Attr, error) {
	r, root, err := begin(ctx, right)
	if err != nil {
		return Attr{}, err
	}
	info, err := root.Stat(ctx, dir)
	if err != nil {
		return Attr{}, r.ds.blame(ctx, root, err)
	}
	if !info.IsDir() {
		return Attr{}, fmt.Errorf("datastore %s: %s: %w: not a directory", r.ds.name, dir, fs.ErrNotExist)
	}
	return attrOf(info), nil
}

// Namespaces returns the namespaces directly below ns, sorted by name.
func Namespaces(ctx context.Context, right CanRead, ns name.Namespace) ([]name.Namespace, error) {
	_, entries, err := list(ctx, right, ns.Dir()+"/ns")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []name.Namespace
	for _, e := range entries {
		if !e.Dir {
			continue
		}
		if child, err := ns.Child(e.Name); err == nil {
			out = append(out, child)
		}
	}
	slices.SortFunc(out, func(a, b name.Namespace) int { return strings.Compare(a.Base(), b.Base()) })
	return out, err
}

// Types returns the backup types for which ns has a directory.
func Types(ctx context.Context, right CanRead, ns name.Namespace) ([]name.Type, error) {
	_, entries, err := list(ctx, right, ns.Dir())
	var out []name.Type
	for _, t := range name.Types() {
		if slices.Contains(entries, backend.Entry{Name: string(t), Dir: true}) {
			out = append(out, t)
		}
	}
	return out, err
}

// Groups returns the groups of one type in ns: numeric ids first, sorted by number,
// then the others, sorted by name.
func Groups(ctx context.Context, right CanRead, ns name.Namespace, t name.Type) ([]name.Group, error) {
	_, entries, err := list(ctx, right, ns.Dir()+"/"+string(t))
	var out []name.Group
	for _, e := range entries {
		if !e.Dir {
			continue
		}
		if g, err := name.NewGroup(ns, t, e.Name); err == nil {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b name.Group) int { return compareIDs(a.ID(), b.ID()) })
	return out, err
}

// compareIDs orders backup ids as the server does.
func compareIDs(a, b string) int {
	na, errA := strconv.ParseUint(a, 10, 64)
	nb, errB := strconv.ParseUint(b, 10, 64)
	switch {
	case errA == nil && errB == nil && na != nb:
		if na < nb {
			return -1
		}
		return 1
	case errA == nil && errB != nil:
		return -1
	case errA != nil && errB == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// Snapshots returns the finished snapshots of g, oldest first.
func Snapshots(ctx context.Context, right CanRead, g name.Group) ([]name.Snapshot, error) {
	all, err := snapshotDirs(ctx, right, g)
	if len(all) == 0 {
		return nil, err
	}
	dir, derr := groupDir(ctx, right, g)
	if derr != nil {
		return nil, errors.Join(err, derr)
	}
	defer dir.Close()
	out := all[:0]
	for _, s := range all {
		if cerr := ctx.Err(); cerr != nil {
			return out, context.Cause(ctx)
		}
		done, ferr := finished(ctx, dir, s)
		if ferr != nil && err == nil {
			err = ferr
		}
		if done {
			out = append(out, s)
		}
	}
	return out, err
}

// Latest returns the newest finished snapshot of g, and whether there is one.
func Latest(ctx context.Context, right CanRead, g name.Group) (name.Snapshot, bool, error) {
	all, err := snapshotDirs(ctx, right, g)
	if err != nil || len(all) == 0 {
		return name.Snapshot{}, false, err
	}
	dir, err := groupDir(ctx, right, g)
	if err != nil {
		return name.Snapshot{}, false, err
	}
	defer dir.Close()
	for _, s := range slices.Backward(all) {
		if done, err := finished(ctx, dir, s); done || err != nil {
			return s, done, err
		}
	}
	return name.Snapshot{}, false, nil
}

// snapshotDirs returns the snapshots for which g has directories, oldest first,
// finished or not.
func snapshotDirs(ctx context.Context, right CanRead, g name.Group) ([]name.Snapshot, error) {
	_, entries, err := list(ctx, right, g.Dir())
	var out []name.Snapshot
	for _, e := range entries {
		if !e.Dir {
			continue
		}
		t, terr := name.ParseTime(e.Name)
		if terr != nil {
			continue
		}
		if s, serr := name.NewSnapshot(g, t); serr == nil {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b name.Snapshot) int { return cmp.Compare(a.Time().Unix(), b.Time().Unix()) })
	return out, err
}

func groupDir(ctx context.Context, right CanRead, g name.Group) (backend.Directory, error) {
	r, err := held(right)
	if err != nil {
		return nil, err
	}
	root, err := r.Root()
	if err != nil {
		return nil, err
	}
	dir, err := root.OpenDir(ctx, g.Dir())
	return dir, r.ds.blame(ctx, root, err)
}

// finished reports whether a snapshot has its manifest, which is written last.
func finished(ctx context.Context, group backend.Directory, s name.Snapshot) (bool, error) {
	info, err := group.Stat(ctx, s.Time().String()+"/"+name.Manifest.String())
	switch {
	case err == nil:
		return info.IsRegular(), nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return false, nil
	}
	return false, err
}

// maxGroupFile bounds the size of a group's owner and notes.
const maxGroupFile = 1 << 20

// GroupFile is a text file of a group.
type GroupFile string

// The files that a group may have.
const (
	Owner GroupFile = "owner"
	Notes GroupFile = "notes"
)

// ReadGroupFile returns the content of a group's file, as stored. A file that
// does not exist is [fs.ErrNotExist].
func ReadGroupFile(ctx context.Context, right CanRead, g name.Group, f GroupFile) ([]byte, Attr, error) {
	r, err := held(right)
	if err != nil {
		return nil, Attr{}, err
	}
	if f != Owner && f != Notes {
		return nil, Attr{}, fmt.Errorf("group file %q: %w", f, fs.ErrNotExist)
	}
	if err := ctx.Err(); err != nil {
		return nil, Attr{}, context.Cause(ctx)
	}
	root, err := r.Root()
	if err != nil {
		return nil, Attr{}, err
	}
	text, info, err := root.ReadFile(ctx, g.Dir()+"/"+string(f), maxGroupFile, nil)
	if errors.Is(err, corrupt.Err) {
		return nil, Attr{}, fmt.Errorf("datastore %s: %w", r.ds.name, err)
	}
	return text, attrOf(info), r.ds.blame(ctx, root, err)
}

// GroupFiles returns which files g has.
func GroupFiles(ctx context.Context, right CanRead, g name.Group) ([]GroupFile, error) {
	r, root, err := begin(ctx, right)
	if err != nil {
		return nil, err
	}
	var out []GroupFile
	for _, f := range []GroupFile{Notes, Owner} {
		switch _, err := root.Stat(ctx, g.Dir()+"/"+string(f)); {
		case err == nil: // an entry that is no regular file exists, and cannot be read
			out = append(out, f)
		case !absent(err):
			return out, r.ds.blame(ctx, root, err)
		}
	}
	return out, nil
}
