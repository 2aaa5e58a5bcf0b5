package fs

import (
	"encoding/binary"
	"fmt"

	gofs "github.com/hanwen/go-fuse/v2/fs"

	"github.com/pbsfs/pbsfs/store/tree"
)

// inodeNumber makes the inode number of an ID. 0 and 1 mean "none" and "root"
// to go-fuse and the kernel, and all ones is a number go-fuse keeps.
func inodeNumber(id tree.ID) uint64 {
	switch n := binary.LittleEndian.Uint64(id[:]); n {
	case 0, 1, ^uint64(0):
		return 2
	default:
		return n
	}
}

// stableAttr makes the 128 bits, and the type, that go-fuse knows a node by.
func stableAttr(n *tree.Node) gofs.StableAttr {
	id := n.ID()
	return gofs.StableAttr{
		Mode: n.Type(),
		Ino:  inodeNumber(id),
		Gen:  binary.LittleEndian.Uint64(id[8:]),
	}
}

// collision is two objects that go-fuse could not tell apart.
type collision struct {
	path string
	name string
}

func (c *collision) Error() string {
	return fmt.Sprintf("%s/%s: has the inode number of another file that is in use; it can be read after that one is forgotten, or after mounting again", c.path, c.name)
}
