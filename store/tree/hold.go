package tree

import (
	"context"

	"github.com/pbsfs/pbsfs/store"
)

// Hold begins the read operation for a caller that keeps n open. The operation is
// counted, and the snapshot of n is locked against removal until the reader is
// released. Above the snapshots there is nothing to lock. The caller must Release the
// reader; errors are those of [store.Lookup.Acquire] and [store.Reader.Lock].
func Hold(ctx context.Context, ref *store.Lookup, n *Node) (*store.Reader, error) {
	r, err := ref.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	if s, ok := n.Snapshot(); ok {
		if err := r.Lock(ctx, s); err != nil {
			r.Release()
			return nil, err
		}
	}
	return r, nil
}
