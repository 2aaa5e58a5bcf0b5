package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// floorName is the subject that has the same tree in Go's memory: what no server with the
// same library can go below. It has no datastore, decodes nothing and counts nothing.
const floorName = "floor"

// floorNode is a file or directory of that tree.
type floorNode struct {
	gofs.Inode
	attr    fuse.Attr
	content []byte
	target  string
}

// What pbsfs tells the kernel as well: nothing of this ever changes.
const floorTimeout = 24 * time.Hour

// serveFloor serves a tree from memory, at a mount point, until it is unmounted.
func serveFloor(tree, at string) error {
	root := &floorNode{attr: fuse.Attr{Mode: unix.S_IFDIR | 0o755}}
	var filled error
	raw := gofs.NewNodeFS(root, &gofs.Options{NullPermissions: true, OnAdd: func(ctx context.Context) { filled = fill(ctx, root, tree) }})
	if filled != nil {
		return filled
	}
	server, err := fuse.NewServer(raw, at, &fuse.MountOptions{
		FsName: floorName, Name: floorName, AllowOther: os.Geteuid() == 0, Options: []string{"ro", "default_permissions"},
		MaxWrite: 256 << 10, MaxReadAhead: 1 << 20, MaxBackground: 256,
	})
	if err != nil {
		return err
	}
	server.Serve()
	return nil
}

// fill reads a tree into memory, below root.
func fill(ctx context.Context, root *floorNode, tree string) error {
	dirs := map[string]*floorNode{filepath.Dir(tree): root}
	return filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n, err := newFloorNode(path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs[path] = n
		}
		parent := dirs[filepath.Dir(path)]
		child := parent.NewPersistentInode(ctx, n, gofs.StableAttr{Mode: n.attr.Mode & unix.S_IFMT, Ino: n.attr.Ino})
		parent.AddChild(filepath.Base(path), child, true)
		return nil
	})
}

func newFloorNode(path string) (*floorNode, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, err
	}
	n := &floorNode{attr: fuse.Attr{
		Ino: st.Ino, Size: uint64(st.Size), Blocks: uint64(st.Blocks), Mtime: uint64(st.Mtim.Sec), Mtimensec: uint32(st.Mtim.Nsec),
		Mode: st.Mode, Nlink: uint32(st.Nlink), Owner: fuse.Owner{Uid: st.Uid, Gid: st.Gid}, Blksize: 128 << 10,
	}}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.content, err = os.ReadFile(path)
	case unix.S_IFLNK:
		n.target, err = os.Readlink(path)
	}
	return n, err
}

// Lookup finds a child.
func (n *floorNode) Lookup(_ context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	child := n.GetChild(name)
	if child == nil {
		return nil, syscall.ENOENT
	}
	out.Attr = child.Operations().(*floorNode).attr
	out.SetAttrTimeout(floorTimeout)
	out.SetEntryTimeout(floorTimeout)
	return child, 0
}

// Getattr returns the attributes.
func (n *floorNode) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Attr = n.attr
	out.SetTimeout(floorTimeout)
	return 0
}

// Readlink returns the target.
func (n *floorNode) Readlink(context.Context) ([]byte, syscall.Errno) { return []byte(n.target), 0 }

// Open opens a file.
func (n *floorNode) Open(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, 0
}

// Read reads.
func (n *floorNode) Read(_ context.Context, _ gofs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if off >= int64(len(n.content)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(n.content[off:min(off+int64(len(dest)), int64(len(n.content)))]), 0
}

// mountFloor has this program serve the tree from memory.
func (d *data) mountFloor(ctx context.Context) (*served, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return d.mountImage(ctx, self, "-serve-floor", d.at(treeDir))
}
