package catalog

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Subtree is a directory with everything below it. In a catalog that was written as
// catalogs are, it is one range of the stream, because a directory comes after what it
// holds, and all that it says of places is relative: equal bytes are equal trees.
type Subtree struct {
	place Place
	begin int64 // of the first block below it; negative if the order is another one
	end   int64 // of the directory's own block
	depth int
	// left is how many bytes may still be read of the tree that it belongs to: two parents
	// may share a child, so that a small catalog describes an endless tree.
	left *atomic.Int64
}

// maxReads is how often the directories of a tree may be read.
const maxReads = 4

// Range returns the bytes of the subtree, and whether they are known.
func (t Subtree) Range() (begin, end int64, ok bool) { return t.begin, t.end, t.begin >= 0 }

// Archive returns the tree of an archive, which is called by its stored name. It can be
// read a few times; then the tree is taken for an endless one.
func (c *Catalog) Archive(ctx context.Context, r io.ReaderAt, stored string) (Subtree, error) {
	root := Subtree{place: c.Root(), begin: magicSize, left: new(atomic.Int64)}
	root.left.Store(maxReads * c.size)
	var found *Subtree
	err := c.Entries(ctx, r, root, func(e Entry, below Subtree) error {
		if e.Name == stored && e.Kind == Dir && found == nil {
			found = &below
		}
		return nil
	})
	switch {
	case err != nil:
		return Subtree{}, err
	case found == nil:
		return Subtree{}, corrupt.New("catalog does not list archive %q", stored)
	}
	return *found, nil
}

// Entries calls fn for each entry of the directory at the top of t, in stored order,
// with what lies below it if it is a directory. Entries whose name is none are left out.
// An error of fn is returned as it is.
func (c *Catalog) Entries(ctx context.Context, r io.ReaderAt, t Subtree, fn func(e Entry, below Subtree) error) error {
	p := t.place
	if t.left == nil || p.start < magicSize || p.limit > c.size-pointerSize || p.limit-p.start < minBlock {
		return corrupt.At(p.start, "catalog: no room for a directory before %d", p.limit)
	}
	var d table
	if err := d.read(r, p.start, p.limit, maxBlock); err != nil {
		return err
	}
	if t.left.Add(-d.size) < 0 {
		return corrupt.At(p.start, "catalog: directories overlap or are listed more than once")
	}
	next := t.begin
	for n := 1; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		e, child, more, err := d.next()
		if err != nil || !more {
			return err
		}
		var below Subtree
		if e.Kind == Dir {
			if below, err = d.below(r, child, next); err != nil {
				return err
			}
			if below.depth, below.left = t.depth+1, t.left; below.depth > maxDepth {
				return corrupt.At(child, "catalog: directories are nested more than %d deep", maxDepth)
			}
			if next = below.end; below.begin < 0 {
				next = -1
			}
		}
		if !isName(e.Name) {
			continue
		}
		if err := fn(e, below); err != nil {
			return err
		}
	}
}

// below returns the subtree of the directory whose block is at child. begin is where the
// one before it ends; negative if that is not known.
func (t *table) below(r io.ReaderAt, child, begin int64) (Subtree, error) {
	var head [maxUnsigned]byte
	b := head[:min(int64(len(head)), t.start-child)]
	if err := readFull(r, b, child); err != nil {
		return Subtree{}, err
	}
	length, n := unsigned(b)
	if n == 0 || length > uint64(t.start-child-int64(n)) {
		return Subtree{}, corrupt.At(child, "catalog: directory has no valid length")
	}
	out := Subtree{place: Place{start: child, limit: t.start}, begin: begin, end: child + int64(n) + int64(length)}
	if begin > child {
		out.begin = -1
	}
	return out, nil
}
