package btrfs

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// Numbers of objects are unique within a tree only. Those of the default subvolume are given
// out as they are; others have the highest bit, a bit that says that it is an empty directory in
// place of a subvolume, the number of the tree, and their own. Numbers are never used again, but
// it takes 5·10^11 files in a subvolume, or 8 million snapshots, to have no room.
const (
	otherTree  = 1 << 63
	vacantBit  = 1 << 62
	objectBits = 39
	treeBits   = 62 - objectBits
)

// object is what a number stands for.
type object struct {
	tree, object uint64
	vacant       bool // object is the subvolume that is not entered in tree
}

func (f *FS) number(o object) (uint64, error) {
	if o.tree == f.top.id && !o.vacant && o.object < otherTree {
		return o.object, nil
	}
	if o.tree >= 1<<treeBits || o.object >= 1<<objectBits {
		return 0, fmt.Errorf("btrfs object %d in tree %d: no room for its number: %w", o.object, o.tree, image.ErrUnsupported)
	}
	n := otherTree | o.tree<<objectBits | o.object
	if o.vacant {
		n |= vacantBit
	}
	return n, nil
}

func (f *FS) object(number uint64) (object, error) {
	o := object{f.top.id, number, false}
	if number&otherTree != 0 {
		o = object{number &^ (otherTree | vacantBit) >> objectBits, number & (1<<objectBits - 1), number&vacantBit != 0}
	}
	if !isSubvolume(o.tree) || o.object < firstFree {
		return o, corrupt.New("btrfs object %d: there is no such number", number)
	}
	return o, nil
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
