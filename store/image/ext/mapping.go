package ext

import (
	"io"
	"math"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// run is a range of the blocks of a file that lie side by side, or nowhere.
type run struct {
	start, count uint64 // within the file; the count is not 0
	place        uint64 // the first block in the image, if it is data
	data         bool   // no hole, and written
}

func (n run) end() uint64 { return n.start + n.count }

// content is the map of what an inode holds.
type content struct {
	fs     *FS
	inode  *inode
	size   int64
	inline []byte // all of it, if it lies in the inode
}

// content returns the map of any inode that has one.
func (fs *FS) content(i *inode) (content, error) {
	c := content{fs: fs, inode: i, size: i.Size}
	if i.has(flagInline) {
		p, err := i.inlineData()
		if err != nil {
			return c, err
		}
		c.inline = p
		return c, nil
	}
	if limit := c.limit(); (uint64(i.Size)+uint64(fs.blockSize)-1)/uint64(fs.blockSize) > limit {
		return c, corrupt.At(i.off, "ext inode %d: size %d is more than its map can hold", i.Number, i.Size)
	}
	return c, nil
}

// limit returns how many blocks a map can have.
func (c content) limit() uint64 {
	if c.inode.has(flagExtents) {
		return math.MaxUint32 + 1
	}
	n := uint64(c.fs.blockSize / 4)
	return min(math.MaxUint32+1, directBlocks+n+n*n+n*n*n)
}

// run returns the range that begins with a block. It may end before what it is part of does.
func (c content) run(r io.ReaderAt, block uint64) (run, error) {
	if c.inode.has(flagExtents) {
		return c.extent(r, block)
	}
	return c.pointed(r, block)
}

// runs calls fn with the ranges from start up to end, until it returns false.
func (c content) runs(r io.ReaderAt, start, end uint64, fn func(n run) (bool, error)) error {
	for start < end {
		n, err := c.run(r, start)
		if err != nil {
			return err
		}
		n.count = min(n.count, end-start)
		if more, err := fn(n); err != nil || !more {
			return err
		}
		start = n.end()
	}
	return nil
}

// readAt reads p at off, which end before the size. Ranges that lie side by side in the image,
// too, are read at once.
func (c content) readAt(r io.ReaderAt, p []byte, off int64) error {
	bs := int64(c.fs.blockSize)
	var pending struct {
		p     []byte
		place int64
	}
	flush := func() error {
		if len(pending.p) == 0 {
			return nil
		}
		err := c.fs.read(r, pending.p, pending.place, "content of an ext file")
		pending.p = nil
		return err
	}
	done, end := 0, off+int64(len(p))
	err := c.runs(r, uint64(off/bs), uint64((end+bs-1)/bs), func(n run) (bool, error) {
		from, to := max(off, int64(n.start)*bs), min(end, int64(n.end())*bs)
		q := p[done : done+int(to-from)]
		done += len(q)
		if !n.data {
			clear(q)
			return true, flush()
		}
		place := int64(n.place)*bs + from - int64(n.start)*bs
		if len(pending.p) > 0 && pending.place+int64(len(pending.p)) == place {
			pending.p = pending.p[:len(pending.p)+len(q)] // q follows it in p
			return true, nil
		}
		err := flush()
		pending.p, pending.place = q, place
		return true, err
	})
	if err != nil {
		return err
	}
	return flush()
}

// checkPlace refuses blocks that no content can lie in.
func (fs *FS) checkPlace(i *inode, place, count uint64) error {
	if place <= fs.firstDataBlock || count > fs.blocks || place > fs.blocks-count {
		return corrupt.At(i.off, "ext inode %d: its blocks %d to %d lie outside of the file system", i.Number, place, place+count-1)
	}
	return nil
}

// readAll returns the content of an inode of at most limit bytes.
func (c content) readAll(r io.ReaderAt, limit int64) ([]byte, error) {
	if c.size > limit {
		return nil, corrupt.At(c.inode.off, "ext inode %d: size %d is impossible for its kind", c.inode.Number, c.size)
	}
	if c.inode.has(flagInline) {
		return c.inline, nil
	}
	p := make([]byte, c.size)
	return p, c.readAt(r, p, 0)
}
