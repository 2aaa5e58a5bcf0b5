package tree

import (
	"context"
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/name"
)

// Objects in the file system of a volume are found by their inode numbers. Two names of one
// object have one identity, as with hard links in an archive.

// inside is an object in a volume.
type inside struct {
	v      *volume
	number uint64
}

// insideDir and insideFile are the bodies of directories and of regular files.
type (
	insideDir  struct{ inside }
	insideFile struct{ inside }
)

func (i inside) snapshot() name.Snapshot { return i.v.m.s.Name() }

// idOf returns the identity of an object.
func (v *volume) idOf(number uint64) ID {
	return v.id.child("inode", binary.LittleEndian.AppendUint64(nil, number))
}

// top returns the top directory of the file system.
func (v *volume) top() *Node {
	n := &Node{id: v.id}
	v.describe(n, v.v.Top)
	kept := make([]Attribute, 0, len(v.v.TopXattrs))
	for _, x := range v.v.TopXattrs {
		kept = append(kept, Attribute{Name: x.Name, Value: x.Value})
	}
	n.xattrs = keptXattrs(append(kept, v.about()...), v)
	return n
}

// readAttributes returns the attributes of the top directory.
func (v *volume) readAttributes(ctx context.Context, right store.CanRead) ([]Attribute, error) {
	all, err := inside{v, v.v.Top.Number}.readAttributes(ctx, right)
	return append(all, v.about()...), err
}

// describe fills a node with what the inode says.
func (v *volume) describe(n *Node, i *image.Inode) {
	n.frozen = true
	n.attr = Attr{
		Mode: i.Mode, Nlink: i.Nlink, UID: i.UID, GID: i.GID, Size: i.Size, Blocks: i.Blocks,
		Mtime: Time{Sec: i.Mtime.Sec, Nsec: i.Mtime.Nsec},
	}
	switch at := (inside{v, i.Number}); i.Type() {
	case image.Dir:
		n.body = &insideDir{at}
	case image.Regular:
		n.body = &insideFile{at}
	case image.CharDevice, image.BlockDevice:
		n.attr.Rdev = i.Rdev.Minor&0xff | i.Rdev.Major<<8&0xfff00 | i.Rdev.Minor&^0xff<<12
	}
}

// node returns the node of an object.
func (v *volume) node(ctx context.Context, right store.CanRead, number uint64) (*Node, error) {
	fsys, r, err := v.system(ctx, right)
	if err != nil {
		return nil, err
	}
	i, err := fsys.Inode(r, number)
	if err != nil {
		return nil, v.wrap(err)
	}
	n := &Node{id: v.idOf(number)}
	v.describe(n, i)
	if i.Type() == image.Symlink {
		if n.target, err = fsys.Readlink(r, number); err != nil {
			return nil, v.wrap(err)
		}
	}
	all, err := inside{v, number}.attributes(fsys, r)
	if err != nil {
		return nil, v.wrap(err)
	}
	n.xattrs = keptXattrs(all, inside{v, number})
	return n, nil
}

// attributes returns the extended attributes of an object that Linux can pass on.
func (i inside) attributes(fsys image.FileSystem, r io.ReaderAt) ([]Attribute, error) {
	list, err := fsys.Xattrs(r, i.number)
	out := make([]Attribute, 0, len(list))
	for _, x := range list {
		if len(x.Name) <= unix.NAME_MAX && len(x.Value) <= maxText {
			out = append(out, Attribute{Name: x.Name, Value: x.Value})
		}
	}
	return out, err
}

func (i inside) readAttributes(ctx context.Context, right store.CanRead) ([]Attribute, error) {
	fsys, r, err := i.v.system(ctx, right)
	if err != nil {
		return nil, err
	}
	all, err := i.attributes(fsys, r)
	return all, i.v.wrap(err)
}

func (d *insideDir) lookup(ctx context.Context, right store.CanRead, _ *Node, called string) (*Node, error) {
	fsys, r, err := d.v.system(ctx, right)
	if err != nil {
		return nil, err
	}
	e, err := fsys.Lookup(r, d.number, called)
	if err != nil {
		return nil, d.v.wrap(err)
	}
	return d.v.node(ctx, right, e.Number)
}

func (d *insideDir) list(ctx context.Context, right store.CanRead, _ *Node) (Listing, error) {
	fsys, r, err := d.v.system(ctx, right)
	if err != nil {
		return nil, err
	}
	entries, err := fsys.Entries(r, d.number)
	err = d.v.wrap(err)
	if err != nil && (len(entries) == 0 || !ofSnapshot(err)) {
		return nil, err
	}
	return &insideListing{d.v, entries, err}, nil
}

// insideListing lists a directory of a volume. Each entry is read when it is asked for.
type insideListing struct {
	v       *volume
	entries []image.Entry
	err     error
}

func (l *insideListing) Len() int   { return len(l.entries) }
func (l *insideListing) Err() error { return l.err }

func (l *insideListing) At(ctx context.Context, right store.CanRead, i int) (Entry, error) {
	e := l.entries[i]
	n, err := l.v.node(ctx, right, e.Number)
	switch {
	case err == nil:
		return Entry{Name: e.Name, Type: n.Type(), ID: n.id, Node: n}, nil
	case ofSnapshot(err):
		return Entry{Name: e.Name, Type: e.Type, Err: err}, nil
	}
	return Entry{}, err
}

func (f *insideFile) open(ctx context.Context, right store.CanRead) (File, error) {
	fsys, r, err := f.v.system(ctx, right)
	if err != nil {
		return nil, err
	}
	content, err := fsys.Open(r, f.number)
	if err != nil {
		return nil, f.v.wrap(err)
	}
	return insideContent{f.v, content}, nil
}

// insideContent is the content of an open file in a volume.
type insideContent struct {
	v *volume
	f image.File
}

func (c insideContent) Size() int64 { return c.f.Size() }

func (c insideContent) reader(ctx context.Context, right store.CanRead) io.ReaderAt {
	return c.v.v.Reader(c.v.m.readers(ctx, right))
}

func (c insideContent) ReadAt(ctx context.Context, right store.CanRead, p []byte, off int64) (int, error) {
	n, err := c.f.ReadAt(c.reader(ctx, right), p, off)
	if err == io.EOF { //nolint:errorlint // the end of the file itself; one within an error is damage
		return n, err
	}
	return n, c.v.wrap(err)
}

func (c insideContent) NextData(ctx context.Context, right store.CanRead, off int64) (int64, error) {
	next, err := c.f.NextData(c.reader(ctx, right), off)
	return next, c.v.wrap(err)
}

func (c insideContent) NextHole(ctx context.Context, right store.CanRead, off int64) (int64, error) {
	next, err := c.f.NextHole(c.reader(ctx, right), off)
	return next, c.v.wrap(err)
}

var _ Sparse = insideContent{}
