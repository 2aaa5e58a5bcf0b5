package tree

import (
	"context"

	"github.com/pbsfs/pbsfs/store"
)

// Alike reports whether two directories of archives are known to be the same, with
// everything below them. It reads no content. False means that they may differ. Each
// directory is read with a right of its own.
func Alike(ctx context.Context, right store.CanRead, a *Node, right2 store.CanRead, b *Node) (bool, error) {
	d, ok := a.body.(*folder)
	if !ok {
		return false, nil
	}
	e, ok := b.body.(*folder)
	if !ok {
		return false, nil
	}
	return store.Alike(ctx,
		store.Folder{Right: right, Archive: d.c.a, Dir: d.dir, Path: d.path()},
		store.Folder{Right: right2, Archive: e.c.a, Dir: e.dir, Path: e.path()})
}
