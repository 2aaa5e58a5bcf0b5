package fs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// The tree is read-only twice: the mount is read-only, and so is every method that
// would change something. Root can remount a mount rw, and go-fuse reports success for
// an Unlink or Rmdir that is not implemented.

// Setattr refuses to change attributes.
func (i *inode) Setattr(context.Context, gofs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.EROFS
}

// Setxattr refuses to set an extended attribute.
func (i *inode) Setxattr(context.Context, string, []byte, uint32) syscall.Errno {
	return syscall.EROFS
}

// Removexattr refuses to remove an extended attribute.
func (i *inode) Removexattr(context.Context, string) syscall.Errno { return syscall.EROFS }

// Create refuses to create a file.
func (i *inode) Create(context.Context, string, uint32, uint32, *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	return nil, nil, 0, syscall.EROFS
}

// Mkdir refuses to create a directory.
func (i *inode) Mkdir(context.Context, string, uint32, *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

// Mknod refuses to create a file.
func (i *inode) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

// Symlink refuses to create a symbolic link.
func (i *inode) Symlink(context.Context, string, string, *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

// Link refuses to create a hard link.
func (i *inode) Link(context.Context, gofs.InodeEmbedder, string, *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

// Unlink refuses to remove a file.
func (i *inode) Unlink(context.Context, string) syscall.Errno { return syscall.EROFS }

// Rmdir refuses to remove a directory.
func (i *inode) Rmdir(context.Context, string) syscall.Errno { return syscall.EROFS }

// Rename refuses to rename.
func (i *inode) Rename(context.Context, string, gofs.InodeEmbedder, string, uint32) syscall.Errno {
	return syscall.EROFS
}

// Write refuses to write. A handle for writing is never given out.
func (h *fileHandle) Write(context.Context, []byte, int64) (uint32, syscall.Errno) {
	return 0, syscall.EROFS
}

// Allocate refuses to reserve space.
func (h *fileHandle) Allocate(context.Context, uint64, uint64, uint32) syscall.Errno {
	return syscall.EROFS
}
