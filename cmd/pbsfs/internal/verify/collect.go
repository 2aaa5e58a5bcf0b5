package verify

import (
	"context"
	"errors"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Collect returns the snapshots at or below n, and those that have no manifest. An error
// that matches [tree.ErrIncomplete] says that there may be more.
func Collect(ctx context.Context, right store.CanRead, n *tree.Node) (finished, unfinished []name.Snapshot, err error) {
	err = tree.Snapshots(ctx, right, n, func(s name.Snapshot) error {
		finished = append(finished, s)
		return nil
	})
	if err != nil && !errors.Is(err, tree.ErrIncomplete) {
		return nil, nil, err
	}
	if _, one := n.Snapshot(); one {
		return finished, nil, err
	}
	gerr := tree.Groups(ctx, right, n, func(g name.Group) error {
		left, err := store.Unfinished(ctx, right, g)
		unfinished = append(unfinished, left...)
		if err != nil && endsRun(ctx, err) {
			return err
		}
		return nil // a group that cannot be listed is in err already
	})
	if gerr != nil && !errors.Is(gerr, tree.ErrIncomplete) {
		return nil, nil, gerr
	}
	return finished, unfinished, err
}
