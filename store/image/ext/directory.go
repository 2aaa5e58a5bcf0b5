package ext

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	directoryChunk = 128 << 10 // bytes that a listing reads at once
	maxDamage      = 1000      // wrong blocks and names after which a listing gives up
)

// directory is an inode that holds names.
type directory struct{ content }

// directory returns a directory whose names can be read.
func (fs *FS) directory(r io.ReaderAt, number uint64) (directory, error) {
	i, err := fs.object(r, number)
	if err != nil {
		return directory{}, err
	}
	if i.Type() != image.Dir {
		return directory{}, corrupt.At(i.off, "ext inode %d is no directory", number)
	}
	c, err := fs.readable(i)
	if err != nil {
		return directory{}, err
	}
	if c.blocks() > fs.blocks {
		return directory{}, corrupt.At(i.off, "ext inode %d: a directory of %d bytes", number, i.Size)
	}
	return directory{c}, nil
}

func (c content) blocks() uint64 {
	return (uint64(c.size) + uint64(c.fs.blockSize) - 1) / uint64(c.fs.blockSize)
}

// damage collects what is wrong in a directory: the first of it is told.
type damage struct {
	first error
	count int
}

func (d *damage) add(err error) {
	if err == nil {
		return
	}
	if d.first == nil {
		d.first = err
	}
	d.count++
}

func (d *damage) tooMuch() bool { return d.count >= maxDamage }

func (d *damage) err() error {
	if d.count > 1 {
		return fmt.Errorf("%w (and %d more)", d.first, d.count-1)
	}
	return d.first
}

// Entries lists a directory, in the order of the inodes: whoever wants their attributes, too,
// then reads each part of an inode table once.
func (fs *FS) Entries(r io.ReaderAt, dir uint64) ([]image.Entry, error) {
	d, err := fs.directory(r, dir)
	if err != nil {
		return nil, err
	}
	var (
		all   []image.Entry
		wrong damage
	)
	seen := map[string]struct{}{}
	d.each(r, &wrong, func(e image.Entry, _ uint64) {
		if _, twice := seen[e.Name]; twice {
			wrong.add(corrupt.At(d.inode.off, "directory of ext inode %d: name %q is there twice", dir, e.Name))
			return
		}
		seen[e.Name] = struct{}{}
		all = append(all, e)
	})
	slices.SortStableFunc(all, func(a, b image.Entry) int { return cmp.Compare(a.Number, b.Number) })
	return all, wrong.err()
}

// each calls fn with all names and the blocks in which they are.
func (d directory) each(r io.ReaderAt, wrong *damage, fn func(e image.Entry, block uint64)) {
	if d.inode.has(flagInline) {
		wrong.add(d.eachInline(func(e image.Entry) { fn(e, 0) }))
		return
	}
	for block := uint64(0); block < d.blocks() && !wrong.tooMuch(); {
		n, err := d.run(r, block)
		if err != nil {
			wrong.add(err)
			return // what the map says of the next block cannot be known
		}
		n.count = min(n.count, d.blocks()-block)
		if !n.data {
			wrong.add(corrupt.At(d.inode.off, "directory of ext inode %d: blocks %d to %d are missing", d.inode.Number, block, n.end()-1))
			block = n.end()
			continue
		}
		n.count = min(n.count, max(1, directoryChunk/uint64(d.fs.blockSize)))
		d.eachOf(r, n, wrong, fn)
		block = n.end()
	}
}

// eachOf calls fn with the names in blocks that lie side by side. Where they cannot be read at
// once, they are read one by one.
func (d directory) eachOf(r io.ReaderAt, n run, wrong *damage, fn func(e image.Entry, block uint64)) {
	p, err := d.fs.readBlocks(r, n.place, n.count, "ext directory")
	for k := range n.count {
		var q []byte
		if err == nil {
			q = p[k*uint64(d.fs.blockSize):][:d.fs.blockSize]
		} else {
			var one error
			if q, one = d.fs.readBlocks(r, n.place+k, 1, "ext directory"); one != nil {
				wrong.add(one)
				continue
			}
		}
		if d.fs.checksums() && !d.inode.blockIsRight(q, d.fs.blockSize) {
			wrong.add(d.wrongBlock(n.place+k, "wrong checksum"))
			continue
		}
		if reason := d.fs.records(q, n.start+k == 0, func(e image.Entry) { fn(e, n.start+k) }); reason != "" {
			wrong.add(d.wrongBlock(n.place+k, reason))
		}
	}
}

func (d directory) wrongBlock(place uint64, reason string) error {
	return corrupt.At(d.fs.at(place), "directory of ext inode %d: %s", d.inode.Number, reason)
}

// eachInline calls fn with the names in the inode: behind the number of the parent, and in the
// attribute that has the rest.
func (d directory) eachInline(fn func(e image.Entry)) error {
	reason := d.fs.records(d.inode.block[4:], false, fn)
	more, err := d.inode.inlineRest()
	if err != nil {
		return err
	}
	if len(more) > 0 {
		if second := d.fs.records(more, false, fn); reason == "" {
			reason = second
		}
	}
	if reason != "" {
		return corrupt.At(d.inode.off, "directory in ext inode %d: %s", d.inode.Number, reason)
	}
	return nil
}
