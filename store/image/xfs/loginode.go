package xfs

import (
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Which parts of an inode an item has, beside the core.
const (
	logData       = 0x002 // content that is in the inode
	logExtents    = 0x004
	logRoot       = 0x008
	logDevice     = 0x010
	logAttr       = 0x040
	logAttrExts   = 0x080
	logAttrRoot   = 0x100
	logOwnerOf    = 0x200 | 0x400 // blocks of a tree get another owner
	inodeItemSize = 56
	inodeItem32   = 52 // as some machines of 32 bits wrote it
)

// inodeChange is the first region of an item that changes an inode.
type inodeChange struct {
	fields uint32
	device uint32
	where  extentKey
	off    int64
}

func decodeInodeChange(b []byte) (inodeChange, error) {
	at, device := 40, 24
	switch len(b) {
	case inodeItemSize:
	case inodeItem32:
		at, device = 36, 20
	default:
		return inodeChange{}, corrupt.New("log: inode item of %d bytes", len(b))
	}
	x := inodeChange{
		fields: le.Uint32(b[4:]), device: le.Uint32(b[device:]),
		where: extentKey{int64(le.Uint64(b[at:])), int64(le.Uint32(b[at+8:]))},
	}
	if x.where.at < 0 || x.where.at > 1<<54 {
		return inodeChange{}, corrupt.New("log: inode at sector %d", x.where.at)
	}
	x.off = x.where.at*sector + int64(le.Uint32(b[at+12:]))
	return x, nil
}

// inode writes an inode as the log has it.
func (c *changes) inode(r io.ReaderAt, t *transaction, it *item) error {
	x, err := decodeInodeChange(it.regions[0])
	if err != nil || c.cancelled[x.where] > 0 {
		return err
	}
	if x.fields&logOwnerOf != 0 {
		return corrupt.At(x.off, "log: blocks that change their owner")
	}
	b := make([]byte, c.fs.sb.inodeSize)
	if err := readFull(r, c.fs.size, b, x.off); err != nil {
		return err
	}
	c.overlay.over(b, x.off)
	if len(it.regions) < 2 || len(it.regions[1]) < coreSizeV3 || le.Uint16(it.regions[1]) != 0x494e || string(b[:2]) != inodeMagic {
		return corrupt.At(x.off, "log: no inode in the log, or on the disk")
	}
	if written := be.Uint64(b[112:]); written != 0 && written != 1<<64-1 && written > t.lsn {
		return nil // the log is older
	}
	takeCore(b, it.regions[1], t.lsn)
	if err := c.forks(b, x, it.regions[2:]); err != nil {
		return err
	}
	return c.overlay.put(r, &c.left, c.fs.size, b, x.off)
}

// coreFields are the sizes of the fields of an inode, by their offset: in the log they have
// the other order of bytes. What is not here is kept, or copied as it is.
var coreFields = []struct{ at, size int }{
	{0, 2},
	{2, 2},
	{6, 2},
	{8, 4},
	{12, 4},
	{16, 4},
	{20, 2},
	{22, 2},
	{24, 8},
	{56, 8},
	{64, 8},
	{72, 4},
	{76, 4},
	{80, 2},
	{84, 4},
	{88, 2},
	{90, 2},
	{92, 4},
	{104, 8},
	{120, 8},
	{128, 4},
	{152, 8},
}

// takeCore copies what the log has of an inode, forks excepted.
func takeCore(b, logged []byte, lsn uint64) {
	for _, f := range coreFields {
		swap(b, logged, f.at, f.size)
	}
	copy(b[4:6], logged[4:6])
	copy(b[82:84], logged[82:84])
	copy(b[132:144], logged[132:144])
	copy(b[160:176], logged[160:176])
	be.PutUint64(b[112:], lsn)
	for _, at := range []int{32, 40, 48, 144} {
		if le.Uint64(logged[120:])&flag2Bigtime != 0 {
			swap(b, logged, at, 8)
		} else {
			swap(b, logged, at, 4)
			swap(b, logged, at+4, 4)
		}
	}
}

// swap copies a number to the order of bytes of the disk.
func swap(b, logged []byte, at, size int) {
	for i := range size {
		b[at+i] = logged[at+size-1-i]
	}
}

// forks copies the forks that an item has.
func (c *changes) forks(b []byte, x inodeChange, regions [][]byte) error {
	data, attr := b[coreSizeV3:], []byte(nil)
	if at := int(b[82]) * 8; at > 0 {
		if at > len(data) {
			return corrupt.At(x.off, "log: inode whose attributes begin behind its end")
		}
		data, attr = data[:at], data[at:]
	}
	if x.fields&logDevice != 0 {
		be.PutUint32(data, x.device)
	}
	for _, f := range []struct {
		fork       []byte
		some, root uint32
	}{{data, logData | logExtents | logRoot, logRoot}, {attr, logAttr | logAttrExts | logAttrRoot, logAttrRoot}} {
		if x.fields&f.some == 0 {
			continue
		}
		if len(regions) == 0 {
			return corrupt.At(x.off, "log: inode without a fork that it says it has")
		}
		if x.fields&f.root != 0 {
			if err := c.rootInInode(f.fork, regions[0], x.off); err != nil {
				return err
			}
		} else if n := copy(f.fork, regions[0]); n < len(regions[0]) {
			return corrupt.At(x.off, "log: fork of %d bytes in %d", len(regions[0]), n)
		}
		regions = regions[1:]
	}
	return nil
}

// rootInInode turns the root of a btree from the form of other blocks, which it has in
// memory, to that of inodes.
func (c *changes) rootInInode(fork, b []byte, off int64) error {
	header := c.fs.sb.bmapHeader()
	if len(b) < header || len(fork) < rootHeader {
		return corrupt.At(off, "log: root of a btree of %d bytes", len(b))
	}
	count := int(be.Uint16(b[6:]))
	from := node{b[header:], count, (len(b) - header) / recordSize}
	to := node{fork[rootHeader:], count, (len(fork) - rootHeader) / recordSize}
	if count > from.max || count > to.max {
		return corrupt.At(off, "log: root of a btree with %d of %d records", count, min(from.max, to.max))
	}
	copy(fork, b[4:8]) // level and count
	copy(to.b, from.b[:count*keySize])
	copy(to.b[to.max*keySize:], from.b[from.max*keySize:][:count*pointerSize])
	return nil
}

// createInodes makes inodes that are not in use: what was in their place is of no account.
// The numbers of this item, other than of others, have the order of bytes of the disk.
func (c *changes) createInodes(r io.ReaderAt, it *item) error {
	b := it.regions[0]
	if len(b) < 28 {
		return corrupt.New("log: item of %d bytes for new inodes", len(b))
	}
	s := c.fs.sb
	group, within := uint64(be.Uint32(b[4:])), uint64(be.Uint32(b[8:]))
	count, length := int64(be.Uint32(b[12:])), uint64(be.Uint32(b[20:]))
	first := group<<s.agBits | within
	off, ok := s.position(first, length)
	if !ok || within>>s.agBits != 0 || be.Uint32(b[16:]) != uint32(s.inodeSize) || length > 256 || count*int64(s.inodeSize) != int64(length)*s.blockSize {
		return corrupt.New("log: %d new inodes in %d blocks at %d of group %d", count, length, within, group)
	}
	cluster := max(s.blockSize, s.inodeCluster)
	for at := int64(0); at < int64(length)*s.blockSize; at += cluster {
		if c.cancelled[extentKey{(off + at) / sector, cluster / sector}] > 0 {
			return nil
		}
	}
	for i := range count {
		in := make([]byte, s.inodeSize)
		copy(in, inodeMagic)
		in[4] = 3
		copy(in[92:], b[24:28])
		be.PutUint32(in[96:], 1<<32-1)
		be.PutUint64(in[152:], first<<s.inodeBits+uint64(i))
		copy(in[160:], s.metaUUID[:])
		if err := c.overlay.put(r, &c.left, c.fs.size, in, off+i*int64(s.inodeSize)); err != nil {
			return err
		}
	}
	return nil
}
