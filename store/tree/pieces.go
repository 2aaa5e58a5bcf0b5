package tree

import (
	"context"

	"github.com/pbsfs/pbsfs/store"
)

// Pieced is a content that knows in which chunks it lies. To ask for its pieces reads
// indexes, and no content.
type Pieced interface {
	Size() int64
	// Piece returns the piece that begins at off; [io.EOF] at the end.
	Piece(ctx context.Context, right store.CanRead, off int64) (store.Piece, error)
}

var (
	_ Pieced = store.Extent{}
	_ Pieced = (*store.Stream)(nil)
)

// Pieces returns the content of a file of an archive, or of an image, as pieces. It is
// nil for all other nodes: their content must be read to be compared.
func (n *Node) Pieces() (Pieced, error) {
	switch b := n.body.(type) {
	case *payload:
		return b.c.a.Claimed(b.p)
	case *streamFile:
		return b.s, nil
	}
	return nil, nil
}

// MadeUp reports whether owner, permissions and time of the node are not part of the
// backup: those of what lies beside the archives come from the datastore, and the time
// is that of the snapshot.
func (n *Node) MadeUp() bool {
	switch n.body.(type) {
	case *folder, *payload, *insideDir, *insideFile:
		return false
	case nil: // a link or a device; that to the newest snapshot is not frozen
		return !n.frozen
	}
	return true
}

// IsArchive reports whether the node is the top directory of an archive.
func (n *Node) IsArchive() bool {
	d, ok := n.body.(*folder)
	return ok && d.up == nil
}
