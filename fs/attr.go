package fs

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/pbsfs/pbsfs/store/tree"
)

// ownership holds the values of the options uid=, gid= and umask=, which replace the
// stored ones. A negative value keeps what is stored.
type ownership struct {
	uid, gid, umask int64
}

// replaced reports whether anything stored is replaced. Stored ACLs would then
// contradict the shown attributes, and are hidden.
func (o ownership) replaced() bool { return o.uid >= 0 || o.gid >= 0 || o.umask >= 0 }

// attr fills out with the attributes of n.
func (o ownership) attr(n *tree.Node, out *fuse.Attr) {
	a := n.Attr()
	out.Ino = inodeNumber(n.ID())
	out.Mode = a.Mode
	out.Nlink = a.Nlink
	out.Uid, out.Gid = a.UID, a.GID
	out.Rdev = a.Rdev
	out.Size = uint64(a.Size)
	out.Blocks = uint64(a.Blocks)
	out.Blksize = blockSize
	out.Mtime, out.Mtimensec = uint64(a.Mtime.Sec), a.Mtime.Nsec
	out.Atime, out.Atimensec = out.Mtime, out.Mtimensec
	out.Ctime, out.Ctimensec = out.Mtime, out.Mtimensec
	if o.uid >= 0 {
		out.Uid = uint32(o.uid)
	}
	if o.gid >= 0 {
		out.Gid = uint32(o.gid)
	}
	if o.umask >= 0 {
		out.Mode &^= uint32(o.umask) & 0o777
	}
}

// blockSize is the size of reads that programs are advised to use.
const blockSize = 128 << 10

// visible reports whether a caller sees an extended attribute in a list. Only a
// privileged caller, which can read them, sees trusted.*.
func (o ownership) visible(a tree.Attribute, privileged bool) bool {
	switch {
	case strings.HasPrefix(a.Name, "trusted."):
		return privileged
	case strings.HasPrefix(a.Name, "system.posix_acl_"):
		return !o.replaced()
	}
	return true
}
