package ext

import (
	"cmp"
	"encoding/binary"
	"io"
	"slices"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// kind says what a remembered block was verified as.
type kind uint8

const (
	kindTable kind = iota // part of an inode table, whose inodes are verified when used
	kindDescriptors
	kindExtents
	kindIndirect
	kindDirectory
	kindXattrs
)

// cacheKey finds a verified block. The owner belongs to it: it is part of the checksum.
type cacheKey struct {
	block uint64
	owner uint32
	kind  kind
}

// replaced says that a block is to be read from the log.
type replaced struct {
	block uint64
	// place is where in the image, as a block; the highest bit says that its magic was escaped.
	place uint64
}

const escaped = 1 << 63

// overlay is the log in front of the blocks, sorted by block.
type overlay []replaced

// from returns the first replaced block that is not before block.
func (o overlay) from(block uint64) int {
	i, _ := slices.BinarySearchFunc(o, block, func(r replaced, b uint64) int { return cmp.Compare(r.block, b) })
	return i
}

// read reads p at off, as the file system is with its log.
func (fs *FS) read(r io.ReaderAt, p []byte, off int64, what string) error {
	bs := int64(fs.blockSize)
	for i := fs.overlay.from(uint64(off / bs)); len(p) > 0; i++ {
		plain := int64(len(p))
		if i < len(fs.overlay) {
			plain = min(plain, max(0, int64(fs.overlay[i].block)*bs-off))
		}
		if plain > 0 {
			if err := fs.readRaw(r, p[:plain], off, what); err != nil {
				return err
			}
			p, off = p[plain:], off+plain
		}
		if len(p) == 0 {
			return nil
		}
		within := off % bs
		n := min(int64(len(p)), bs-within)
		if err := fs.readLogged(r, p[:n], fs.overlay[i], within, what); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// readLogged reads p at an offset within a block that lies in the log.
func (fs *FS) readLogged(r io.ReaderAt, p []byte, b replaced, within int64, what string) error {
	if err := fs.readRaw(r, p, int64(b.place&^escaped)*int64(fs.blockSize)+within, what); err != nil {
		return err
	}
	if b.place&escaped != 0 && within < 4 {
		magic := binary.BigEndian.AppendUint32(nil, journalMagic)
		copy(p, magic[within:])
	}
	return nil
}

// readBlocks reads n blocks.
func (fs *FS) readBlocks(r io.ReaderAt, block, n uint64, what string) ([]byte, error) {
	if err := fs.inside(block, n, what); err != nil {
		return nil, err
	}
	p := make([]byte, n*uint64(fs.blockSize))
	return p, fs.read(r, p, int64(block)*int64(fs.blockSize), what)
}

// inside checks that blocks lie in the file system.
func (fs *FS) inside(block, n uint64, what string) error {
	if block < fs.firstDataBlock || n > fs.blocks || block > fs.blocks-n {
		return corrupt.New("%s: blocks %d to %d lie outside of the file system", what, block, block+n-1)
	}
	return nil
}

// verified returns a block that verify has found to be right, from memory or from r.
func (fs *FS) verified(r io.ReaderAt, key cacheKey, what string, verify func(p []byte) error) ([]byte, error) {
	if p, ok := fs.cache.Get(key); ok {
		return p, nil
	}
	p, err := fs.readBlocks(r, key.block, 1, what)
	if err != nil {
		return nil, err
	}
	if err := verify(p); err != nil {
		return nil, err
	}
	fs.cache.Put(key, p, int64(len(p)))
	return p, nil
}

// at returns the offset of a block, for messages.
func (fs *FS) at(block uint64) int64 { return int64(block) * int64(fs.blockSize) }
