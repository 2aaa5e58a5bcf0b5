package tree

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// folderListing lists the children of a directory in an archive, in the order in which
// they are stored. It reads each child when it is asked for.
//
// A child whose entry is not in memory is listed from the catalog, if that agrees with
// the directory's table. Reading the entry would mean decoding its chunk, which
// consists mostly of content that was not asked for. A lookup of the child reads it.
type folderListing struct {
	d *folder
	n *Node
	t *pxar.Table

	names *store.Names // nil if the catalog is of no use
	asked bool         // whether names has been set

	visit *store.Visit
	next  int // how many children the visit was told of
}

func (l *folderListing) Len() int { return l.t.Len() }

func (l *folderListing) Err() error { return l.d.c.a.Wrap(l.t.Err()) }

func (l *folderListing) At(ctx context.Context, right store.CanRead, i int) (Entry, error) {
	e, err := l.at(ctx, right, i)
	if err == nil && i == l.next {
		l.foresee(ctx, right, e)
	}
	return e, err
}

// foresee tells the visit of the next child.
func (l *folderListing) foresee(ctx context.Context, right store.CanRead, e Entry) {
	if e.Type == unix.S_IFDIR {
		l.visit.Below(l.next)
	}
	if l.next++; l.next == l.t.Len() {
		l.visit.Ahead(ctx, right)
	}
}

func (l *folderListing) at(ctx context.Context, right store.CanRead, i int) (Entry, error) {
	name, e, err := l.d.c.a.ChildInMemory(ctx, right, l.t, i)
	if errors.Is(err, store.ErrNotInMemory) {
		if err := l.ask(ctx, right); err != nil {
			return Entry{}, err
		}
		if l.names != nil {
			return l.named(ctx, right, i)
		}
		name, e, err = l.d.c.a.Child(ctx, right, l.t, i)
	}
	return l.entry(ctx, right, name, e, err)
}

// ask finds out whether the catalog has the names.
func (l *folderListing) ask(ctx context.Context, right store.CanRead) (err error) {
	if l.asked {
		return nil
	}
	if l.names, err = l.d.c.a.Names(ctx, right, l.t, l.d.path()); err == nil {
		l.asked = true
	}
	return err
}

// entry makes an entry of the result of reading a child.
func (l *folderListing) entry(ctx context.Context, right store.CanRead, name string, e *pxar.Entry, err error) (Entry, error) {
	if err == nil {
		var n *Node
		if n, err = l.d.c.node(ctx, right, l.n, l.d, name, e); err == nil {
			return Entry{Name: name, Type: n.Type(), ID: n.id, Node: n}, nil
		}
	}
	if ofSnapshot(err) {
		return Entry{Name: name, Err: err}, nil
	}
	return Entry{}, err
}

// named makes an entry from the catalog. The identity of a hard link is that of another
// path, which only its own entry tells. The identity of an unreadable child is not
// needed.
func (l *folderListing) named(ctx context.Context, right store.CanRead, i int) (Entry, error) {
	name, kind := l.names.At(i)
	out := Entry{Name: name, Type: typeOf(kind), ID: l.n.id.child(name, nil)}
	if kind != catalog.HardLink {
		return out, nil
	}
	stored, e, err := l.d.c.a.Child(ctx, right, l.t, i)
	switch read, err := l.entry(ctx, right, stored, e, err); {
	case err != nil:
		return Entry{}, err
	case read.Err == nil:
		return read, nil
	}
	return out, nil
}

// typeOf returns the S_IFMT bits for a kind in the catalog.
func typeOf(k catalog.Kind) uint32 {
	switch k {
	case catalog.Dir:
		return unix.S_IFDIR
	case catalog.File, catalog.HardLink:
		return unix.S_IFREG
	case catalog.Symlink:
		return unix.S_IFLNK
	case catalog.BlockDevice:
		return unix.S_IFBLK
	case catalog.CharDevice:
		return unix.S_IFCHR
	case catalog.Fifo:
		return unix.S_IFIFO
	case catalog.Socket:
		return unix.S_IFSOCK
	}
	return 0
}
