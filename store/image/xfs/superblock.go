package xfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// Magic numbers of superblocks, and the parts of sb_versionnum.
const (
	superblockMagic = "XFSB"
	superblockSize  = 264 // what is read of it here
	versionMask     = 0x000f
	versionDirV2    = 0x2000
	versionCI       = 0x4000 // names are compared without regard to case
	versionMoreBits = 0x8000
)

// Bits of sb_features2, which v4 has.
const features2Ftype = 0x200

// Bits of sb_features_incompat, which v5 has.
const (
	incompatFtype = 1 << iota
	incompatSparseInodes
	incompatMetaUUID
	incompatBigtime
	incompatNeedsRepair
	incompatNrext64
	incompatExchange
	incompatParent
	incompatMetadir
	incompatZoned
	incompatZoneGaps

	incompatKnown = incompatMetadir - 1
)

var be = binary.BigEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// superblock is what a superblock says about the whole file system.
type superblock struct {
	v5, ftype, ci bool
	incompat      uint32
	uuid          [16]byte
	metaUUID      [16]byte // what the blocks carry
	label         string

	blockSize  int64
	sectorSize int64
	inodeSize  int
	dirSize    int64 // bytes of a block of a directory
	dataBlocks uint64
	agBlocks   uint64
	agCount    uint64
	agBits     uint // bits of a block's number that say where it is in its group
	inodeBits  uint // bits of an inode's number that say where it is in its block
	root       uint64
	logStart   uint64 // block; 0: the log is on another device
	logBlocks  uint64

	inodeCluster int64 // bytes of inodes that are one buffer in the log
}

// crcFits compares a CRC that lies within what it covers: it counts as 0 there.
func crcFits(b []byte, at int) bool {
	sum := crc32.Update(0, castagnoli, b[:at])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	sum = crc32.Update(sum, castagnoli, b[at+4:])
	return sum == binary.LittleEndian.Uint32(b[at:])
}

// readSuperblock reads the superblock at off.
func readSuperblock(r io.ReaderAt, size, off int64) (*superblock, error) {
	b := make([]byte, superblockSize)
	if err := readFull(r, size, b, off); err != nil {
		return nil, err
	}
	s, err := decodeSuperblock(b, off)
	if err != nil || !s.v5 {
		return s, err
	}
	sector := make([]byte, s.sectorSize)
	if err := readFull(r, size, sector, off); err != nil {
		return nil, err
	}
	if !crcFits(sector, 224) || !bytes.Equal(sector[:superblockSize], b) {
		return nil, corrupt.At(off, "superblock: checksum does not match")
	}
	return s, s.supported()
}

// decodeSuperblock checks everything that numbers are computed with later on.
func decodeSuperblock(b []byte, off int64) (*superblock, error) {
	bad := func(format string, args ...any) error {
		return corrupt.At(off, "superblock: "+format, args...)
	}
	if string(b[:4]) != superblockMagic {
		return nil, bad("no magic number")
	}
	version := be.Uint16(b[100:])
	s := &superblock{
		v5:         version&versionMask == 5,
		ci:         version&versionCI != 0,
		label:      string(bytes.TrimRight(b[108:120], "\x00")),
		blockSize:  int64(be.Uint32(b[4:])),
		sectorSize: int64(be.Uint16(b[102:])),
		inodeSize:  int(be.Uint16(b[104:])),
		dataBlocks: be.Uint64(b[8:]),
		agBlocks:   uint64(be.Uint32(b[84:])),
		agCount:    uint64(be.Uint32(b[88:])),
		agBits:     uint(b[124]),
		inodeBits:  uint(b[123]),
		root:       be.Uint64(b[56:]),
		logStart:   be.Uint64(b[48:]),
		logBlocks:  uint64(be.Uint32(b[96:])),
	}
	copy(s.uuid[:], b[32:])
	s.metaUUID = s.uuid
	if v := version & versionMask; v < 1 || v > 5 {
		return nil, bad("version %d", v)
	}
	if !powerOfTwo(s.blockSize, 512, 64<<10) || !powerOfTwo(s.sectorSize, 512, 32<<10) || s.sectorSize > s.blockSize {
		return nil, bad("blocks of %d bytes, sectors of %d", s.blockSize, s.sectorSize)
	}
	if !powerOfTwo(int64(s.inodeSize), 256, min(2048, s.blockSize)) || s.blockSize>>s.inodeBits != int64(s.inodeSize) || s.inodeBits > 8 {
		return nil, bad("inodes of %d bytes in blocks of %d", s.inodeSize, s.blockSize)
	}
	if b[192] > 7 || s.blockSize<<b[192] > 64<<10 {
		return nil, bad("directory blocks of %d<<%d bytes", s.blockSize, b[192])
	}
	s.dirSize = s.blockSize << b[192]
	if s.agCount == 0 || s.agBlocks < 16 || s.agBits != uint(bits.Len64(s.agBlocks-1)) {
		return nil, bad("%d groups of %d blocks, which are numbered with %d bits", s.agCount, s.agBlocks, s.agBits)
	}
	if s.dataBlocks > s.agCount*s.agBlocks || s.dataBlocks <= (s.agCount-1)*s.agBlocks || s.dataBlocks > 1<<63/uint64(s.blockSize)-1 {
		return nil, bad("%d blocks in %d groups of %d", s.dataBlocks, s.agCount, s.agBlocks)
	}
	s.features(b, version)
	s.inodeCluster = 8 << 10
	if larger := s.inodeCluster * int64(s.inodeSize) / 256; s.v5 && int64(be.Uint32(b[180:])) >= larger/s.blockSize {
		s.inodeCluster = larger
	}
	if version&versionMask < 4 || version&versionDirV2 == 0 {
		return nil, fmt.Errorf("xfs: %w: version %d, which has other directories", image.ErrUnsupported, version&versionMask)
	}
	return s, nil
}

// features sets what the bits say.
func (s *superblock) features(b []byte, version uint16) {
	if !s.v5 {
		// The second copy is what some old kernels wrote by mistake.
		s.ftype = version&versionMoreBits != 0 && (be.Uint32(b[200:])|be.Uint32(b[204:]))&features2Ftype != 0
		return
	}
	s.incompat = be.Uint32(b[216:])
	s.ftype = s.incompat&incompatFtype != 0
	if s.incompat&incompatMetaUUID != 0 {
		copy(s.metaUUID[:], b[248:])
	}
}

// supported refuses what would be shown wrong.
func (s *superblock) supported() error {
	unknown := s.incompat &^ incompatKnown
	if unknown == 0 {
		return nil
	}
	var names error
	for bit, name := range map[uint32]string{incompatMetadir: "metadir", incompatZoned: "zoned", incompatZoneGaps: "zone gaps"} {
		if unknown&bit != 0 {
			names = errors.Join(names, fmt.Errorf("xfs: %w: feature %s", image.ErrUnsupported, name))
			unknown &^= bit
		}
	}
	if unknown != 0 {
		names = errors.Join(names, fmt.Errorf("xfs: %w: features %#x", image.ErrUnsupported, unknown))
	}
	return names
}

func powerOfTwo(n, least, most int64) bool { return n >= least && n <= most && n&(n-1) == 0 }

// findSuperblock reads the first superblock, or, when that is damaged, another one. It
// says whether it did.
func findSuperblock(r io.ReaderAt, size int64) (s *superblock, backup bool, err error) {
	first := make([]byte, superblockSize)
	if size < superblockSize {
		return nil, false, fmt.Errorf("xfs: %w", image.ErrUnknown)
	}
	if err := readFull(r, size, first, 0); err != nil {
		return nil, false, err
	}
	if string(first[:4]) != superblockMagic {
		return nil, false, fmt.Errorf("xfs: %w", image.ErrUnknown)
	}
	s, err = readSuperblock(r, size, 0)
	if !errors.Is(err, corrupt.Err) {
		return s, false, err
	}
	for _, off := range backups(first, size) {
		other, otherErr := readSuperblock(r, size, off)
		if otherErr == nil && other.begins(1) == off {
			return other, true, nil
		}
	}
	return nil, false, err
}

// backups are offsets where the second superblock may lie, if the first one is damaged: as
// its own numbers say, and as mkfs divides what there is.
func backups(first []byte, size int64) []int64 {
	var all []int64
	add := func(off int64) {
		if off > 0 && off <= size-superblockSize {
			all = append(all, off)
		}
	}
	for log := 9; log <= 16; log++ {
		add(int64(be.Uint32(first[84:])) << log)
	}
	for _, log := range []int{12, 10, 9, 11, 13, 14, 15, 16} {
		blocks := size >> log
		for _, groups := range []int64{4, 2, 1, 8, 16, 32} {
			add((blocks + groups - 1) / groups << log)
			add(blocks / groups << log)
		}
	}
	return all
}

// begins returns the offset of a group.
func (s *superblock) begins(group uint64) int64 {
	return int64(group*s.agBlocks) * s.blockSize
}

// groupBlocks returns how many blocks a group has: the last one may be shorter.
func (s *superblock) groupBlocks(group uint64) uint64 {
	return min(s.agBlocks, s.dataBlocks-group*s.agBlocks)
}

// position returns where n blocks begin, and whether they exist within one group.
func (s *superblock) position(block, n uint64) (off int64, ok bool) {
	group, within := block>>s.agBits, block&(1<<s.agBits-1)
	if group >= s.agCount || within >= s.groupBlocks(group) || n > s.groupBlocks(group)-within {
		return 0, false
	}
	return s.begins(group) + int64(within)*s.blockSize, true
}

// inodePosition returns where an inode lies, and whether it exists within a group.
func (s *superblock) inodePosition(number uint64) (off int64, ok bool) {
	within := int64(number&(1<<s.inodeBits-1)) * int64(s.inodeSize)
	off, ok = s.position(number>>s.inodeBits, 1)
	return off + within, ok && number > 0
}
