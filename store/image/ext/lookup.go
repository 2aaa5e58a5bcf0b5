package ext

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"slices"

	"github.com/pbsfs/pbsfs/store/image"
)

// maxIndexed is how many names a directory may have for their blocks to be remembered. A larger
// one is read again for each lookup.
const maxIndexed = 1 << 20

// located says in which block of a directory a name is that has a hash.
type located struct{ hash, block uint32 }

// nameIndex finds names, by hash and then by block.
type nameIndex []located

func hashName(name string) uint32 {
	h := fnv.New32a()
	io.WriteString(h, name) //nolint:errcheck // it never fails
	return h.Sum32()
}

// Lookup returns the entry with a name. It finds exactly what Entries lists.
func (f *FS) Lookup(r io.ReaderAt, dir uint64, name string) (image.Entry, error) {
	d, err := f.directory(r, dir)
	if err != nil {
		return image.Entry{}, err
	}
	if index, ok := f.indexes.Get(dir); ok {
		return d.indexed(r, index, name)
	}
	// The first lookup reads all of the directory, as a listing does.
	var (
		found image.Entry
		wrong damage
		index nameIndex
	)
	d.each(r, &wrong, func(e image.Entry, block uint64) {
		if e.Name == name && found.Name == "" {
			found = e
		}
		if len(index) <= maxIndexed {
			index = append(index, located{hashName(e.Name), uint32(block)})
		}
	})
	if wrong.count == 0 && len(index) <= maxIndexed {
		slices.SortFunc(index, func(a, b located) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.block, b.block)) })
		f.indexes.Put(dir, slices.Clip(index), int64(8*len(index)+64))
	}
	switch {
	case found.Name != "":
		return found, nil
	case wrong.count > 0:
		return found, fmt.Errorf("look for a name: %w", wrong.err())
	default:
		return found, fs.ErrNotExist
	}
}

// indexed looks for a name in the blocks that have one with its hash.
func (d directory) indexed(r io.ReaderAt, index nameIndex, name string) (image.Entry, error) {
	hash := hashName(name)
	i, _ := slices.BinarySearchFunc(index, hash, func(l located, h uint32) int { return cmp.Compare(l.hash, h) })
	for ; i < len(index) && index[i].hash == hash; i++ {
		e, err := d.inBlock(r, uint64(index[i].block), name)
		if err != nil || e.Name != "" {
			return e, err
		}
	}
	return image.Entry{}, fs.ErrNotExist
}

// inBlock looks for a name in a block; no name if it is not there.
func (d directory) inBlock(r io.ReaderAt, block uint64, name string) (found image.Entry, err error) {
	match := func(e image.Entry) {
		if e.Name == name && found.Name == "" {
			found = e
		}
	}
	if d.inode.has(flagInline) {
		return found, d.eachInline(match)
	}
	n, err := d.run(r, block)
	if err != nil || !n.data {
		return found, err
	}
	p, err := d.fs.verified(r, cacheKey{n.place, uint32(d.inode.Number), kindDirectory}, "ext directory", func(p []byte) error {
		if d.fs.checksums() && !d.inode.blockIsRight(p, d.fs.blockSize) {
			return d.wrongBlock(n.place, "wrong checksum")
		}
		return nil
	})
	if err != nil {
		return found, err
	}
	if reason := d.fs.records(p, block == 0, match); reason != "" {
		return found, d.wrongBlock(n.place, reason)
	}
	return found, nil
}
