package compare

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Version is one state of a path, in snapshots that follow each other.
type Version struct {
	// Snapshots are those that have it, oldest first.
	Snapshots []name.Snapshot
	// Node is the object in the oldest of them; nil if there is none, or if Err says
	// that it cannot be told.
	Node *tree.Node
	Err  error
	// What differs from the version before: nothing in the first one, and after one that
	// is not there.
	What []Detail
	// Content numbers the contents of the path, from 1, in the order in which they first
	// appear. It is 0 for what has no content, or if that cannot be told; ContentErr then
	// says why.
	Content    int
	ContentErr error
	// Added and Removed count the names in a directory that the version before did not
	// have, or had.
	Added, Removed int

	names []string
}

// maxContents bounds with how many earlier contents one is compared.
const maxContents = 64

// history is one run of Versions.
type history struct {
	holds    *tree.Holds
	t        *tree.Tree
	versions []Version
	contents []content // those that were seen last
	count    int
}

// content is one of the contents that a path had.
type content struct {
	number int
	snap   name.Snapshot
	node   *tree.Node
}

// Versions returns the states of a path in snapshots of one group, which come oldest
// first. path is that below a snapshot. A snapshot that was removed meanwhile is left out.
// seen is told of each snapshot.
func Versions(ctx context.Context, holds *tree.Holds, t *tree.Tree, snaps []name.Snapshot, path string, seen func()) ([]Version, error) {
	h := history{holds: holds, t: t}
	for _, s := range snaps {
		err := holds.Use(ctx, s, func(r *store.Reader) error { return h.add(ctx, r, s, path) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		seen()
	}
	return h.versions, nil
}

// add takes in the state of the path in a snapshot.
func (h *history) add(ctx context.Context, r *store.Reader, s name.Snapshot, path string) error {
	if _, err := h.t.Walk(ctx, r, s.String(), false); err != nil {
		return err // the snapshot is gone
	}
	n, err := h.t.Walk(ctx, r, s.String()+"/"+path, false)
	v := Version{Snapshots: []name.Snapshot{s}, Node: n}
	if err == nil {
		err = n.Broken()
	}
	var own *store.Error
	switch {
	case errors.Is(err, fs.ErrNotExist) && !errors.As(err, &own), errors.Is(err, unix.ENOTDIR):
		v.Node = nil
	case errors.As(err, &own):
		v.Node, v.Err = nil, err
	case err != nil:
		return err
	default:
		if err := h.fill(ctx, r, &v); err != nil {
			return err
		}
	}
	h.append(ctx, r, v)
	return nil
}

// fill completes a version with its content, or its names.
func (h *history) fill(ctx context.Context, r *store.Reader, v *Version) error {
	switch v.Node.Type() {
	case unix.S_IFREG:
		return h.number(ctx, r, v)
	case unix.S_IFDIR:
		err := tree.Visit(ctx, r, v.Node, func(e tree.Entry) error {
			v.names = append(v.names, e.Name)
			return nil
		})
		slices.Sort(v.names)
		var own *store.Error
		if errors.As(err, &own) {
			v.ContentErr, err = err, nil
		}
		return err
	}
	return nil
}

// number finds out which of the contents before this is, the last one first.
func (h *history) number(ctx context.Context, r *store.Reader, v *Version) error {
	for _, c := range slices.Backward(h.contents) {
		var same bool
		err := h.holds.Use(ctx, c.snap, func(old *store.Reader) (err error) {
			same, err = SameContent(ctx, Side{old, c.node}, Side{r, v.Node})
			return err
		})
		var own *store.Error
		switch {
		case same:
			v.Content = c.number
			return nil
		case errors.As(err, &own):
			v.ContentErr = err
			return nil
		case errors.Is(err, fs.ErrNotExist): // that snapshot is gone
		case err != nil:
			return err
		}
	}
	h.count++
	v.Content = h.count
	if len(h.contents) == maxContents {
		h.contents = h.contents[1:]
	}
	h.contents = append(h.contents, content{h.count, v.Snapshots[0], v.Node})
	return nil
}

// append adds a version, or its snapshot to the last version if that is the same.
func (h *history) append(ctx context.Context, r *store.Reader, v Version) {
	if len(h.versions) == 0 {
		h.versions = append(h.versions, v)
		return
	}
	last := &h.versions[len(h.versions)-1]
	if v.Node != nil && last.Node != nil {
		v.What = differences(ctx, r, last, &v)
	}
	if alike(last, &v) {
		last.Snapshots = append(last.Snapshots, v.Snapshots...)
		return
	}
	h.versions = append(h.versions, v)
}

// differences returns what has changed from one version to the next.
func differences(ctx context.Context, r *store.Reader, old, v *Version) []Detail {
	// The old node's own attributes are in memory, but for large ones: the archive that
	// has them may be read with any right to the datastore.
	what, err := Metadata(ctx, Side{r, old.Node}, Side{r, v.Node})
	if err != nil && v.ContentErr == nil {
		v.ContentErr = err
	}
	if old.Content != v.Content && old.Content != 0 && v.Content != 0 {
		what = append([]Detail{{What: Content}}, what...)
	}
	v.Added, v.Removed = counts(old.names, v.names)
	return what
}

// alike reports whether v is a further snapshot of the version last.
func alike(last, v *Version) bool {
	switch {
	case (last.Node == nil) != (v.Node == nil):
		return false
	case v.Node != nil:
		return len(v.What) == 0 && v.Added == 0 && v.Removed == 0 && v.ContentErr == nil && last.ContentErr == nil
	case v.Err == nil || last.Err == nil:
		return v.Err == nil && last.Err == nil
	}
	return cause(v.Err) == cause(last.Err)
}

func cause(err error) string {
	var own *store.Error
	if errors.As(err, &own) {
		return own.Cause()
	}
	return err.Error()
}

// counts returns how many names were added and removed. Both lists are sorted.
func counts(old, is []string) (added, removed int) {
	for _, n := range is {
		if _, ok := slices.BinarySearch(old, n); !ok {
			added++
		}
	}
	for _, n := range old {
		if _, ok := slices.BinarySearch(is, n); !ok {
			removed++
		}
	}
	return added, removed
}
