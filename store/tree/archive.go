package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// errNotThere is the answer for a name that does not exist.
var errNotThere = fmt.Errorf("no such entry: %w", fs.ErrNotExist)

// content is the state that the nodes of one archive share.
type content struct {
	a    *store.Archive
	root ID // of the archive's top directory
}

// folder is a directory inside an archive.
type folder struct {
	c    *content
	dir  pxar.Dir
	up   *folder // nil for the top directory
	name string
}

// path returns the names on the way from the archive's top to the directory.
func (d *folder) path() []string {
	var path []string
	for ; d.up != nil; d = d.up {
		path = append(path, d.name)
	}
	slices.Reverse(path)
	return path
}

// payload is a regular file inside an archive.
type payload struct {
	c *content
	p pxar.Payload
}

// fillRoot makes n the top directory of an archive.
func fillRoot(ctx context.Context, right store.CanRead, n *Node, a *store.Archive) error {
	e, err := a.Root(ctx, right)
	if err != nil {
		return err
	}
	c := &content{a: a, root: n.id}
	return c.fill(ctx, right, n, e, where{})
}

// where says how an entry was reached. Directories keep it, and so do nodes whose
// extended attributes are too large to be kept. It is zero for the top directory.
type where struct {
	up   *folder
	name string
}

// fill makes n the node of an entry.
func (c *content) fill(ctx context.Context, right store.CanRead, n *Node, e *pxar.Entry, w where) error {
	links := uint32(1)
	if e.Type() == unix.S_IFREG {
		var err error
		if links, err = c.a.LinkCount(ctx, right, e.NamePos); err != nil {
			return err
		}
	}
	c.describe(n, e, w, links)
	return nil
}

// describe fills n with what an entry says. links is how many names it has, 1 unless it
// is a regular file.
func (c *content) describe(n *Node, e *pxar.Entry, w where, links uint32) {
	n.frozen = true
	n.attr = Attr{Mode: e.Mode, Nlink: links, UID: e.UID, GID: e.GID, Mtime: e.Mtime, Flags: uint32(e.Flags), Project: e.ProjectID}
	n.xattrs = c.xattrsOf(e, w)
	switch n.Type() {
	case unix.S_IFDIR:
		n.body = &folder{c, e.Dir, w.up, w.name}
	case unix.S_IFREG:
		n.setSize(e.Payload.Size)
		n.body = &payload{c, e.Payload}
	case unix.S_IFLNK:
		n.target = e.Target
		n.attr.Size = int64(len(e.Target))
	case unix.S_IFCHR, unix.S_IFBLK:
		n.attr.Rdev = rdev(e.Device)
	}
}

// rdev encodes a device number for FUSE: in the kernel's 32-bit form.
func rdev(d pxar.Device) uint32 {
	return d.Minor&0xff | d.Major<<8&0xfff00 | d.Minor&^0xff<<12
}

// id returns the identity of an entry: that of its path, or, for a hard link, that of
// its target's path.
func (c *content) id(ctx context.Context, right store.CanRead, parent ID, name string, e *pxar.Entry) (ID, error) {
	if !e.Link {
		return parent.child(name, nil), nil
	}
	path, err := c.a.PathOf(ctx, right, e.NamePos)
	if err != nil {
		return ID{}, err
	}
	id := c.root
	for _, p := range path {
		id = id.child(p, nil)
	}
	return id, nil
}

func (c *content) node(ctx context.Context, right store.CanRead, parent *Node, up *folder, name string, e *pxar.Entry) (*Node, error) {
	id, err := c.id(ctx, right, parent.id, name, e)
	if err != nil {
		return nil, err
	}
	n := &Node{id: id}
	if err := c.fill(ctx, right, n, e, where{up, name}); err != nil {
		return nil, err
	}
	return n, nil
}

func (d *folder) lookup(ctx context.Context, right store.CanRead, n *Node, name string) (*Node, error) {
	e, err := d.c.a.Lookup(ctx, right, d.dir, name)
	if err != nil {
		return nil, err
	}
	return d.c.node(ctx, right, n, d, name, e)
}

// remembered is lookup from memory alone.
func (d *folder) remembered(n *Node, name string) (*Node, error) {
	e, err := d.c.a.Remembered(d.dir, name)
	if err != nil {
		return nil, err
	}
	links, known := uint32(1), !e.Link // the identity of a link is that of another path
	if known && e.Type() == unix.S_IFREG {
		links, known = d.c.a.KnownLinkCount(e.NamePos)
	}
	if !known {
		return nil, store.ErrNotInMemory
	}
	child := &Node{id: n.id.child(name, nil)}
	d.c.describe(child, e, where{d, name}, links)
	return child, nil
}

func (d *folder) list(ctx context.Context, right store.CanRead, n *Node) (Listing, error) {
	t, err := d.c.a.Table(ctx, right, d.dir)
	if err != nil {
		return nil, err
	}
	return &folderListing{d: d, n: n, t: t, visit: d.c.a.Visit(t)}, nil
}

func (b *payload) open(ctx context.Context, right store.CanRead) (File, error) {
	if b.c.a.Snapshot().Salvages() {
		return b.c.a.Salvage(ctx, right, b.p)
	}
	return b.c.a.Content(ctx, right, b.p)
}

// maxKeptXattrs is how many bytes of extended attributes a node keeps. Larger ones are
// read when they are asked for.
const maxKeptXattrs = 1024

// xattrs are the extended attributes of a node.
type xattrs struct {
	small []Attribute
	// large is set instead if the attributes are too large to be kept.
	large attributeReader
}

// attributeReader reads all extended attributes of a node.
type attributeReader interface {
	readAttributes(ctx context.Context, right store.CanRead) ([]Attribute, error)
}

type largeXattrs struct {
	c *content
	w where
}

func (c *content) xattrsOf(e *pxar.Entry, w where) xattrs {
	return keptXattrs(e.Attributes(), &largeXattrs{c, w})
}

// keptXattrs keeps attributes, or how to read them again if they are too large.
func keptXattrs(all []Attribute, again attributeReader) xattrs {
	size := 0
	for _, a := range all {
		size += len(a.Name) + len(a.Value)
	}
	if size <= maxKeptXattrs {
		return xattrs{small: all}
	}
	return xattrs{large: again}
}

// Xattrs returns the extended attributes that are in memory, and whether these are all.
// If not, [Node.ReadXattrs] returns all.
func (n *Node) Xattrs() ([]Attribute, bool) {
	return n.xattrs.small, n.xattrs.large == nil
}

// ReadXattrs returns all extended attributes.
func (n *Node) ReadXattrs(ctx context.Context, right store.CanRead) ([]Attribute, error) {
	large := n.xattrs.large
	if large == nil {
		return n.xattrs.small, nil
	}
	return large.readAttributes(ctx, right)
}

// StoredXattrs returns the extended attributes that were backed up with the object:
// those of [Node.ReadXattrs] without what describes the backup.
func (n *Node) StoredXattrs(ctx context.Context, right store.CanRead) ([]Attribute, error) {
	if !n.BackedUp() {
		return nil, nil
	}
	if d, ok := n.body.(*insideDir); ok && n.id == d.v.id { // the top of a file system says what that is
		return d.readAttributes(ctx, right)
	}
	return n.ReadXattrs(ctx, right)
}

func (l *largeXattrs) readAttributes(ctx context.Context, right store.CanRead) ([]Attribute, error) {
	e, err := l.read(ctx, right)
	if err != nil {
		return nil, err
	}
	return e.Attributes(), nil
}

func (l *largeXattrs) read(ctx context.Context, right store.CanRead) (*pxar.Entry, error) {
	if l.w.up == nil {
		return l.c.a.Root(ctx, right)
	}
	e, err := l.c.a.Lookup(ctx, right, l.w.up.dir, l.w.name)
	if errors.Is(err, fs.ErrNotExist) { // the entry existed before, and nothing changes here
		return nil, fmt.Errorf("%s: entry has vanished from an archive", l.w.name)
	}
	return e, err
}
