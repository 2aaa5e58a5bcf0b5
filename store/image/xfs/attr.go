package xfs

import (
	"io"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// Flags of an attribute.
const (
	attrLocal      = 1 << 0 // the value lies beside the name
	attrRoot       = 1 << 1 // trusted.*
	attrSecure     = 1 << 2 // security.*
	attrParent     = 1 << 3 // a link back to a directory, which is not shown
	attrIncomplete = 1 << 7 // being written, and not there yet
)

// maxAttributes is how many bytes the attributes of an inode may have in all. The kernel
// lists names of 64 KiB at most.
const maxAttributes = 16 << 20

// attributes collects the attributes of an inode.
type attributes struct {
	fs    *FS
	in    *inode
	fork  *fork
	list  []image.Xattr
	bytes int
	seen  map[string]bool
	problems
}

// xattrs lists the attributes of an inode.
func (f *FS) xattrs(r io.ReaderAt, in *inode) ([]image.Xattr, error) {
	k, err := in.attributes(f)
	if err != nil || k == nil {
		return nil, err
	}
	if k.local == nil && k.root == nil && len(k.extents) == 0 {
		return nil, nil // all were removed
	}
	a := &attributes{fs: f, in: in, fork: k, seen: map[string]bool{}}
	if k.local != nil {
		a.add(a.shortForm())
	} else {
		a.add(a.leaves(r))
	}
	slices.SortFunc(a.list, func(x, y image.Xattr) int { return strings.Compare(x.Name, y.Name) })
	return a.list, a.err()
}

// shown says whether the kernel shows an attribute with these flags.
func shown(flags uint8) bool { return flags&(attrParent|attrIncomplete) == 0 }

// take adds an attribute, under the name that the kernel gives it.
func (a *attributes) take(flags uint8, name string, value []byte) {
	prefix := "user."
	switch flags & (attrRoot | attrSecure) {
	case attrRoot:
		prefix = "trusted."
	case attrSecure:
		prefix = "security."
	case attrRoot | attrSecure:
		a.add(corrupt.At(a.in.off, "inode %d: attribute %.300q in two spaces of names", a.in.number, name))
		return
	}
	if name == "" || strings.ContainsRune(name, 0) {
		a.add(corrupt.At(a.in.off, "inode %d: attribute %.300q", a.in.number, name))
		return
	}
	if acl, ok := aclNames[name]; ok && flags&attrRoot != 0 {
		converted, err := kernelACL(value)
		if err != nil {
			a.add(corrupt.At(a.in.off, "inode %d: %s: %v", a.in.number, name, err))
		} else {
			a.append(acl, converted)
		}
	}
	a.append(prefix+name, value)
}

func (a *attributes) append(name string, value []byte) {
	if a.seen[name] {
		a.add(corrupt.At(a.in.off, "inode %d: a second attribute %.300q", a.in.number, name))
		return
	}
	a.seen[name] = true
	a.list = append(a.list, image.Xattr{Name: name, Value: value})
	a.bytes += len(name) + len(value)
}

// shortForm lists attributes that are in the inode: a header of size and count, then
// lengths of name and value, flags, name, and value of each.
func (a *attributes) shortForm() error {
	b := a.fork.local
	bad := func(what string) error {
		return corrupt.At(a.in.off, "inode %d: attributes in the inode: %s", a.in.number, what)
	}
	if len(b) < 4 || int(be.Uint16(b)) < 4 || int(be.Uint16(b)) > len(b) {
		return bad("size")
	}
	count, b := int(b[2]), b[4:be.Uint16(b)]
	for range count {
		if len(b) < 3 || len(b) < 3+int(b[0])+int(b[1]) {
			return bad("one leaves them")
		}
		name, value, flags := b[3:][:b[0]], b[3+int(b[0]):][:b[1]], b[2]
		b = b[3+len(name)+len(value):]
		if shown(flags) {
			a.take(flags, string(name), slices.Clone(value))
		}
	}
	if len(b) > 0 {
		return bad("bytes after the last one")
	}
	return nil
}
