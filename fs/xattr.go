package fs

import (
	"context"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// xattrs returns the extended attributes of the inode. They come from memory, unless
// they are too large to be kept there.
func (i *inode) xattrs(ctx context.Context) (all []tree.Attribute, err error) {
	n := i.node.Load()
	all, complete := n.Xattrs()
	if complete {
		return all, nil
	}
	ctx, answered := patient(ctx)
	defer answered()
	err = i.fsys.ref.View(ctx, func(r *store.Reader) error {
		all, err = n.ReadXattrs(ctx, r)
		return err
	})
	return all, err
}

// Getxattr returns the value of one extended attribute.
func (i *inode) Getxattr(ctx context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	if strings.HasPrefix(name, "system.posix_acl_") && i.fsys.owner.replaced() {
		return 0, syscall.ENODATA
	}
	all, err := i.xattrs(ctx)
	if err == nil && name == tree.DamagedName {
		all, err = i.withDamaged(ctx, all, false)
	}
	if err != nil {
		return 0, i.fsys.fail(err)
	}
	for _, a := range all {
		if a.Name == name {
			return fill(dest, len(a.Value), func(p []byte) []byte { return append(p, a.Value...) })
		}
	}
	return 0, syscall.ENODATA
}

// Listxattr returns the names of the extended attributes, each with a NUL.
func (i *inode) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	all, err := i.xattrs(ctx)
	if err == nil {
		all, err = i.withDamaged(ctx, all, true)
	}
	if err != nil {
		return 0, i.fsys.fail(err)
	}
	caller, ok := fuse.FromContext(ctx)
	privileged := ok && caller.Uid == 0
	names := i.listed(all, privileged)
	return fill(dest, len(names), func(p []byte) []byte { return append(p, names...) })
}

// withDamaged adds the attribute that says where a file has zeros, in the place of one that
// was backed up with the file.
func (i *inode) withDamaged(ctx context.Context, all []tree.Attribute, cheap bool) ([]tree.Attribute, error) {
	a, err := i.damaged(ctx, cheap)
	if a == nil || err != nil {
		return all, err
	}
	out := []tree.Attribute{*a}
	for _, o := range all {
		if o.Name != a.Name {
			out = append(out, o)
		}
	}
	return out, nil
}

// The kernel's limits, linux/limits.h and xattr(7).
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
	maxXattrList  = 64 << 10
)

// listed returns the names of the attributes whose values a caller can read. A name
// without a readable value would make programs that copy attributes fail, and a list
// that is too long would hide all attributes.
func (i *inode) listed(all []tree.Attribute, privileged bool) (names []byte) {
	fileType := i.node.Load().Type()
	for _, a := range all {
		if !i.fsys.owner.visible(a, privileged) || !handedOut(a, fileType) || len(names)+len(a.Name)+1 > maxXattrList {
			continue
		}
		names = append(append(names, a.Name...), 0)
	}
	return names
}

// handedOut reports whether the kernel passes on an attribute of a file of that type
// (S_IFMT) at all.
func handedOut(a tree.Attribute, fileType uint32) bool {
	ofUser := strings.HasPrefix(a.Name, "user.")
	return len(a.Name) <= maxXattrName && len(a.Value) <= maxXattrValue &&
		(!ofUser || fileType == syscall.S_IFREG || fileType == syscall.S_IFDIR)
}

// fill writes size bytes to dest. If they do not fit, it returns ERANGE with the size.
// An empty dest asks for the size in the same way.
func fill(dest []byte, size int, write func([]byte) []byte) (uint32, syscall.Errno) {
	if size > len(dest) {
		return uint32(size), syscall.ERANGE
	}
	return uint32(len(write(dest[:0]))), 0
}
