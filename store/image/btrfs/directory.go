package btrfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	dirItemSize   = 30
	maxName       = 255
	maxDamage     = 1000 // wrong blocks and names after which a listing gives up
	typeXattr     = 8
	typeEncrypted = 0x80
)

// The types of objects in directories.
var types = []uint32{
	0, image.Regular, image.Dir, image.CharDevice, image.BlockDevice, image.Fifo, image.Socket, image.Symlink,
}

// namedItem is an entry of a directory, or an attribute.
type namedItem struct {
	location key
	kind     uint8
	name     string
	value    []byte
}

// parseDirItems decodes the entries that share an item, as their names have the same hash. It
// returns those before the one that is wrong.
func parseDirItems(p []byte) (all []namedItem, reason string) {
	le := binary.LittleEndian
	for len(p) > 0 {
		if len(p) < dirItemSize {
			return all, "an item ends within an entry"
		}
		value, name := int(le.Uint16(p[25:])), int(le.Uint16(p[27:]))
		if name+value > len(p)-dirItemSize {
			return all, "an entry does not fit in its item"
		}
		i := namedItem{location: parseKey(p), kind: p[29], name: string(p[dirItemSize:][:name])}
		p = p[dirItemSize+name:]
		i.value, p = p[:value], p[value:]
		all = append(all, i)
	}
	return all, ""
}

// directory returns the tree of a directory, and what it is. One in place of a subvolume has no tree.
func (f *FS) directory(r io.ReaderAt, number uint64) (tree, object, error) {
	o, err := f.object(number)
	if err != nil || o.vacant {
		return tree{}, o, err
	}
	i, err := f.inode(r, number)
	if err != nil {
		return tree{}, o, err
	}
	if i.Type() != image.Dir {
		return tree{}, o, i.wrong("it is no directory")
	}
	return i.tree, o, nil
}

// Entries lists a directory in the order in which the entries were made.
func (f *FS) Entries(r io.ReaderAt, dir uint64) ([]image.Entry, error) {
	t, o, err := f.directory(r, dir)
	if err != nil || o.vacant {
		return nil, err
	}
	var all []image.Entry
	wrong := damage{max: maxDamage}
	seen := map[string]struct{}{}
	f.scan(r, t, key{o.object, dirIndex, 0}, key{o.object, dirIndex, math.MaxUint64}, &wrong, func(_ key, p []byte) bool {
		items, reason := parseDirItems(p)
		if reason != "" {
			wrong.add(o.wrong(reason))
		}
		for _, i := range items {
			if _, twice := seen[i.name]; twice {
				wrong.add(o.wrong(fmt.Sprintf("name %q is there twice", i.name)))
				continue
			}
			seen[i.name] = struct{}{}
			if e, err := f.entry(r, o, i); err != nil {
				wrong.add(err)
			} else {
				all = append(all, e)
			}
		}
		return !wrong.tooMuch()
	})
	return all, wrong.err()
}

func (o object) wrong(reason string) error {
	return corrupt.New("btrfs directory %d in tree %d: %s", o.object, o.tree, reason)
}

// Lookup returns the entry with a name, which its hash finds.
func (f *FS) Lookup(r io.ReaderAt, dir uint64, name string) (image.Entry, error) {
	t, o, err := f.directory(r, dir)
	if err != nil {
		return image.Entry{}, err
	}
	if o.vacant || !isName(name) {
		return image.Entry{}, fs.ErrNotExist
	}
	p, err := f.get(r, t, key{o.object, dirItem, uint64(hashName(name))})
	if err != nil {
		return image.Entry{}, fmt.Errorf("look for a name: %w", err)
	}
	items, reason := parseDirItems(p)
	for _, i := range items {
		if i.name == name {
			return f.entry(r, o, i)
		}
	}
	if reason != "" {
		return image.Entry{}, o.wrong(reason)
	}
	return image.Entry{}, fs.ErrNotExist
}

func isName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxName && !strings.ContainsAny(name, "/\x00")
}

// entry returns what an item of a directory stands for.
func (f *FS) entry(r io.ReaderAt, dir object, i namedItem) (e image.Entry, err error) {
	switch {
	case i.kind&typeEncrypted != 0:
		return e, fmt.Errorf("a name in btrfs directory %d: %w", dir.object, image.ErrEncrypted)
	case !isName(i.name):
		return e, dir.wrong(fmt.Sprintf("impossible name %q", i.name))
	case int(i.kind) >= len(types) || i.kind == 0:
		return e, dir.wrong(fmt.Sprintf("impossible type of %q", i.name))
	}
	o := object{tree: dir.tree, object: i.location.object}
	switch {
	case i.location.kind == inodeItem && o.object >= firstFree && o.object <= lastFree:
	case i.location.kind == rootItem && types[i.kind] == image.Dir && isSubvolume(o.object) && o.object != fsTree:
		t, ok, err := f.entered(r, dir, i.name, o.object)
		if err != nil {
			return e, err
		}
		if o.vacant = !ok; ok {
			o = object{tree: t.id, object: t.dir}
		}
	default:
		return e, dir.wrong(fmt.Sprintf("impossible place of %q", i.name))
	}
	number, err := f.number(o)
	return image.Entry{Name: i.name, Number: number, Type: types[i.kind]}, err
}
