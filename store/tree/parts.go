package tree

import (
	"context"

	"github.com/pbsfs/pbsfs/store"
)

// What is here tells in which chunks something lies, without reading any chunk.

// Ranged is a listing that knows where its children lie. That of a directory in an archive
// is one.
type Ranged interface {
	Listing
	// ChildParts calls fn for the parts of the archive that the i-th child lies in, with
	// its name and everything below it. If whole is false, the contents of files are
	// elsewhere, and [Node.Parts] tells where. A hard link may need other parts, too.
	ChildParts(ctx context.Context, right store.CanRead, i int, fn func(store.Part) error) (whole bool, err error)
}

var _ Ranged = (*folderListing)(nil)

// ChildParts is that of [Ranged].
func (l *folderListing) ChildParts(ctx context.Context, right store.CanRead, i int, fn func(store.Part) error) (whole bool, err error) {
	a := l.d.c.a
	return !a.Split(), a.ChildParts(ctx, right, l.t, i, fn)
}

// Parts calls fn for the parts of a stream in which the content of a file of an archive
// lies, and what is needed to open it; known is false for every other node.
func (n *Node) Parts(ctx context.Context, right store.CanRead, fn func(store.Part) error) (known bool, err error) {
	b, ok := n.body.(*payload)
	if !ok {
		return false, nil
	}
	return true, b.c.a.ContentParts(ctx, right, b.p, fn)
}

// HasLinks reports whether in the archive of n a file has more names than one, and whether
// all such files are known.
func (n *Node) HasLinks(ctx context.Context, right store.CanRead) (some, known bool, err error) {
	d, ok := n.body.(*folder)
	if !ok {
		return false, true, nil
	}
	return d.c.a.HasLinks(ctx, right)
}
