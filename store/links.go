package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/pbsfs/pbsfs/store/catalog"
)

// maxLinkScan is the largest unified archive without a usable catalog that is read
// through for its hard links. For a larger one, that would read more than the user
// asked for.
const maxLinkScan = 256 << 20

// linkTable holds the hard links of an archive: for each file that has some, their
// number. It is settled once, before the first attributes of a regular file are
// returned: if a count changed later, programs would not recognize the links.
type linkTable struct {
	settling chan struct{} // a lock for which a waiter need not wait to the end; holds one token
	// extra is indexed by the position of the file's name. It is nil until it is
	// settled, with settling held.
	extra atomic.Pointer[map[int64]int]
	// partial is set before extra if not all links could be found.
	partial atomic.Bool
}

func newLinkTable() linkTable {
	return linkTable{settling: make(chan struct{}, 1)}
}

// LinkCount returns the number of names of the file whose name lies at pos. If the
// archive's links cannot be found, that is logged and every count is 1.
func (a *Archive) LinkCount(ctx context.Context, right CanRead, pos int64) (uint32, error) {
	if _, err := held(right); err != nil {
		return 0, err
	}
	n, known := a.KnownLinkCount(pos)
	if !known {
		if err := a.settleLinks(ctx, right); err != nil {
			return 0, err
		}
		n, _ = a.KnownLinkCount(pos)
	}
	return n, nil
}

// KnownLinkCount is LinkCount once it is known for the archive.
func (a *Archive) KnownLinkCount(pos int64) (n uint32, known bool) {
	extra := a.links.extra.Load()
	if extra == nil {
		return 0, false
	}
	return uint32(1 + (*extra)[pos]), true
}

// HasLinks reports whether a file of the archive has more names than one, and whether all
// such files are known.
func (a *Archive) HasLinks(ctx context.Context, right CanRead) (some, known bool, err error) {
	if _, err := a.LinkCount(ctx, right, 0); err != nil {
		return false, false, err
	}
	return len(*a.links.extra.Load()) > 0, !a.links.partial.Load(), nil
}

// settleLinks finds the hard links, unless another caller has done so meanwhile.
func (a *Archive) settleLinks(ctx context.Context, right CanRead) error {
	select {
	case a.links.settling <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-a.links.settling }()
	if a.links.extra.Load() != nil {
		return nil
	}
	extra, err := a.countLinks(ctx, right)
	switch {
	case err == nil:
	case errors.Is(err, ErrCorrupt):
		a.links.partial.Store(true)
		a.meta.snap.ds.log.Warn("hard links cannot be counted, files show a link count of 1", "error", a.Wrap(err))
	default:
		return err
	}
	a.links.extra.Store(&extra)
	return nil
}

// countLinks finds all hard links of the archive.
func (a *Archive) countLinks(ctx context.Context, right CanRead) (map[int64]int, error) {
	if a.format.Split() {
		return a.format.CountLinks(ctx, a.meta.metadata(ctx, right))
	}
	if extra, ok := a.rememberedLinks(); ok {
		return extra, nil
	}
	extra, err := a.cataloguedLinks(ctx, right)
	if err == nil {
		a.rememberLinks(extra)
	}
	if err == nil || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrKeyNeeded) {
		return extra, err
	}
	if a.meta.Size() > maxLinkScan {
		return nil, fmt.Errorf("no usable catalog: %w", err)
	}
	return a.format.CountLinks(ctx, a.meta.metadata(ctx, right))
}

// cataloguedLinks looks up the paths that the snapshot's catalog lists as hard links.
// The catalog may be wrong: a path that is no hard link is ignored.
func (a *Archive) cataloguedLinks(ctx context.Context, right CanRead) (map[int64]int, error) {
	stream, err := a.meta.snap.catalogStream()
	if err != nil {
		return nil, err
	}
	cr, ar, tables := stream.At(ctx, right), a.meta.metadata(ctx, right), a.tables(ctx, right)
	cat, err := catalog.Open(cr, stream.Size())
	if err != nil {
		return nil, err
	}
	extra := make(map[int64]int)
	err = cat.Walk(ctx, cr, a.meta.file.Name.String(), func(path []string, e catalog.Entry) error {
		if e.Kind != catalog.HardLink {
			return nil
		}
		pos, ok, err := a.format.LinkTarget(ar, path, tables)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		if ok && err == nil {
			extra[pos]++
		}
		return nil
	})
	return extra, err
}
