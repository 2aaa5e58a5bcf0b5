package fs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// dirHandle is an open directory. go-fuse calls it for one request at a time.
//
// A position in the directory is also the offset by which the kernel knows it. It is 0
// before ".", 1 before "..", and 2+i before the i-th entry.
type dirHandle struct {
	inode   *inode
	node    *tree.Node
	handle  *handle // nil above the snapshots, where an open directory does not count as an operation
	listing tree.Listing
	pos     uint64
	last    tree.Entry // the last entry that Readdirent returned
	// damage is the first error that kept the listing from being complete.
	damage error
}

// right returns the right of the handle, or the zero Reader, which can do nothing, if
// the listing needs none.
func (d *dirHandle) right() *store.Reader {
	if d.handle == nil {
		return nil
	}
	return d.handle.right
}

// dots is the number of entries before those of the listing.
const dots = 2

// Readdirent returns the next entry. It skips entries that cannot be shown. A listing
// without them ends with EIO, so that no program takes it for complete.
func (d *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	if d.pos == nowhere {
		return nil, 0
	}
	ctx, answered := patient(ctx)
	defer answered()
	for {
		if d.pos < dots {
			return d.dot(), 0
		}
		i := d.pos - dots
		if i >= uint64(d.listing.Len()) {
			return nil, d.end()
		}
		e, err := d.listing.At(ctx, d.right(), int(i))
		if err != nil {
			return nil, d.inode.fsys.fail(err)
		}
		d.pos++
		if e.Err != nil {
			_ = d.inode.fsys.fail(e.Err) // the error is reported, and the listing goes on
			d.damage = e.Err
		}
		if e.Name == "" {
			continue
		}
		d.last = e
		return &fuse.DirEntry{Name: e.Name, Mode: e.Type, Ino: inodeNumber(e.ID), Off: d.pos}, 0
	}
}

// dot returns "." or "..".
func (d *dirHandle) dot() *fuse.DirEntry {
	d.pos++
	d.last = tree.Entry{}
	if d.pos == 1 {
		return &fuse.DirEntry{Name: ".", Mode: syscall.S_IFDIR, Ino: inodeNumber(d.node.ID()), Off: d.pos}
	}
	up := d.node
	if _, p := d.inode.Parent(); p != nil {
		if parent, ok := p.Operations().(*inode); ok {
			up = parent.node.Load()
		}
	}
	return &fuse.DirEntry{Name: "..", Mode: syscall.S_IFDIR, Ino: inodeNumber(up.ID()), Off: d.pos}
}

// end returns what a reader gets after the last entry.
func (d *dirHandle) end() syscall.Errno {
	if d.damage == nil {
		d.damage = d.listing.Err()
	}
	if d.damage == nil {
		return 0
	}
	_ = d.inode.fsys.fail(d.damage)
	return syscall.EIO
}

// Seekdir goes to the position of an entry that was returned before.
func (d *dirHandle) Seekdir(_ context.Context, off uint64) syscall.Errno {
	if off > uint64(d.listing.Len())+dots && off != nowhere {
		return syscall.EINVAL
	}
	d.pos = off
	return 0
}

// Lookup answers for an entry that READDIRPLUS has just listed, if reading the listing
// has shown its attributes. Other entries stay without: the kernel asks when a program
// needs them.
func (d *dirHandle) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	if d.last.Node == nil || d.last.Name != name {
		return nil, syscall.ENOENT
	}
	return d.inode.attach(ctx, d.node, name, d.last.Node, out)
}

// Releasedir ends the operation, if the handle counts as one.
func (d *dirHandle) Releasedir(context.Context, uint32) {
	if d.handle != nil {
		d.handle.release()
	}
}
