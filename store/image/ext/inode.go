package ext

import (
	"encoding/binary"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// Flags of inodes.
const (
	flagCompressed = 0x4
	flagEncrypted  = 0x800
	flagIndex      = 0x1000
	flagHugeFile   = 0x40000
	flagExtents    = 0x80000
	flagEAInode    = 0x200000
	flagInline     = 0x10000000
)

const tableChunk = 64 << 10 // bytes of an inode table that are read at once

// inode is a decoded inode, its checksum verified.
type inode struct {
	image.Inode

	flags, generation uint32
	block             [60]byte // map of the content, or content
	xattrBlock        uint64
	extra             []byte // behind the fixed fields, for attributes; nil if there are none
	valueHash         uint32 // of an inode that is a value: where others have the time of access
	seed              uint32 // of checksums of what belongs to it
	off               int64  // in the image
}

func (i *inode) has(flag uint32) bool { return i.flags&flag != 0 }

// Inode returns the attributes of an object.
func (fs *FS) Inode(r io.ReaderAt, number uint64) (*image.Inode, error) {
	i, err := fs.object(r, number)
	if err != nil {
		return nil, err
	}
	return &i.Inode, nil
}

// object returns an inode that a directory may name.
func (fs *FS) object(r io.ReaderAt, number uint64) (*inode, error) {
	if number != rootInode && number < fs.firstInode {
		return nil, corrupt.New("ext inode %d: the number is reserved", number)
	}
	i, err := fs.inode(r, number)
	if err != nil {
		return nil, err
	}
	if i.has(flagEAInode) {
		return nil, corrupt.At(i.off, "ext inode %d: it holds an attribute and is no object", number)
	}
	return i, nil
}

// inode reads any inode.
func (fs *FS) inode(r io.ReaderAt, number uint64) (*inode, error) {
	if number == 0 || number > fs.inodes {
		return nil, corrupt.New("ext inode %d: there is no such number", number)
	}
	p, off, err := fs.rawInode(r, number)
	if err != nil {
		return nil, err
	}
	return fs.parseInode(p, number, off)
}

// rawInode returns the bytes of an inode and their offset. A part of the table is read at once,
// as neighbours are often wanted together; if that fails, only the block that is needed is.
func (fs *FS) rawInode(r io.ReaderAt, number uint64) ([]byte, int64, error) {
	const what = "ext inode table"
	table, err := fs.inodeTable(r, (number-1)/fs.inodesPerGroup)
	if err != nil {
		return nil, 0, err
	}
	bs := uint64(fs.blockSize)
	off := (number - 1) % fs.inodesPerGroup * uint64(fs.inodeSize) // in the table
	perChunk := max(1, tableChunk/bs)
	first := off / bs / perChunk * perChunk
	key := cacheKey{block: table + first, kind: kindTable}
	p, ok := fs.cache.Get(key)
	if !ok {
		p, err = fs.readBlocks(r, key.block, min(perChunk, fs.tableBlocks()-first), what)
		if err == nil {
			fs.cache.Put(key, p, int64(len(p)))
		} else {
			first = off / bs
			if p, err = fs.readBlocks(r, table+first, 1, what); err != nil {
				return nil, 0, err
			}
		}
	}
	start := off - first*bs
	return p[start : start+uint64(fs.inodeSize)], fs.at(table) + int64(off), nil
}

func (fs *FS) parseInode(p []byte, number uint64, off int64) (*inode, error) {
	le := binary.LittleEndian
	extra := 0
	if fs.inodeSize > goodOldInode {
		extra = int(le.Uint16(p[0x80:]))
	}
	if extra > fs.inodeSize-goodOldInode || extra%4 != 0 {
		return nil, corrupt.At(off, "ext inode %d: impossible size of extra fields", number)
	}
	i := &inode{flags: le.Uint32(p[0x20:]), generation: le.Uint32(p[0x64:]), block: [60]byte(p[0x28:]), valueHash: le.Uint32(p[0x8:]), off: off}
	i.seed = chksum32(chksum32(fs.seed, uint32(number)), i.generation)
	if fs.checksums() && !inodeIsRight(p, i.seed, extra) {
		return nil, corrupt.At(off, "ext inode %d: wrong checksum", number)
	}
	i.Inode = image.Inode{
		Number: number, Mode: uint32(le.Uint16(p)), Nlink: uint32(le.Uint16(p[0x1a:])), Blocks: fs.allocated(p, i.flags),
		UID: uint32(le.Uint16(p[0x2:])) | uint32(le.Uint16(p[0x78:]))<<16, GID: uint32(le.Uint16(p[0x18:])) | uint32(le.Uint16(p[0x7a:]))<<16,
		Size: int64(le.Uint32(p[0x4:])), Mtime: inodeTime(p, extra),
	}
	if i.Type() == image.Regular || fs.incompat&incompatLargedir != 0 {
		i.Size |= int64(le.Uint32(p[0x6c:])) << 32
	}
	i.xattrBlock = uint64(le.Uint32(p[0x68:]))
	if fs.creator != creatorHurd {
		i.xattrBlock |= uint64(le.Uint16(p[0x76:])) << 32
	}
	if extra > 0 {
		i.extra = p[goodOldInode+extra:]
	}
	return i, fs.checkInode(i)
}

// checkInode refuses what the kernel refuses, and finishes what depends on the type.
func (fs *FS) checkInode(i *inode) error {
	wrong := func(reason string) error { return corrupt.At(i.off, "ext inode %d: %s", i.Number, reason) }
	if i.Nlink == 0 {
		return wrong("it is deleted")
	}
	if i.Size < 0 {
		return wrong("impossible size")
	}
	switch i.Type() {
	case image.CharDevice, image.BlockDevice:
		i.Rdev = inodeDevice(i.block)
	case image.Regular:
		if i.has(flagInline) {
			i.Blocks += (i.Size + 511) / 512 // so that no program takes it for a hole
		}
	case image.Dir, image.Symlink, image.Fifo, image.Socket:
	default:
		return wrong("impossible type")
	}
	return nil
}

func inodeIsRight(p []byte, seed uint32, extra int) bool {
	const low, high = 0x7c, 0x82
	le := binary.LittleEndian
	want := uint32(le.Uint16(p[low:]))
	c := chksum(chksum(seed, p[:low]), []byte{0, 0})
	c = chksum(c, p[low+2:goodOldInode])
	if len(p) == goodOldInode || extra < high+2-goodOldInode {
		c = chksum(c, p[goodOldInode:])
		return uint16(c) == uint16(want)
	}
	c = chksum(chksum(c, p[goodOldInode:high]), []byte{0, 0})
	return chksum(c, p[high+2:]) == want|uint32(le.Uint16(p[high:]))<<16
}

// allocated returns the number of 512-byte units.
func (fs *FS) allocated(p []byte, flags uint32) int64 {
	n := int64(binary.LittleEndian.Uint32(p[0x1c:]))
	if fs.roCompat&roHugeFile == 0 {
		return n
	}
	n |= int64(binary.LittleEndian.Uint16(p[0x74:])) << 32
	if flags&flagHugeFile != 0 {
		n *= int64(fs.blockSize / 512)
	}
	return n
}

// inodeTime returns the time of the last change of the content.
func inodeTime(p []byte, extra int) image.Time {
	const field = 0x88
	if extra == 0 { // then the fields are there, without saying so
		extra = 32
	}
	le := binary.LittleEndian
	t := image.Time{Sec: int64(int32(le.Uint32(p[0x10:])))}
	if len(p) >= field+4 && extra >= field+4-goodOldInode {
		more := le.Uint32(p[field:])
		t.Sec += int64(more&3) << 32
		t.Nsec = more >> 2
	}
	if t.Nsec >= 1e9 { // the field has room for it
		t.Sec, t.Nsec = t.Sec+1, t.Nsec-1e9
	}
	return t
}

// inodeDevice decodes the old form, of 16 bits, and the new one.
func inodeDevice(block [60]byte) image.Device {
	if d := binary.LittleEndian.Uint32(block[:]); d != 0 {
		return image.Device{Major: d >> 8 & 0xff, Minor: d & 0xff}
	}
	d := binary.LittleEndian.Uint32(block[4:])
	return image.Device{Major: d >> 8 & 0xfff, Minor: d&0xff | d>>12&0xfff00}
}
