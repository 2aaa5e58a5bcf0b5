package ext

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	superblockOff  = 1024
	superblockSize = 1024
	superMagic     = 0xef53
)

// Compatible, incompatible and read-only compatible features, as far as they matter.
const (
	compatHasJournal   = 0x4
	compatSparseSuper2 = 0x200

	incompatCompression = 0x1
	incompatFiletype    = 0x2
	incompatRecover     = 0x4
	incompatJournalDev  = 0x8
	incompatMetaBG      = 0x10
	incompatExtents     = 0x40
	incompat64bit       = 0x80
	incompatMMP         = 0x100
	incompatFlexBG      = 0x200
	incompatEAInode     = 0x400
	incompatCsumSeed    = 0x2000
	incompatLargedir    = 0x4000
	incompatInlineData  = 0x8000
	incompatEncrypt     = 0x10000
	incompatCasefold    = 0x20000
	incompatKnown       = incompatFiletype | incompatRecover | incompatMetaBG | incompatExtents | incompat64bit | incompatMMP | incompatFlexBG |
		incompatEAInode | incompatCsumSeed | incompatLargedir | incompatInlineData | incompatEncrypt | incompatCasefold

	roSparseSuper  = 0x1
	roLargeFile    = 0x2
	roBtreeDir     = 0x4
	roHugeFile     = 0x8
	roGDTCsum      = 0x10
	roBigalloc     = 0x200
	roMetadataCsum = 0x400
)

const (
	stateErrors  = 0x2
	creatorHurd  = 1
	goodOldInode = 128
	rootInode    = 2
)

// superblock is what the decoder needs of the superblock.
type superblock struct {
	inodes, blocks             uint64
	firstDataBlock             uint64
	blockSize, clusterSize     int
	blocksPerGroup             uint64
	inodesPerGroup             uint64
	groups                     uint64
	state                      uint16
	creator                    uint32
	firstInode                 uint64
	inodeSize, descSize        int
	groupNumber                uint16
	compat, incompat, roCompat uint32
	uuid                       [16]byte
	label                      string
	journalInode               uint64
	firstMetaBG                uint64
	backupGroups               [2]uint32
	seed                       uint32 // of all checksums
}

// chksum is crc32c as ext4 uses it: neither the seed nor the result is inverted.
func chksum(seed uint32, p []byte) uint32 { return ^crc32.Update(^seed, castagnoli, p) }

func chksum32(seed, value uint32) uint32 {
	return chksum(seed, binary.LittleEndian.AppendUint32(nil, value))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseSuperblock decodes the superblock p that lies at off.
func parseSuperblock(p []byte, off int64) (*superblock, error) {
	le := binary.LittleEndian
	s := &superblock{
		inodes: uint64(le.Uint32(p)), blocks: uint64(le.Uint32(p[0x4:])), firstDataBlock: uint64(le.Uint32(p[0x14:])),
		blocksPerGroup: uint64(le.Uint32(p[0x20:])), inodesPerGroup: uint64(le.Uint32(p[0x28:])),
		state: le.Uint16(p[0x3a:]), creator: le.Uint32(p[0x48:]),
		firstInode: 11, inodeSize: goodOldInode, descSize: 32, groupNumber: le.Uint16(p[0x5a:]),
	}
	if le.Uint16(p[0x38:]) != superMagic {
		return nil, image.ErrUnknown
	}
	if revision := le.Uint32(p[0x4c:]); revision > 1 {
		return nil, fmt.Errorf("ext revision %d: %w", revision, image.ErrUnsupported)
	} else if revision == 1 {
		s.dynamic(p)
	}
	// The checksum comes before all else: where it is wrong, no other message is worth anything.
	if s.roCompat&roMetadataCsum != 0 {
		if kind := p[0x175]; kind != 1 {
			return nil, fmt.Errorf("ext checksums of type %d: %w", kind, image.ErrUnsupported)
		}
		if chksum(math.MaxUint32, p[:0x3fc]) != le.Uint32(p[0x3fc:]) {
			return nil, corrupt.At(off, "ext superblock: wrong checksum")
		}
	}
	if err := s.supported(); err != nil {
		return nil, err
	}
	if reason := s.geometry(le.Uint32(p[0x18:]), le.Uint32(p[0x1c:]), le.Uint16(p[0xfe:])); reason != "" {
		return nil, corrupt.At(off, "ext superblock: %s", reason)
	}
	return s, nil
}

// dynamic decodes what revision 1 added.
func (s *superblock) dynamic(p []byte) {
	le := binary.LittleEndian
	s.firstInode, s.inodeSize = uint64(le.Uint32(p[0x54:])), int(le.Uint16(p[0x58:]))
	s.compat, s.incompat, s.roCompat = le.Uint32(p[0x5c:]), le.Uint32(p[0x60:]), le.Uint32(p[0x64:])
	s.uuid = [16]byte(p[0x68:])
	label, _, _ := bytes.Cut(p[0x78:0x88], []byte{0})
	s.label = strings.TrimRight(string(label), " ")
	s.journalInode = uint64(le.Uint32(p[0xe0:]))
	s.firstMetaBG = uint64(le.Uint32(p[0x104:]))
	s.backupGroups = [2]uint32{le.Uint32(p[0x24c:]), le.Uint32(p[0x250:])}
	if s.incompat&incompat64bit != 0 {
		s.blocks |= uint64(le.Uint32(p[0x150:])) << 32
	}
	if s.incompat&incompatCsumSeed != 0 {
		s.seed = le.Uint32(p[0x270:])
	} else {
		s.seed = chksum(math.MaxUint32, s.uuid[:])
	}
}

func (s *superblock) supported() error {
	for bit, name := range map[uint32]string{incompatCompression: "compression", incompatJournalDev: "journal_dev"} {
		if s.incompat&bit != 0 {
			return fmt.Errorf("ext feature %s: %w", name, image.ErrUnsupported)
		}
	}
	if unknown := s.incompat &^ incompatKnown; unknown != 0 {
		return fmt.Errorf("ext incompatible features %#x: %w", unknown, image.ErrUnsupported)
	}
	return nil
}

// geometry checks the sizes, and returns what is wrong.
func (s *superblock) geometry(logBlock, logCluster uint32, descSize uint16) string {
	if logBlock > 6 {
		return "impossible block size"
	}
	s.blockSize = 1024 << logBlock
	s.clusterSize = s.blockSize
	bits := uint64(s.blockSize) * 8 // of a bitmap
	perGroup := bits
	if s.roCompat&roBigalloc != 0 {
		if logCluster < logBlock || logCluster > 20 {
			return "impossible cluster size"
		}
		s.clusterSize = 1024 << logCluster
		perGroup <<= logCluster - logBlock
	}
	if s.incompat&incompat64bit != 0 {
		s.descSize = int(descSize)
	}
	switch {
	case s.inodeSize < goodOldInode || s.inodeSize > s.blockSize || s.inodeSize&(s.inodeSize-1) != 0:
		return "impossible inode size"
	case s.incompat&incompat64bit != 0 && (s.descSize < 64 || s.descSize > 1024 || s.descSize&(s.descSize-1) != 0):
		return "impossible size of group descriptors"
	case s.blocksPerGroup == 0 || s.blocksPerGroup > perGroup:
		return "impossible number of blocks in a group"
	case s.inodesPerGroup == 0 || s.inodesPerGroup > bits:
		return "impossible number of inodes in a group"
	case s.blocks <= s.firstDataBlock || s.blocks > math.MaxInt64/2/uint64(s.blockSize):
		return "impossible number of blocks"
	}
	s.groups = (s.blocks - s.firstDataBlock + s.blocksPerGroup - 1) / s.blocksPerGroup
	if s.groups > math.MaxUint32 || s.inodes != s.groups*s.inodesPerGroup || s.inodes < s.firstInode {
		return "impossible number of inodes"
	}
	return ""
}

func (s *superblock) checksums() bool { return s.roCompat&roMetadataCsum != 0 }

// name tells the three apart as blkid(8) does.
func (s *superblock) name() string {
	switch {
	case s.incompat&^(incompatFiletype|incompatRecover|incompatMetaBG) != 0 || s.roCompat&^(roSparseSuper|roLargeFile|roBtreeDir) != 0:
		return "ext4"
	case s.compat&compatHasJournal != 0:
		return "ext3"
	default:
		return "ext2"
	}
}

// hasSuper says whether a group begins with a copy of the superblock.
func (s *superblock) hasSuper(group uint64) bool {
	switch {
	case group == 0:
		return true
	case s.compat&compatSparseSuper2 != 0:
		return group == uint64(s.backupGroups[0]) || group == uint64(s.backupGroups[1])
	case group == 1 || s.roCompat&roSparseSuper == 0:
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}
