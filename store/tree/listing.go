package tree

import (
	"context"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
)

// Entry is one line of a listing.
type Entry struct {
	// Name is "" for an entry whose name cannot be shown; Err says why.
	Name string
	// Type is the S_IFMT bits, 0 when unknown. Inside an archive, without a Node, it
	// comes from the catalog.
	Type uint32
	// ID is the identity of the object; the zero ID when unknown.
	ID ID
	// Node is the object itself, if it was read to make this entry.
	Node *Node
	// Stored is the file of the snapshot that the entry shows; for the two halves of a
	// split archive it is that of the metadata. It is zero anywhere but in the directory
	// of a snapshot.
	Stored name.File
	// Err says what is wrong with the entry. Its listing is then not complete.
	Err error
}

// Listing is the children of a directory. The order stays the same as long as the
// directory has not changed, and each entry is found in O(1). A Listing must not be
// used concurrently.
type Listing interface {
	// Len returns the number of entries, damaged ones included.
	Len() int
	// At returns the i-th entry. An error means that the entry could not be
	// looked at now; a damaged one is an Entry with Err set.
	At(ctx context.Context, right store.CanRead, i int) (Entry, error)
	// Err returns why the listing is not complete, apart from its damaged
	// entries.
	Err() error
}

// names is a listing that is in memory as a whole.
type names struct {
	entries []Entry
	err     error
}

func (l *names) Len() int   { return len(l.entries) }
func (l *names) Err() error { return l.err }
func (l *names) At(_ context.Context, _ store.CanRead, i int) (Entry, error) {
	return l.entries[i], nil
}

func (l *names) add(n *Node, name string, typ uint32, salt []byte) {
	l.entries = append(l.entries, Entry{Name: name, Type: typ, ID: n.id.child(name, salt)})
}
