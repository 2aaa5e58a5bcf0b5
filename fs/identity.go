package fs

import (
	"encoding/binary"
	"fmt"

	gofs "github.com/hanwen/go-fuse/v2/fs"

	"github.com/pbsfs/pbsfs/store/tree"
)

// inodeNumber makes the inode number of an ID. To go-fuse and the kernel, 0 and 1 mean
// "none" and "root", and go-fuse reserves the number with all bits set.
func inodeNumber(id tree.ID) uint64 {
	switch n := binary.LittleEndian.Uint64(id[:]); n {
	case 0, 1, ^uint64(0):
		return 2
	default:
		return n
	}
}

// stableAttr makes the 128 bits and the type by which go-fuse knows a node.
func stableAttr(n *tree.Node) gofs.StableAttr {
	id := n.ID()
	return gofs.StableAttr{
		Mode: n.Type(),
		Ino:  inodeNumber(id),
		Gen:  binary.LittleEndian.Uint64(id[8:]),
	}
}

// collision says that go-fuse cannot tell two objects apart.
type collision struct {
	path string
	name string
}

func (c *collision) Error() string {
	return fmt.Sprintf("%s/%s: has the inode number of another file that is in use; it can be read after that one is forgotten, or after mounting again", c.path, c.name)
}
