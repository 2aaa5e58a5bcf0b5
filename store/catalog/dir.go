package catalog

import (
	"cmp"
	"context"
	"io"
	"slices"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Place is where a directory's block is in a catalog. Places of one catalog are
// equal when they mean the same directory. The zero Place means none.
type Place struct {
	start int64
	limit int64 // where the block must end: at the parent's, or before
}

// Directory is one directory of a catalog. It is immutable.
type Directory struct {
	start  int64
	size   int64
	items  []dirItem // in stored order
	byName []uint32  // indices of items, by name and then order
}

type dirItem struct {
	name  string
	kind  Kind
	child int64 // start of a directory's block
}

// Root returns the place of the directory whose entries are the archives, by
// their stored names.
func (c *Catalog) Root() Place { return Place{start: c.root, limit: c.size - pointerSize} }

// ReadDir reads the directory at p, whose table must not have more than maxLen
// bytes. r reads the stream that c was opened on. Entries whose name is none are
// left out.
func (c *Catalog) ReadDir(ctx context.Context, r io.ReaderAt, p Place, maxLen int64) (*Directory, error) {
	if p.start < magicSize || p.limit > c.size-pointerSize || p.limit-p.start < minBlock {
		return nil, corrupt.At(p.start, "catalog: no room for a directory before %d", p.limit)
	}
	var t table
	if err := t.read(r, p.start, p.limit, min(maxBlock, maxLen)); err != nil {
		return nil, err
	}
	d := &Directory{start: t.start, size: t.size}
	for n := 1; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e, child, more, err := t.next()
		switch {
		case err != nil:
			return nil, err
		case !more:
			d.sort()
			return d, nil
		case isName(e.Name):
			d.items = append(d.items, dirItem{name: e.Name, kind: e.Kind, child: child})
		}
	}
}

func (d *Directory) sort() {
	d.items = slices.Clip(d.items)
	d.byName = make([]uint32, len(d.items))
	for i := range d.byName {
		d.byName[i] = uint32(i)
	}
	slices.SortFunc(d.byName, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(d.items[a].name, d.items[b].name), cmp.Compare(a, b))
	})
}

// Len returns the number of entries.
func (d *Directory) Len() int { return len(d.items) }

// At returns name and kind of the i-th entry, in stored order.
func (d *Directory) At(i int) (string, Kind) { return d.items[i].name, d.items[i].kind }

// Size returns the length of the directory in the stream.
func (d *Directory) Size() int64 { return d.size }

// MemSize returns how many bytes of memory the directory takes, roughly.
func (d *Directory) MemSize() int64 {
	const perItem = 64 // item, index, and what an allocation takes beside the name
	return d.size + int64(len(d.items))*perItem
}

// Child returns the place of the directory of that name, the zero Place if there
// is none. The first entry of a name counts.
func (d *Directory) Child(name string) Place {
	k, found := slices.BinarySearchFunc(d.byName, name, func(i uint32, name string) int {
		return cmp.Compare(d.items[i].name, name)
	})
	if !found {
		return Place{}
	}
	it := d.items[d.byName[k]]
	if it.kind != Dir {
		return Place{}
	}
	return Place{start: it.child, limit: d.start}
}
