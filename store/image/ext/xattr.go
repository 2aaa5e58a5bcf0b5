package ext

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	xattrMagic      = 0xea020000
	xattrHeader     = 32
	xattrEntrySize  = 16
	maxXattrValue   = 64 << 10 // the kernel gives no larger one
	maxXattrsOfNode = 8 << 20  // bytes of values
)

// The prefixes that stand for numbers. Attributes with another number are for the file
// system itself: the kernel does not show them.
var xattrPrefixes = map[uint8]string{
	1: "user.", 2: aclAccess, 3: aclDefault, 4: "trusted.", 6: "security.", 10: "gnu.",
}

// attribute is an entry as it is stored.
type attribute struct {
	index uint8
	name  string
	hash  uint32
	inode uint64 // that has the value, if not 0
	size  uint32
	value []byte
}

// Xattrs returns the attributes as listxattr(2) and getxattr(2) show them to root.
func (fs *FS) Xattrs(r io.ReaderAt, number uint64) ([]image.Xattr, error) {
	i, err := fs.object(r, number)
	if err != nil {
		return nil, err
	}
	entries, failed := i.ownAttributes()
	if i.xattrBlock != 0 {
		more, err := fs.blockAttributes(r, i)
		if failed == nil {
			failed = err
		}
		entries = append(entries, more...)
	}
	var all []image.Xattr
	seen, total := map[string]bool{}, 0
	for _, e := range entries {
		x, err := fs.xattr(r, i, e)
		switch {
		case err != nil:
		case x.Name == "":
			continue
		case seen[x.Name]:
			err = corrupt.At(i.off, "ext inode %d: attribute %q is there twice", number, x.Name)
		case total+len(x.Value) > maxXattrsOfNode:
			err = fmt.Errorf("ext inode %d has more than %d bytes of attributes: %w", number, maxXattrsOfNode, image.ErrUnsupported)
		}
		if err != nil {
			if failed == nil {
				failed = err
			}
			continue
		}
		seen[x.Name] = true
		total += len(x.Value)
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b image.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return all, failed
}

// xattr gives an attribute the name and the form that the kernel shows; no name if it is not shown.
func (fs *FS) xattr(r io.ReaderAt, i *inode, e attribute) (image.Xattr, error) {
	prefix, ok := xattrPrefixes[e.index]
	if !ok {
		return image.Xattr{}, nil
	}
	value := e.value
	if e.inode != 0 {
		var err error
		if value, err = fs.valueInode(r, i, e); err != nil {
			return image.Xattr{}, err
		}
	}
	if prefix == aclAccess || prefix == aclDefault {
		acl, ok := convertACL(value)
		if !ok || e.name != "" {
			return image.Xattr{}, corrupt.At(i.off, "ext inode %d: impossible ACL", i.Number)
		}
		return image.Xattr{Name: prefix, Value: acl}, nil
	}
	if e.name == "" || strings.IndexByte(e.name, 0) >= 0 {
		return image.Xattr{}, corrupt.At(i.off, "ext inode %d: impossible name of an attribute", i.Number)
	}
	return image.Xattr{Name: prefix + e.name, Value: slices.Clone(value)}, nil
}

// ownAttributes returns the attributes behind the fields of the inode.
func (i *inode) ownAttributes() ([]attribute, error) {
	if len(i.extra) < 4 || binary.LittleEndian.Uint32(i.extra) != xattrMagic {
		return nil, nil
	}
	all, reason := parseAttributes(i.extra[4:], i.extra[4:])
	if reason != "" {
		return all, corrupt.At(i.off, "attributes in ext inode %d: %s", i.Number, reason)
	}
	return all, nil
}

// blockAttributes returns the attributes in the block that the inode names.
func (fs *FS) blockAttributes(r io.ReaderAt, i *inode) ([]attribute, error) {
	wrong := func(reason string) error {
		return corrupt.At(fs.at(i.xattrBlock), "attributes of ext inode %d: %s", i.Number, reason)
	}
	if err := fs.checkPlace(i, i.xattrBlock, 1); err != nil {
		return nil, err
	}
	// Objects with the same attributes share a block: the inode is no part of the checksum.
	p, err := fs.verified(r, cacheKey{block: i.xattrBlock, kind: kindXattrs}, "block of ext attributes", func(p []byte) error {
		switch le := binary.LittleEndian; {
		case le.Uint32(p) != xattrMagic || le.Uint32(p[8:]) != 1:
			return wrong("wrong header")
		case fs.checksums() && !fs.xattrBlockIsRight(p, i.xattrBlock):
			return wrong("wrong checksum")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all, reason := parseAttributes(p[xattrHeader:], p)
	if reason != "" {
		return all, wrong(reason)
	}
	return all, nil
}

func (fs *FS) xattrBlockIsRight(p []byte, block uint64) bool {
	const field = 0x10
	c := chksum(fs.seed, binary.LittleEndian.AppendUint64(nil, block))
	c = chksum(chksum(c, p[:field]), make([]byte, 4))
	return chksum(c, p[field+4:]) == binary.LittleEndian.Uint32(p[field:])
}

// parseAttributes decodes entries up to four zeros. Offsets of values count from the beginning
// of values. It returns those before the one that is wrong.
func parseAttributes(entries, values []byte) ([]attribute, string) {
	le := binary.LittleEndian
	var all []attribute
	for {
		if len(entries) < 4 {
			return all, "the list has no end"
		}
		if le.Uint32(entries) == 0 {
			return all, ""
		}
		if len(entries) < xattrEntrySize {
			return all, "the list has no end"
		}
		n := int(entries[0])
		next := (xattrEntrySize + n + 3) &^ 3
		if next > len(entries) {
			return all, "a name does not fit"
		}
		e := attribute{
			index: entries[1], name: string(entries[xattrEntrySize:][:n]), hash: le.Uint32(entries[12:]),
			inode: uint64(le.Uint32(entries[4:])), size: le.Uint32(entries[8:]),
		}
		if off := uint64(le.Uint16(entries[2:])); e.inode == 0 && e.size > 0 {
			if off+uint64(e.size) > uint64(len(values)) {
				return all, "a value does not fit"
			}
			e.value = values[off:][:e.size]
		}
		all = append(all, e)
		entries = entries[next:]
	}
}

// valueInode reads a value that lies in an inode of its own.
func (fs *FS) valueInode(r io.ReaderAt, owner *inode, e attribute) ([]byte, error) {
	if e.size > maxXattrValue {
		return nil, fmt.Errorf("ext inode %d has an attribute of %d bytes: %w", owner.Number, e.size, image.ErrUnsupported)
	}
	i, err := fs.inode(r, e.inode)
	if err != nil {
		return nil, err
	}
	if !i.has(flagEAInode) || i.Size != int64(e.size) || i.has(flagEncrypted) {
		return nil, corrupt.At(i.off, "ext inode %d: it is not the attribute of inode %d", e.inode, owner.Number)
	}
	c, err := fs.content(i)
	if err != nil {
		return nil, err
	}
	p, err := c.readAll(r, maxXattrValue)
	if err != nil {
		return nil, err
	}
	// An older form has no hash of the value but the owner.
	if int64(owner.Number) == i.Mtime.Sec && owner.generation == i.generation {
		return p, nil
	}
	if chksum(fs.seed, p) != i.valueHash {
		return nil, corrupt.At(i.off, "ext inode %d: wrong hash of the value of an attribute", e.inode)
	}
	return p, nil
}
