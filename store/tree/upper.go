package tree

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
)

// These are the levels above the snapshots. Each is looked up on disk whenever it is
// asked for.

// nsName is the directory with the child namespaces, as on disk.
const nsName = "ns"

// latestName is the link to the newest finished snapshot of a group.
const latestName = "latest"

// namespace is the root of the datastore or a namespace below it.
type namespace struct {
	t  *Tree
	ns name.Namespace
}

func (d *namespace) aboveSnapshots()  {}
func (d *namespaces) aboveSnapshots() {}
func (d *backupType) aboveSnapshots() {}
func (d *group) aboveSnapshots()      {}

// dirNode makes the node of a directory on disk; [fs.ErrNotExist] if there is none.
func dirNode(ctx context.Context, right store.CanRead, parent *Node, name, dir string, b body) (*Node, error) {
	attr, err := store.Stat(ctx, right, dir)
	if err != nil {
		return nil, err
	}
	return &Node{id: parent.id.child(name, nil), attr: dirAttr(attr), body: b}, nil
}

func (d *namespace) lookup(ctx context.Context, right store.CanRead, n *Node, s string) (*Node, error) {
	if s == nsName {
		return dirNode(ctx, right, n, s, d.ns.Dir()+"/ns", &namespaces{d.t, d.ns})
	}
	typ, err := name.ParseType(s)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	return dirNode(ctx, right, n, s, d.ns.Dir()+"/"+s, &backupType{d.t, d.ns, typ})
}

func (d *namespace) list(ctx context.Context, right store.CanRead, n *Node) (Listing, error) {
	types, err := store.Types(ctx, right, d.ns)
	if err != nil && len(types) == 0 {
		return nil, err
	}
	l := &names{err: err}
	for _, t := range types {
		l.add(n, string(t), unix.S_IFDIR, nil)
	}
	switch _, err := store.Stat(ctx, right, d.ns.Dir()+"/ns"); {
	case err == nil:
		l.add(n, nsName, unix.S_IFDIR, nil)
	case !errors.Is(err, fs.ErrNotExist):
		l.err = errors.Join(l.err, err)
	}
	return l, nil
}

// namespaces is the directory ns of a namespace.
type namespaces struct {
	t  *Tree
	ns name.Namespace
}

func (d *namespaces) lookup(ctx context.Context, right store.CanRead, n *Node, s string) (*Node, error) {
	child, err := d.ns.Child(s)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	return dirNode(ctx, right, n, s, child.Dir(), &namespace{d.t, child})
}

func (d *namespaces) list(ctx context.Context, right store.CanRead, n *Node) (Listing, error) {
	children, err := store.Namespaces(ctx, right, d.ns)
	if err != nil && len(children) == 0 {
		return nil, err
	}
	l := &names{err: err}
	for _, c := range children {
		l.add(n, c.Base(), unix.S_IFDIR, nil)
	}
	return l, nil
}

// backupType is the directory of all groups of a type.
type backupType struct {
	t   *Tree
	ns  name.Namespace
	typ name.Type
}

func (d *backupType) lookup(ctx context.Context, right store.CanRead, n *Node, s string) (*Node, error) {
	g, err := name.NewGroup(d.ns, d.typ, s)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	return dirNode(ctx, right, n, s, g.Dir(), &group{d.t, g})
}

func (d *backupType) list(ctx context.Context, right store.CanRead, n *Node) (Listing, error) {
	groups, err := store.Groups(ctx, right, d.ns, d.typ)
	if err != nil && len(groups) == 0 {
		return nil, err
	}
	l := &names{err: err}
	for _, g := range groups {
		l.add(n, g.ID(), unix.S_IFDIR, nil)
	}
	return l, nil
}

// group is a backup group: its snapshots, the link to the newest, and its
// files.
type group struct {
	t *Tree
	g name.Group
}

func (d *group) lookup(ctx context.Context, right store.CanRead, n *Node, s string) (*Node, error) {
	switch s {
	case latestName:
		return d.latest(ctx, right, n)
	case string(store.Owner), string(store.Notes):
		return d.textFile(ctx, right, n, store.GroupFile(s))
	}
	t, err := name.ParseTime(s)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	snap, err := name.NewSnapshot(d.g, t)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	return d.t.snapshotNode(ctx, right, n, snap)
}

func (d *group) latest(ctx context.Context, right store.CanRead, n *Node) (*Node, error) {
	snap, ok, err := store.Latest(ctx, right, d.g)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fs.ErrNotExist
	}
	target := snap.Time().String()
	base := d.t.ref.Base()
	return &Node{
		// The kernel caches the target of a link as long as it knows the inode, so a
		// link with another target is another object.
		id: n.id.child(latestName, []byte(target)),
		attr: Attr{
			Mode: unix.S_IFLNK | 0o777, Nlink: 1, UID: base.UID, GID: base.GID,
			Size: int64(len(target)), Mtime: Time{Sec: snap.Time().Unix()},
		},
		target: target,
		body:   nil,
	}, nil
}

func (d *group) textFile(ctx context.Context, right store.CanRead, n *Node, f store.GroupFile) (*Node, error) {
	text, attr, err := store.ReadGroupFile(ctx, right, d.g, f)
	if err != nil {
		return nil, err
	}
	size := int64(len(text))
	return &Node{
		id: n.id.child(string(f), nil),
		attr: Attr{
			Mode: unix.S_IFREG | 0o444, Nlink: 1, UID: attr.UID, GID: attr.GID,
			Size: size, Blocks: blocks(size), Mtime: stampOf(attr),
		},
		body: &groupText{d.g, f},
	}, nil
}

func (d *group) list(ctx context.Context, right store.CanRead, n *Node) (Listing, error) {
	snaps, err := store.Snapshots(ctx, right, d.g)
	if err != nil && len(snaps) == 0 {
		return nil, err
	}
	l := &names{err: err}
	for _, s := range snaps {
		l.add(n, s.Time().String(), unix.S_IFDIR, nil)
	}
	if len(snaps) > 0 {
		l.add(n, latestName, unix.S_IFLNK, []byte(snaps[len(snaps)-1].Time().String()))
	}
	files, err := store.GroupFiles(ctx, right, d.g)
	l.err = errors.Join(l.err, err)
	for _, f := range files {
		l.add(n, string(f), unix.S_IFREG, nil)
	}
	return l, nil
}

// groupText is a text file of a group.
type groupText struct {
	g name.Group
	f store.GroupFile
}

func (b *groupText) open(ctx context.Context, right store.CanRead) (File, error) {
	text, _, err := store.ReadGroupFile(ctx, right, b.g, b.f)
	if err != nil {
		return nil, err
	}
	return Bytes(text), nil
}

// blocks returns how many units of 512 bytes hold n bytes.
func blocks(n int64) int64 { return n/512 + min(n%512, 1) }
