package ntfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// indexName is the name of the attributes that are the index of a directory.
const indexName = "$I30"

// The parts of an entry of an index, and of the file name in it.
const (
	entryHead    = 16
	nameHead     = 66
	entryLast    = 2
	spaceDOS     = 2
	fileIsDir    = 0x10000000
	fileAReparse = 0x400
	maxBitmap    = 4 << 20 // bytes: for 32 million blocks
	// maxWrong is how many blocks of an index may be wrong before the others are not looked
	// at: an index can claim millions, all in one place of the disk, or in none.
	maxWrong = 100
)

// directory is the names in a directory.
type directory struct{ image.Names }

// list reads a directory.
func (f *FS) list(r io.ReaderAt, number uint64) (*image.Names, error) {
	i, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	if !i.dir() {
		return nil, fmt.Errorf("inode %d: not a directory: %w", number, fs.ErrInvalid)
	}
	d := &directory{}
	if err := d.read(r, f, i, number); err != nil {
		return &d.Names, fmt.Errorf("directory %d: %w", number&refMask, err)
	}
	return &d.Names, nil
}

// read reads the root of the index and its blocks. What is wrong with one of them does not
// hide the others.
func (d *directory) read(r io.ReaderAt, f *FS, i *inode, number uint64) error {
	root := i.find(attrIndexRoot, indexName)
	if root == nil || len(root.value) < 32 {
		return corrupt.New("it has no index")
	}
	block := int64(binary.LittleEndian.Uint32(root.value[8:]))
	failed := d.node(root.value[16:], number, -1)
	if i.find(attrIndexAlloc, indexName) == nil {
		return failed
	}
	if !power(block) || block < minRecord || block > maxRecord {
		return errors.Join(failed, corrupt.New("blocks of %d bytes in its index", block))
	}
	blocks, err := f.streamOf(i.attrs, attrIndexAlloc, indexName)
	if err != nil {
		return errors.Join(failed, err)
	}
	used, err := f.bitmap(r, i)
	if err != nil {
		return errors.Join(failed, err)
	}
	// Clusters that are larger than a block have no number of their own for each block.
	unit := f.cluster
	if unit > block {
		unit = fixupUnit
	}
	b := make([]byte, block)
	wrong := 0
	for n := range min(blocks.size/block, 8*int64(len(used))) {
		if used[n/8]>>(n%8)&1 == 0 {
			continue // it holds names that were deleted, or nothing
		}
		err := blocks.readFull(r, b, n*block)
		if err != nil {
			err = fmt.Errorf("block %d of its index: %w", n, err)
		} else {
			err = d.block(b, number, blocks.where(n*block), n*block/unit)
		}
		if err == nil {
			continue
		}
		if wrong++; wrong > maxWrong {
			return errors.Join(failed, corrupt.New("more than %d blocks of its index are wrong", maxWrong))
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// bitmap returns which blocks of an index are in use.
func (f *FS) bitmap(r io.ReaderAt, i *inode) ([]byte, error) {
	s, err := f.streamOf(i.attrs, attrBitmap, indexName)
	if err != nil {
		return nil, fmt.Errorf("bitmap of its index: %w", err)
	}
	if s.size > maxBitmap {
		return nil, corrupt.New("bitmap of its index has %d bytes", s.size)
	}
	b := make([]byte, s.size)
	if err := s.readFull(r, b, 0); err != nil {
		return nil, fmt.Errorf("bitmap of its index: %w", err)
	}
	return b, nil
}

// block reads a block of the index. It says where in the index it lies.
func (d *directory) block(b []byte, number uint64, at, vcn int64) error {
	if string(b[:4]) != "INDX" {
		return corrupt.At(at, "block of an index: no mark")
	}
	if err := fixup(b, at, "block of an index"); err != nil {
		return err
	}
	if got := int64(binary.LittleEndian.Uint64(b[16:])); got != vcn {
		return corrupt.At(at, "block of an index is that of cluster %d, not %d", got, vcn)
	}
	return d.node(b[24:], number, at+24)
}

// node reads the entries of a node. b begins with its header.
func (d *directory) node(b []byte, number uint64, at int64) error {
	off, used := int64(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint32(b[4:]))
	if off < 16 || used > int64(len(b)) || off > used {
		return corrupt.At(at, "node of an index: entries from %d to %d", off, used)
	}
	var failed error
	for {
		if used-off < entryHead {
			return errors.Join(failed, corrupt.At(at, "node of an index does not end"))
		}
		e := b[off:used]
		length, key, flags := int64(binary.LittleEndian.Uint16(e[8:])), int64(binary.LittleEndian.Uint16(e[10:])), e[12]
		if flags&entryLast != 0 {
			return failed
		}
		if length < entryHead+nameHead || length > used-off || key < nameHead || key > length-entryHead {
			return errors.Join(failed, corrupt.At(at, "node of an index has an entry of %d bytes", length))
		}
		if err := d.add(binary.LittleEndian.Uint64(e), e[entryHead:entryHead+key], number); err != nil {
			failed = errors.Join(failed, corrupt.At(at, "entry of an index: %v", err))
		}
		off += length
	}
}

// add adds an entry. key is the file name that it has.
func (d *directory) add(ref uint64, key []byte, number uint64) error {
	n := 2 * int(key[64])
	if nameHead+n > len(key) || n == 0 {
		return fmt.Errorf("a name of %d bytes", n)
	}
	if key[65] == spaceDOS || ref&refMask < firstUser {
		return nil
	}
	name := decodeUTF16(key[nameHead : nameHead+n])
	if parent := binary.LittleEndian.Uint64(key); parent&refMask != number&refMask {
		return fmt.Errorf("name %q belongs to directory %d", name, parent&refMask)
	}
	var typ uint32 // what a reparse point is, its record tells
	flags := binary.LittleEndian.Uint32(key[56:])
	switch {
	case flags&fileAReparse != 0:
	case flags&fileIsDir != 0:
		typ = image.Dir
	default:
		typ = image.Regular
	}
	return d.Add(image.Entry{Name: name, Number: ref, Type: typ})
}
