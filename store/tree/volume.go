package tree

import (
	"context"
	"errors"
	"io"
	"path"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/volumes"
	"github.com/pbsfs/pbsfs/store/name"
)

// volume is a volume in the tree.
type volume struct {
	m    *machine
	disk int // that it is shown under, for messages
	v    *volumes.Volume
	id   ID
	path string // below the directory of the disk, for messages
}

// volumeNodes returns the nodes of a volume: the top directory of its file system, or its
// bytes, if they may be wanted, with a text that says what they are. at is where it is, from
// the directory of the disk.
func (d *diskDir) volumeNodes(n *Node, at string, v *volumes.Volume, asFile bool) []child {
	called := path.Base(at)
	vol := &volume{m: d.m, disk: d.disk, v: v, id: n.id.child(called, nil), path: at}
	switch {
	case v.Err != nil:
		b := d.below(n, called, nil)
		b.node.attr.Mode, b.node.body = unix.S_IFDIR|0o500, &broken{vol.wrap(v.Err)}
		return []child{b}
	case v.Filesystem != "":
		return []child{{called, vol.top()}}
	}
	text := n.fileBelow(called+".txt", int64(len(v.Reason)+1))
	text.body = &reason{vol}
	out := []child{{called + ".txt", text}}
	if asFile && v.Readable() {
		bytes := n.fileBelow(called+".img", v.Size)
		bytes.body, bytes.attr.Blocks = &volumeBytes{vol}, blocks(v.Allocated)
		out = append([]child{{called + ".img", bytes}}, out...)
	}
	return out
}

// fileBelow makes the node of a file that belongs to nobody in particular.
func (n *Node) fileBelow(called string, size int64) *Node {
	f := &Node{id: n.id.child(called, nil), frozen: true}
	f.attr = Attr{Mode: unix.S_IFREG | 0o444, Nlink: 1, UID: n.attr.UID, GID: n.attr.GID, Mtime: n.attr.Mtime}
	f.setSize(size)
	return f
}

// about are the attributes that say what the file system is.
func (v *volume) about() []Attribute {
	var out []Attribute
	add := func(name, value string) {
		if value != "" {
			out = append(out, Attribute{Name: "user.pbs." + name, Value: []byte(value)})
		}
	}
	add("filesystem", v.v.Filesystem)
	add("label", v.v.Label)
	add("log", v.v.Log)
	add("note", v.v.Note)
	add("uuid", v.v.UUID)
	return out
}

func (v *volume) wrap(err error) error { return v.m.wrap(v.disk, v.path, err) }

// system returns the file system, and what it is read from in this call.
func (v *volume) system(ctx context.Context, right store.CanRead) (image.FileSystem, io.ReaderAt, error) {
	disks := v.m.readers(ctx, right)
	if fsys, ok := v.m.t.systems.Get(v.id); ok {
		return fsys, v.v.Reader(disks), nil
	}
	fsys, err := v.v.Open(disks)
	if err != nil {
		return nil, nil, v.wrap(err)
	}
	v.m.t.systems.Put(v.id, fsys, 1)
	return fsys, v.v.Reader(disks), nil
}

// reason is the text that says why a volume is not shown.
type reason struct{ *volume }

func (b *reason) snapshot() name.Snapshot { return b.m.s.Name() }

func (b *reason) open(context.Context, store.CanRead) (File, error) {
	return Bytes(b.v.Reason + "\n"), nil
}

// volumeBytes is the content of a volume that is not shown.
type volumeBytes struct{ *volume }

func (b *volumeBytes) snapshot() name.Snapshot { return b.m.s.Name() }

func (b *volumeBytes) open(context.Context, store.CanRead) (File, error) {
	return volumeContent{b.volume}, nil
}

// volumeContent is the opened content of a volume.
type volumeContent struct{ *volume }

func (c volumeContent) Size() int64 { return c.v.Size }

func (c volumeContent) ReadAt(ctx context.Context, right store.CanRead, p []byte, off int64) (int, error) {
	n, err := c.v.Reader(c.m.readers(ctx, right)).ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		return n, io.EOF
	}
	return n, c.wrap(err)
}

func (c volumeContent) NextData(ctx context.Context, right store.CanRead, off int64) (int64, error) {
	return c.v.NextData(holes{ctx, right, c.m}, off)
}

func (c volumeContent) NextHole(ctx context.Context, right store.CanRead, off int64) (int64, error) {
	return c.v.NextHole(holes{ctx, right, c.m}, off)
}

// holes are the disks in a call that asks for holes.
type holes struct {
	ctx   context.Context
	right store.CanRead
	m     *machine
}

func (h holes) NextData(disk int, off int64) (int64, error) {
	return h.m.streams[disk].NextData(h.ctx, h.right, off)
}

func (h holes) NextHole(disk int, off int64) (int64, error) {
	return h.m.streams[disk].NextHole(h.ctx, h.right, off)
}

var _ Sparse = volumeContent{}
