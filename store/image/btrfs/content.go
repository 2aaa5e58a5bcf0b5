package btrfs

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// maxBatch is how much of what is stored is read at once.
const maxBatch = 1 << 20

// piece is a part of a file that is to be read: from an extent, into p.
type piece struct {
	extent
	p []byte
}

// batch is stored bytes that lie side by side, and what they are for.
type batch struct {
	*file

	disk, end uint64 // addresses
	pieces    []piece
}

// read reads p at off, which end before the size.
func (f *file) read(r io.ReaderAt, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	b := batch{file: f}
	end := off + int64(len(p))
	done := 0
	err := f.extentsOf(r, off, end, func(e extent) (bool, error) {
		q := p[done:][:min(e.end, end)-e.start]
		done += len(q)
		return true, b.add(r, piece{e, q})
	})
	if err != nil {
		return err
	}
	return b.flush(r)
}

// add reads what a piece needs, now or later.
func (b *batch) add(r io.ReaderAt, c piece) error {
	switch {
	case !c.data:
		clear(c.p)
		return nil
	case c.inline != nil:
		return b.inlineContent(c)
	case c.method != 0:
		if q, ok := b.fs.extents.Get(b.key(c)); ok {
			copy(c.p, q[c.offset:])
			return nil
		}
		return b.want(r, c, c.disk, c.disk+c.diskSize)
	}
	for sector := uint64(b.fs.sectorSize); len(c.p) > 0; {
		start := c.disk + c.offset
		within := start % sector
		n := min(uint64(len(c.p)), maxBatch-within)
		part := piece{c.extent, c.p[:n]}
		if err := b.want(r, part, start-within, (start+n+sector-1)/sector*sector); err != nil {
			return err
		}
		c.p, c.offset = c.p[n:], c.offset+n
	}
	return nil
}

// want adds a piece that needs a range of addresses, and reads what was wanted before if that lies elsewhere.
func (b *batch) want(r io.ReaderAt, c piece, disk, end uint64) error {
	if len(b.pieces) > 0 && (disk != b.end || end-b.disk > maxBatch) {
		if err := b.flush(r); err != nil {
			return err
		}
	}
	if len(b.pieces) == 0 {
		b.disk = disk
	}
	b.end = end
	b.pieces = append(b.pieces, c)
	return nil
}

// flush reads the batch.
func (b *batch) flush(r io.ReaderAt) error {
	if len(b.pieces) == 0 {
		return nil
	}
	pieces, start := b.pieces, b.disk
	b.pieces = nil
	if c := pieces[0]; len(pieces) == 1 && c.method == 0 && uint64(len(c.p)) == b.end-start {
		return b.stored(r, c.p, start)
	}
	p := make([]byte, b.end-start)
	if err := b.stored(r, p, start); err != nil {
		return err
	}
	for _, c := range pieces {
		if c.method == 0 {
			copy(c.p, p[c.disk+c.offset-start:])
			continue
		}
		q, err := b.decompressed(c, p[c.disk-start:][:c.diskSize])
		if err != nil {
			return err
		}
		copy(c.p, q[c.offset:])
	}
	return nil
}

// stored reads stored bytes, whole sectors, and verifies them.
func (b *batch) stored(r io.ReaderAt, p []byte, disk uint64) error {
	var sums []byte
	if b.inode.flags&flagNoDataSum == 0 {
		var err error
		if sums, err = b.fs.sums(r, disk, len(p)); err != nil {
			return err
		}
	}
	for len(p) > 0 { // neighbours may be in different chunks
		c, err := b.fs.chunks.find(disk)
		if err != nil {
			return fmt.Errorf("content of a btrfs file: %w", err)
		}
		n := int(min(uint64(len(p)), c.end()-disk))
		if err := b.fs.readVerified(r, p[:n], disk, sums); err != nil {
			return err
		}
		p, disk = p[n:], disk+uint64(n)
		if sums != nil {
			sums = sums[n/b.fs.sectorSize*b.fs.sum.size:]
		}
	}
	return nil
}

// readVerified reads whole sectors of a chunk, from whichever copy is right. If none is right as a whole,
// each sector may come from another one.
func (fs *FS) readVerified(r io.ReaderAt, p []byte, disk uint64, sums []byte) error {
	const what = "content of a btrfs file"
	read := func(p []byte, disk uint64, sums []byte) error {
		return fs.copies(disk, len(p), what, func(off int64) error {
			if err := fs.readRaw(r, p, off, what); err != nil {
				return err
			}
			return fs.verify(p, off, sums)
		})
	}
	err := read(p, disk, sums)
	if c, _ := fs.chunks.find(disk); err == nil || c.here < 2 {
		return err
	}
	for len(p) > 0 {
		if err := read(p[:fs.sectorSize], disk, sums); err != nil {
			return err
		}
		p, disk = p[fs.sectorSize:], disk+uint64(fs.sectorSize)
		if sums != nil {
			sums = sums[fs.sum.size:]
		}
	}
	return nil
}

// verify compares sectors with their checksums, if there are any.
func (fs *FS) verify(p []byte, off int64, sums []byte) error {
	if sums == nil {
		return nil
	}
	for i := 0; i < len(p); i += fs.sectorSize {
		if !fs.sum.matches(p[i:][:fs.sectorSize], sums[i/fs.sectorSize*fs.sum.size:]) {
			return corrupt.At(off+int64(i), "content of a btrfs file: wrong checksum")
		}
	}
	return nil
}

// sums returns the checksums of n bytes at an address. Each sector must have one.
func (fs *FS) sums(r io.ReaderAt, disk uint64, n int) ([]byte, error) {
	t, err := fs.needed(r, checksumTree)
	if err != nil {
		return nil, err
	}
	size, sector := fs.sum.size, uint64(fs.sectorSize)
	all := make([]byte, 0, n/fs.sectorSize*size)
	from, to := key{sumsObjectID, extentSums, disk}, key{sumsObjectID, extentSums, disk + uint64(n) - 1}
	k, _, err := fs.floor(r, t.tree, from)
	if err != nil {
		return nil, err
	}
	if k.object == sumsObjectID && k.kind == extentSums {
		from = k
	}
	var failed error
	next := disk // whose sum is wanted
	wrong := damage{max: 1}
	fs.scan(r, t.tree, from, to, &wrong, func(k key, p []byte) bool {
		if len(p)%size != 0 || k.offset%sector != 0 || k.offset > math.MaxInt64 {
			failed = corrupt.New("btrfs checksums of address %d: impossible item", k.offset)
			return false
		}
		if k.offset > next {
			return false
		}
		if skip := (next - k.offset) / sector * uint64(size); skip < uint64(len(p)) {
			p = p[skip:min(uint64(len(p)), skip+uint64(cap(all)-len(all)))]
			all = append(all, p...)
			next += uint64(len(p)/size) * sector
		}
		return len(all) < cap(all)
	})
	err = errors.Join(failed, wrong.err())
	if err == nil && len(all) < cap(all) {
		err = corrupt.New("btrfs content at address %d has no checksum", next)
	}
	return all, err
}
