package ext

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// descriptorBlock returns the block that holds the nth block of group descriptors.
func (fs *FS) descriptorBlock(n uint64) uint64 {
	super := uint64(superblockOff / fs.blockSize) // the block of the superblock
	if fs.incompat&incompatMetaBG == 0 || n < fs.firstMetaBG {
		return super + 1 + n
	}
	group := n * uint64(fs.blockSize/fs.descSize)
	block := fs.firstDataBlock + group*fs.blocksPerGroup
	if fs.hasSuper(group) {
		block++
	}
	if group == 0 && super > fs.firstDataBlock { // blocks of 1 KiB, with bigalloc
		block++
	}
	return block
}

// inodeTable returns the first block of the inode table of a group.
func (fs *FS) inodeTable(r io.ReaderAt, group uint64) (uint64, error) {
	perBlock := uint64(fs.blockSize / fs.descSize)
	block := fs.descriptorBlock(group / perBlock)
	p, err := fs.verified(r, cacheKey{block: block, kind: kindDescriptors}, "ext group descriptors", func([]byte) error { return nil })
	if err != nil {
		return 0, err
	}
	off := int(group%perBlock) * fs.descSize
	d := p[off : off+fs.descSize]
	le := binary.LittleEndian
	if !fs.descriptorIsRight(d, uint32(group)) {
		return 0, corrupt.At(fs.at(block)+int64(off), "descriptor of ext group %d: wrong checksum", group)
	}
	table := uint64(le.Uint32(d[0x8:]))
	if fs.descSize >= 64 {
		table |= uint64(le.Uint32(d[0x28:])) << 32
	}
	if fs.inside(table, fs.tableBlocks(), "") != nil {
		return 0, corrupt.At(fs.at(block)+int64(off), "descriptor of ext group %d: the inode table lies outside of the file system", group)
	}
	return table, nil
}

func (fs *FS) tableBlocks() uint64 {
	return (fs.inodesPerGroup*uint64(fs.inodeSize) + uint64(fs.blockSize) - 1) / uint64(fs.blockSize)
}

func (fs *FS) descriptorIsRight(d []byte, group uint32) bool {
	const field = 0x1e
	want := binary.LittleEndian.Uint16(d[field:])
	number := binary.LittleEndian.AppendUint32(nil, group)
	switch {
	case fs.checksums():
		c := chksum(chksum(fs.seed, number), d[:field])
		c = chksum(c, []byte{0, 0})
		return uint16(chksum(c, d[field+2:])) == want
	case fs.roCompat&roGDTCsum != 0:
		c := crc16(crc16(math.MaxUint16, fs.uuid[:]), number)
		c = crc16(c, d[:field])
		return crc16(c, d[field+2:]) == want
	}
	return true
}

// crc16 is CRC-16/ARC, which uninit_bg uses.
func crc16(c uint16, p []byte) uint16 {
	for _, b := range p {
		c ^= uint16(b)
		for range 8 {
			carry := c & 1
			c = c>>1 ^ 0xa001*carry
		}
	}
	return c
}
