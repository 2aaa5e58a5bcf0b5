package xfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// A block with names is one of many, or the only one: then the index is at its end.
const (
	dataMagic    = "XD2D"
	dataMagicV5  = "XDD3"
	aloneMagic   = "XD2B"
	aloneMagicV5 = "XDB3"
	freeTag      = 0xffff
	readAhead    = 128 << 10 // of names that lie in one piece
)

func isCorrupt(err error) bool { return errors.Is(err, corrupt.Err) }

// notThere is the error for an entry that was not found.
func notThere(e image.Entry) error {
	if e.Name == "" {
		return fs.ErrNotExist
	}
	return nil
}

// visit is called with a block, or with the error that says why there is none. It says
// whether to go on.
type visit func(b dataBlock, err error) bool

// dataBlock is a verified block with names.
type dataBlock struct {
	b      []byte
	off    int64  // in the image
	number uint64 // in the directory
}

// blocks calls fn with each block that has names.
func (d *directory) blocks(r io.ReaderAt, fn visit) {
	end := uint64(indexOffset / d.fs.sb.blockSize)
	left := d.in.blocks // no directory has more
	for pos := uint64(0); ; {
		e, ok, err := d.fork.at(r, pos)
		if err != nil {
			fn(dataBlock{}, err)
			return
		}
		if !ok || e.start >= end {
			d.checkEnd(pos, fn)
			return
		}
		pos = max(pos, e.start/d.per*d.per)
		n := uint64(1) // blocks of the directory that lie in one piece
		if e.start <= pos && e.end()-pos >= d.per {
			n = min(e.end()-pos, max(uint64(readAhead/d.fs.sb.blockSize), d.per)) / d.per
			d.prefetch(r, pos, n)
		}
		for range n {
			if left < d.per {
				fn(dataBlock{}, corrupt.At(d.in.off, "directory %d: it has more than its %d blocks", d.in.number, d.in.blocks))
				return
			}
			left -= d.per
			if !fn(d.block(r, pos/d.per)) {
				return
			}
			pos += d.per
		}
	}
}

// checkEnd compares where the names end with the size of the directory.
func (d *directory) checkEnd(pos uint64, fn visit) {
	if end := d.fs.sb.bytes(pos); end != d.in.size {
		fn(dataBlock{}, corrupt.At(d.in.off, "directory %d: of %d bytes, but names end at %d", d.in.number, d.in.size, end))
	}
}

// prefetch reads blocks that lie in one piece in one go, and remembers those that are
// right. The others will be read again, one by one.
func (d *directory) prefetch(r io.ReaderAt, pos, n uint64) {
	if n == 1 || d.isCached(r, pos) {
		return
	}
	all, off, err := d.fs.mapped(r, d.fork, pos, n*d.per, "directory")
	if err != nil {
		return
	}
	for i := range int64(n) {
		at := off + i*d.fs.sb.dirSize
		b := all[i*d.fs.sb.dirSize:][:d.fs.sb.dirSize]
		if d.check(b, at) == nil {
			d.fs.remember(bytes.Clone(b), at, d.in.number, dataLayout)
		}
	}
}

func (d *directory) isCached(r io.ReaderAt, pos uint64) bool {
	e, ok, err := d.fork.at(r, pos)
	if err != nil || !ok || e.start > pos {
		return false
	}
	off, ok := d.fs.sb.position(e.from(pos).block, 1)
	if !ok {
		return false
	}
	_, ok = d.fs.cached(off, d.in.number, dataLayout)
	return ok
}

// block returns a block with names.
func (d *directory) block(r io.ReaderAt, number uint64) (dataBlock, error) {
	b, off, err := d.read(r, number*d.per, d.per, dataLayout, d.check)
	if err != nil {
		return dataBlock{}, err
	}
	if magic := string(b[:4]); (magic == aloneMagic || magic == aloneMagicV5) && d.in.size != int64(len(b)) {
		return dataBlock{}, corrupt.At(off, "directory %d: of %d bytes, but this block says that it is the only one", d.in.number, d.in.size)
	}
	return dataBlock{b, off, number}, nil
}

// read reads n blocks of the directory's fork as one, verifies them and has them checked,
// unless that was done before.
func (d *directory) read(r io.ReaderAt, pos, n uint64, l *layout, check func(b []byte, off int64) error) ([]byte, int64, error) {
	e, ok, err := d.fork.at(r, pos)
	if err != nil {
		return nil, 0, err
	}
	if ok && e.start <= pos {
		if off, ok := d.fs.sb.position(e.from(pos).block, 1); ok {
			if b, ok := d.fs.cached(off, d.in.number, l); ok && len(b) == int(n)*int(d.fs.sb.blockSize) {
				return b, off, nil
			}
		}
	}
	b, off, err := d.fs.mapped(r, d.fork, pos, n, l.what)
	if err != nil {
		return nil, 0, err
	}
	if err := check(b, off); err != nil {
		return nil, 0, err
	}
	d.fs.remember(b, off, d.in.number, l)
	return b, off, nil
}

// check verifies a block with names.
func (d *directory) check(b []byte, off int64) error {
	alone, data := aloneMagic, dataMagic
	if d.fs.sb.v5 {
		alone, data = aloneMagicV5, dataMagicV5
	}
	if m := string(b[:4]); m != alone && m != data {
		return corrupt.At(off, "directory %d: magic number %q", d.in.number, m)
	}
	return d.fs.verify(b, off, d.in.number, dataLayout)
}

// namesBegin and namesEnd are where the entries of a block lie.
func (d *directory) namesBegin() int {
	if d.fs.sb.v5 {
		return 64
	}
	return 16
}

func (d *directory) namesEnd(b dataBlock) (int, error) {
	if m := string(b.b[:4]); m != aloneMagic && m != aloneMagicV5 {
		return len(b.b), nil
	}
	count := int64(be.Uint32(b.b[len(b.b)-8:]))
	end := int64(len(b.b)) - 8 - count*8
	if end < int64(d.namesBegin()) {
		return 0, corrupt.At(b.off, "directory %d: index of %d names in a block", d.in.number, count)
	}
	return int(end), nil
}

// scan calls fn with the entries of a block, but for those of itself and its parent, until
// it returns false.
func (d *directory) scan(b dataBlock, fn func(e image.Entry, off int64) bool) error {
	end, err := d.namesEnd(b)
	if err != nil {
		return err
	}
	for at := d.namesBegin(); at < end; {
		if end-at < 8 {
			return corrupt.At(b.off+int64(at), "directory %d: %d bytes at the end of a block", d.in.number, end-at)
		}
		if be.Uint16(b.b[at:]) == freeTag {
			n := int(be.Uint16(b.b[at+2:]))
			if n < 8 || n%8 != 0 || n > end-at {
				return corrupt.At(b.off+int64(at), "directory %d: free space of %d bytes", d.in.number, n)
			}
			at += n
			continue
		}
		e, n, err := d.entry(b, at, end)
		if err != nil {
			return err
		}
		if !d.isDot(e, b, at) && !fn(e, b.off+int64(at)) {
			return nil
		}
		at += n
	}
	return nil
}

// isDot says whether an entry is "." or "..", which lie at the beginning of a directory.
func (d *directory) isDot(e image.Entry, b dataBlock, at int) bool {
	return b.number == 0 && at < d.namesBegin()+32 && (e.Name == "." && e.Number == d.in.number || e.Name == "..")
}

// entry decodes the entry at a place of a block, and returns its length: number, length of
// the name, name, type, and in its last two bytes the place again.
func (d *directory) entry(b dataBlock, at, end int) (image.Entry, int, error) {
	kind := 0
	if d.fs.sb.ftype {
		kind = 1
	}
	if at < d.namesBegin() || at%8 != 0 || end-at < 16 {
		return image.Entry{}, 0, corrupt.At(b.off+int64(at), "directory %d: no entry can begin here", d.in.number)
	}
	p := b.b[at:end]
	name := int(p[8])
	n := (9 + name + kind + 2 + 7) &^ 7
	if n > len(p) || int(be.Uint16(p[n-2:])) != at {
		return image.Entry{}, 0, corrupt.At(b.off+int64(at), "directory %d: an entry of %d bytes that does not know where it is", d.in.number, n)
	}
	e := image.Entry{Name: string(p[9 : 9+name]), Number: be.Uint64(p)}
	if kind == 1 {
		e.Type = entryType(p[9+name])
	}
	return e, n, nil
}
