package find

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Found is one state of a file, in some of the snapshots of a group.
type Found struct {
	// Path is that in the newest of the snapshots, below a mount point.
	Path string
	// Below is the path below any of the snapshots.
	Below string
	State State
	// Count is in how many snapshots the file is in this state; First and Last are the
	// oldest and the newest of them.
	Count       int
	First, Last name.Snapshot
	// Snapshots are all of them, oldest first, if the search was asked for that.
	Snapshots []name.Snapshot
}

// Search is a search through backup groups. Its methods must not be called concurrently.
type Search struct {
	Holds  *tree.Holds
	Tree   *tree.Tree
	Filter *Filter
	// All asks for the snapshots of each file.
	All bool
	// Fn gets what is found: a directory before what it holds, names in their order, and
	// of each name the newest state first.
	Fn func(Found) error
	// Problem is told what cannot be read. It is called concurrently, as is Seen, which is
	// told how many entries have been looked at.
	Problem func(path string, err error)
	Seen    func(entries int)

	marker *store.Marker
	limit  int64 // for tests: instead of batchLimit
}

// Group searches snapshots of one group, which come oldest first, at a path below each of
// them; nil means everything.
func (s *Search) Group(ctx context.Context, snaps []name.Snapshot, at []string) error {
	if len(snaps) == 0 {
		return nil
	}
	s.marker = store.NewMarker()
	if s.limit == 0 {
		s.limit = batchLimit
	}
	g := group{Search: s, ctx: ctx, snaps: snaps}
	return g.top(at)
}

// group is one run of Search.Group.
type group struct {
	*Search
	ctx   context.Context
	snaps []name.Snapshot
}

// use calls fn with the right to read a snapshot. If it has been removed, use reports
// false, and fn may not have been called.
func (g *group) use(i int32, fn func(*store.Reader) error) (there bool, err error) {
	err = g.Holds.Use(g.ctx, g.snaps[i], fn)
	if gone(err) {
		return false, nil
	}
	return true, err
}

// gone reports whether err says that a snapshot has been removed.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) && !stored(err) || errors.Is(err, store.ErrReplaced)
}

// stored reports whether err concerns what is stored in one snapshot.
func stored(err error) bool {
	var own *store.Error
	return errors.As(err, &own) || errors.Is(err, store.ErrCorrupt)
}

// problem tells of an error about a path of a snapshot, unless it says nothing about what
// is stored there.
func (g *group) problem(i int32, below string, err error) error {
	if err == nil || !stored(err) || errors.Is(err, store.ErrReplaced) {
		return err
	}
	g.Problem(strings.TrimSuffix(g.snaps[i].String()+"/"+below, "/"), err)
	return nil
}

// workers returns how many snapshots are read at a time: more than there are processors,
// because each waits for its chunks now and then.
func workers() int { return 2 * runtime.GOMAXPROCS(0) }

// each calls fn for the numbers below n, several at a time, until there is an error.
func (g *group) each(n int, fn func(i int) error) error {
	count := min(workers(), n)
	if count <= 1 {
		for i := range n {
			if err := fn(i); err != nil {
				return err
			}
		}
		return nil
	}
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, count)
	for k := range count {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && errs[k] == nil; i = next.Add(1) - 1 {
				if errs[k] = fn(int(i)); errs[k] != nil {
					next.Store(int64(n))
				}
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
