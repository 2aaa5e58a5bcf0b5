package btrfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	rootItemSize = 239 // of the oldest form; what newer ones have behind it is not needed
	rootRefSize  = 18
)

// root is a tree that the tree of roots names.
type root struct {
	tree
	dir   uint64 // the object that is its top directory
	alive bool   // not about to be deleted
}

// rootsTree is the tree of roots.
func (f *FS) rootsTree() tree {
	return tree{rootTree, f.root, f.generation, f.rootLevel}
}

// tree returns a tree, [fs.ErrNotExist] if there is none.
func (f *FS) tree(r io.ReaderAt, id uint64) (root, error) {
	if t, ok := f.roots.Get(id); ok {
		return t, nil
	}
	// A tree may have several items; the last one is meant.
	k, p, err := f.floor(r, f.rootsTree(), key{id, rootItem, math.MaxUint64})
	if err != nil {
		return root{}, err
	}
	if k.object != id || k.kind != rootItem {
		return root{}, fmt.Errorf("btrfs tree %d: %w", id, fs.ErrNotExist)
	}
	if len(p) < rootItemSize || p[238] > maxLevel {
		return root{}, corrupt.New("btrfs tree %d: impossible item of its root", id)
	}
	le := binary.LittleEndian
	t := root{
		tree: tree{id: id, block: le.Uint64(p[176:]), generation: le.Uint64(p[160:]), level: p[238]},
		dir:  le.Uint64(p[168:]), alive: !isSubvolume(id) || le.Uint32(p[216:]) > 0,
	}
	if isSubvolume(id) && t.alive && (t.dir < firstFree || t.dir > lastFree) {
		return root{}, corrupt.New("btrfs subvolume %d: impossible number of its top directory", id)
	}
	f.roots.Put(id, t, 1)
	return t, nil
}

// needed returns a tree that has to be there.
func (f *FS) needed(r io.ReaderAt, id uint64) (root, error) {
	t, err := f.tree(r, id)
	if isNotExist(err) || err == nil && !t.alive {
		return root{}, corrupt.New("btrfs tree %d is missing", id)
	}
	return t, err
}

// findTop finds the default subvolume: the object "default" in a directory of the tree of roots.
func (f *FS) findTop(r io.ReaderAt) error {
	id := uint64(fsTree)
	p, err := f.get(r, f.rootsTree(), key{f.rootDir, dirItem, uint64(hashName("default"))})
	if err != nil {
		return err
	}
	items, reason := parseDirItems(p)
	if reason != "" {
		return corrupt.New("btrfs default subvolume: %s", reason)
	}
	for _, i := range items {
		if i.name == "default" && i.location.kind == rootItem {
			id = i.location.object
		}
	}
	if !isSubvolume(id) {
		return corrupt.New("btrfs default subvolume: it cannot be tree %d", id)
	}
	f.top, err = f.needed(r, id)
	return err
}

// entered says whether the kernel enters a subvolume where an entry names it: the tree of roots
// has to say that it is mounted just there. In a snapshot of what is above it, it is not.
func (f *FS) entered(r io.ReaderAt, dir object, name string, id uint64) (root, bool, error) {
	p, err := f.get(r, f.rootsTree(), key{dir.tree, rootRef, id})
	if err != nil || p == nil {
		return root{}, false, err
	}
	at, where, ok := parseRootRef(p)
	if !ok {
		return root{}, false, corrupt.New("btrfs subvolume %d: impossible reference to it", id)
	}
	if at != dir.object || where != name {
		return root{}, false, nil
	}
	t, err := f.tree(r, id)
	if isNotExist(err) {
		return root{}, false, nil
	}
	return t, t.alive, err
}

func parseRootRef(p []byte) (dir uint64, name string, ok bool) {
	if len(p) < rootRefSize || len(p) != rootRefSize+int(binary.LittleEndian.Uint16(p[16:])) {
		return 0, "", false
	}
	return binary.LittleEndian.Uint64(p), string(p[rootRefSize:]), true
}

// vacant returns the attributes of the empty directory that the kernel shows for a subvolume in a
// snapshot: it has those of the directory that has it, or had it when the snapshot was made.
func (f *FS) vacant(r io.ReaderAt, o object) (*image.Inode, error) {
	t, err := f.needed(r, o.tree)
	if err != nil {
		return nil, err
	}
	above := t.dir
	from, to := key{o.object, rootBackref, 0}, key{o.object, rootBackref, math.MaxUint64}
	wrong := damage{max: 1}
	f.scan(r, f.rootsTree(), from, to, &wrong, func(_ key, p []byte) bool {
		if dir, _, ok := parseRootRef(p); ok {
			above = dir
		}
		return false
	})
	if err := wrong.err(); err != nil {
		return nil, err
	}
	i, err := f.inodeOf(r, t, above)
	if isNotExist(err) || err == nil && i.Type() != image.Dir {
		i, err = f.inodeOf(r, t, t.dir)
	}
	if err != nil {
		return nil, err
	}
	return &image.Inode{Mode: image.Dir | 0o755, Nlink: 1, UID: i.UID, GID: i.GID, Mtime: i.Mtime}, nil
}
