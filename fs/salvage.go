package fs

import (
	"context"
	"errors"
	"io"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// maxLookedAt is the longest content that is read to find out whether a list of extended
// attributes names [tree.DamagedName]. Programs such as ls ask for that list.
const maxLookedAt = 16 << 20

// damaged returns the attribute that says where a file has zeros, nil if it has none. That
// reads the whole file; with cheap, one that is too long only counts as damaged if that is
// known already.
func (i *inode) damaged(ctx context.Context, cheap bool) (attr *tree.Attribute, err error) {
	if !i.fsys.ref.Salvage() || !i.node.Load().Frozen() {
		return nil, nil
	}
	ctx, answered := patient(ctx)
	defer answered()
	err = i.fsys.ref.View(ctx, func(r *store.Reader) error {
		f, err := i.node.Load().Salvage(ctx, r)
		if f == nil || err != nil {
			return err
		}
		look := f.Damaged
		if cheap && f.Size() > maxLookedAt {
			look = f.Known
		}
		ranges, err := look(ctx, r)
		if err == nil && len(ranges) > 0 {
			attr = &tree.Attribute{Name: tree.DamagedName, Value: []byte(tree.RangesText(ranges, maxXattrValue))}
		}
		return err
	})
	return attr, err
}

// readPast reads a file that has zeros where chunks are damaged, and reports each such
// chunk once.
func (h *fileHandle) readPast(ctx context.Context, f tree.Salvaged, dest []byte, off int64) (int, error) {
	n, lost, err := f.ReadPast(ctx, h.right, dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	for _, l := range lost {
		h.fsys.failed(l.Err)
		h.fsys.problems.zeros(h.inode.Path(nil), l)
	}
	return n, err
}
