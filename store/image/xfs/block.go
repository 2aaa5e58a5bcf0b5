package xfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// layout says where the header of a kind of block has what v5 checks.
type layout struct {
	what                    string
	crc, blkno, uuid, owner int
}

var (
	bmapLayout   = &layout{"extent btree", 64, 24, 40, 56}
	dataLayout   = &layout{"directory block", 4, 8, 24, 40}
	indexLayout  = &layout{"index of a directory", 12, 16, 32, 48}
	attrLayout   = &layout{"attribute block", 12, 16, 32, 48}
	valueLayout  = &layout{"value of an attribute", 12, 40, 16, 32}
	targetLayout = &layout{"target of a link", 12, 40, 16, 32}
)

// blockKey is a verified block. The owner is part of it: another one would have to be
// verified again.
type blockKey struct {
	off    int64
	owner  uint64
	layout *layout
}

// readFull reads len(p) bytes at off of what has size bytes.
func readFull(r io.ReaderAt, size int64, p []byte, off int64) error {
	if off < 0 || off > size || int64(len(p)) > size-off {
		return corrupt.At(off, "the image ends at %d, within %d bytes", size, len(p))
	}
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return corrupt.At(off+int64(n), "the image ends early: %d of %d bytes", n, len(p))
	}
	return fmt.Errorf("read %d bytes at offset %d: %w", len(p), off, err)
}

// read reads what is in the image, with what the log has changed.
func (f *FS) read(r io.ReaderAt, p []byte, off int64) error {
	if err := readFull(r, f.size, p, off); err != nil {
		return err
	}
	f.overlay.over(p, off)
	return nil
}

// verify compares the header of a block with where it lies and whose it is. v4 has nothing
// to compare.
func (f *FS) verify(b []byte, off int64, owner uint64, l *layout) error {
	if !f.sb.v5 {
		return nil
	}
	switch {
	case !f.overlay.changed(off, int64(len(b))) && !crcFits(b, l.crc):
		return corrupt.At(off, "%s: checksum does not match", l.what)
	case !bytes.Equal(b[l.uuid:l.uuid+16], f.sb.metaUUID[:]):
		return corrupt.At(off, "%s: of another file system", l.what)
	case be.Uint64(b[l.blkno:]) != uint64(off)/512:
		return corrupt.At(off, "%s: it says that it lies at %d", l.what, be.Uint64(b[l.blkno:])*512)
	case be.Uint64(b[l.owner:]) != owner:
		return corrupt.At(off, "%s: of inode %d, not of %d", l.what, be.Uint64(b[l.owner:]), owner)
	}
	return nil
}

// cached returns a block that was verified before.
func (f *FS) cached(off int64, owner uint64, l *layout) ([]byte, bool) {
	return f.blocks.Get(blockKey{off, owner, l})
}

func (f *FS) remember(b []byte, off int64, owner uint64, l *layout) {
	f.blocks.Put(blockKey{off, owner, l}, b, int64(len(b)))
}

// block returns a block of the file system, verified, and checked by check before it is
// remembered. Nobody changes it.
func (f *FS) block(r io.ReaderAt, number, owner uint64, l *layout, check func(b []byte, off int64) error) ([]byte, error) {
	off, ok := f.sb.position(number, 1)
	if !ok {
		return nil, corrupt.New("%s of inode %d: no block %#x", l.what, owner, number)
	}
	if b, ok := f.cached(off, owner, l); ok {
		return b, nil
	}
	b := make([]byte, f.sb.blockSize)
	if err := f.read(r, b, off); err != nil {
		return nil, err
	}
	if err := f.verify(b, off, owner, l); err != nil {
		return nil, err
	}
	if err := check(b, off); err != nil {
		return nil, err
	}
	f.remember(b, off, owner, l)
	return b, nil
}

// mapped reads n blocks of a fork from block on, which have to be there, and returns where
// the first one lies. It reads what lies in one piece in one go.
func (f *FS) mapped(r io.ReaderAt, k *fork, block, n uint64, what string) ([]byte, int64, error) {
	b := make([]byte, int64(n)*f.sb.blockSize)
	first := int64(-1)
	for done := uint64(0); done < n; {
		e, ok, err := k.at(r, block+done)
		if err != nil {
			return nil, 0, err
		}
		if !ok || e.start > block+done || e.unwritten {
			return nil, 0, corrupt.New("%s of inode %d: block %d is missing", what, k.owner, block+done)
		}
		e = e.from(block + done)
		count := min(e.count, n-done)
		off, ok := f.sb.position(e.block, count)
		if !ok {
			return nil, 0, corrupt.New("%s of inode %d: no block %#x", what, k.owner, e.block)
		}
		if first < 0 {
			first = off
		}
		part := b[int64(done)*f.sb.blockSize:][:int64(count)*f.sb.blockSize]
		if err := f.read(r, part, off); err != nil {
			return nil, 0, err
		}
		done += count
	}
	return b, first, nil
}
