package tree

import (
	"context"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/volumes"
	"github.com/pbsfs/pbsfs/store/name"
)

// The directory of a disk has what lies on it, in the words of the official tool:
//
//	part/2/…        a file system in a partition
//	part/3.img      a partition that cannot be read, and
//	part/3.txt      what it is
//	raw/…           a file system right on the disk
//	lvm/VG/LV/…     a file system in a logical volume

// diskDir is the directory of a disk, or one below it whose children are few and all in
// memory.
type diskDir struct {
	m        *machine
	disk     int
	children func(ctx context.Context, right store.CanRead, d *diskDir, n *Node) ([]child, error)
}

func (d *diskDir) snapshot() name.Snapshot { return d.m.s.Name() }

// below makes the node of a directory below n.
func (d *diskDir) below(n *Node, called string, children func(context.Context, store.CanRead, *diskDir, *Node) ([]child, error)) child {
	return child{called, &Node{
		id: n.id.child(called, nil), frozen: true, body: &diskDir{d.m, d.disk, children},
		attr: Attr{Mode: dirMode, Nlink: 1, UID: n.attr.UID, GID: n.attr.GID, Mtime: n.attr.Mtime},
	}}
}

const (
	partName  = "part"
	rawName   = "raw"
	groupName = "lvm"
)

// found returns what lies on the disk.
func (d *diskDir) found(ctx context.Context, right store.CanRead) (*volumes.Disk, error) {
	l, err := d.m.look(ctx, right)
	if err != nil {
		return nil, err
	}
	on := &l.Disks[d.disk]
	return on, d.m.wrap(d.disk, "partition table", on.Err)
}

// onDisk makes the nodes in the directory of a disk.
func onDisk(ctx context.Context, right store.CanRead, d *diskDir, n *Node) ([]child, error) {
	on, err := d.found(ctx, right)
	if err != nil {
		return nil, err
	}
	var out []child
	if len(on.Parts) > 0 {
		out = append(out, d.below(n, partName, parts))
	}
	if on.Raw != nil {
		out = append(out, d.volumeNodes(n, rawName, on.Raw, false)...)
	}
	if len(on.Groups) > 0 {
		out = append(out, d.below(n, groupName, groups))
	}
	return out, nil
}

func parts(ctx context.Context, right store.CanRead, d *diskDir, n *Node) ([]child, error) {
	on, err := d.found(ctx, right)
	if err != nil {
		return nil, err
	}
	var out []child
	for _, v := range on.Parts {
		out = append(out, d.volumeNodes(n, partName+"/"+strconv.Itoa(v.Number), v, true)...)
	}
	return out, nil
}

func groups(ctx context.Context, right store.CanRead, d *diskDir, n *Node) ([]child, error) {
	on, err := d.found(ctx, right)
	if err != nil {
		return nil, err
	}
	var out []child
	for _, g := range on.Groups {
		if validName(g.Name) {
			out = append(out, d.below(n, g.Name, volumesOf(g)))
		}
	}
	return out, nil
}

func volumesOf(g *volumes.Group) func(context.Context, store.CanRead, *diskDir, *Node) ([]child, error) {
	return func(_ context.Context, _ store.CanRead, d *diskDir, n *Node) ([]child, error) {
		var out []child
		for _, v := range g.Volumes {
			if validName(v.Name) {
				out = append(out, d.volumeNodes(n, groupName+"/"+g.Name+"/"+v.Name, v, true)...)
			}
		}
		return out, nil
	}
}

// validName reports whether a name from a disk can be that of a file.
func validName(s string) bool { return image.ValidName(s) && len(s) <= unix.NAME_MAX }

// child is a node with its name.
type child struct {
	name string
	node *Node
}

func (d *diskDir) lookup(ctx context.Context, right store.CanRead, n *Node, called string) (*Node, error) {
	all, err := d.children(ctx, right, d, n)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.name == called {
			return c.node, nil
		}
	}
	return nil, errNotThere
}

func (d *diskDir) list(ctx context.Context, right store.CanRead, n *Node) (Listing, error) {
	all, err := d.children(ctx, right, d, n)
	if err != nil {
		return nil, err
	}
	l := &names{}
	for _, c := range all {
		l.entries = append(l.entries, Entry{Name: c.name, Type: c.node.Type(), ID: c.node.id, Node: c.node})
	}
	return l, nil
}
