package btrfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	superblockSize = 4096
	superblockOff  = 64 << 10
	magic          = "_BHRfS_M"
	maxLevel       = 7
	minBlock       = 4 << 10
	maxBlock       = 64 << 10
)

// Where copies of the superblock are, if the device is large enough.
var copiesOff = []int64{64 << 20, 256 << 30}

// Bits of the features without which nothing may be read.
const (
	incompatMetadataUUID = 1 << 10
	// Of these nothing else has to be known here: how they are stored is said where they are used.
	incompatKnown = 1<<0 | // mixed backrefs
		1<<1 | // default subvolume
		1<<2 | // data and metadata in the same chunks
		1<<3 | 1<<4 | // lzo, zstd
		1<<5 | // tree blocks larger than a page
		1<<6 | // extended references
		1<<7 | // raid56, if there is such a chunk it is refused
		1<<8 | // skinny metadata
		1<<9 | // no holes
		incompatMetadataUUID |
		1<<11 | // raid1c3, raid1c4
		1<<16 // simple quotas
)

var incompatNames = map[int]string{
	12: "zoned", 13: "extent-tree-v2", 14: "raid-stripe-tree", 15: "encrypt", 17: "remap-tree",
}

// Bits of flags: what else may not be read.
var refusedFlags = map[int]string{
	32: "a seed device", 33: "an image of metadata only", 34: "an image of metadata only",
	35: "a change of the UUID that was not finished", 36: "a change of the UUID that was not finished",
	38: "a conversion that was not finished", 39: "a change of checksums that was not finished", 40: "a change of checksums that was not finished",
}

// superblock is what the superblock says.
type superblock struct {
	fsid, metadataID            [16]byte // the second is in every tree block
	flags, generation, incompat uint64
	root, chunkRoot, logRoot    uint64
	chunkGeneration             uint64
	rootLevel, chunkLevel       uint8
	rootDir                     uint64
	devices, device             uint64 // how many there are; number of this one
	sectorSize, nodeSize        int
	sum                         checksum
	label                       string
	sysChunks                   []byte
	deviceUUID                  [16]byte
}

// readSuperblock finds the superblock that is right and newest.
func (fs *FS) readSuperblock(r io.ReaderAt) error {
	if fs.size < superblockOff+superblockSize {
		return image.ErrUnknown
	}
	p := make([]byte, superblockSize)
	if _, err := r.ReadAt(p, superblockOff); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("btrfs superblock: %w", err)
	}
	// Copies are not looked for where nothing says btrfs: they outlive what is made later.
	if string(p[0x40:0x48]) != magic && binary.LittleEndian.Uint64(p[0x30:]) != superblockOff {
		return image.ErrUnknown
	}
	first, wrong := parseSuperblock(p, superblockOff)
	best := first
	for _, off := range copiesOff {
		if s := fs.readCopy(r, p, off); s != nil && (best == nil || s.generation > best.generation) {
			best = s
		}
	}
	switch {
	case best == nil && errors.Is(wrong, errMagic):
		return image.ErrUnknown
	case best == nil:
		return wrong
	case first == nil:
		fs.note("the superblock is damaged (%v), a copy of it is used", wrong)
	case best != first:
		fs.note("the superblock is older than its copy, which is used")
	}
	fs.superblock = best
	return fs.checkFeatures()
}

// readCopy returns a copy of the superblock if it is right and of the file system whose
// superblock is p, nil otherwise.
func (fs *FS) readCopy(r io.ReaderAt, p []byte, off int64) *superblock {
	if off+superblockSize > fs.size {
		return nil
	}
	q := make([]byte, superblockSize)
	if _, err := r.ReadAt(q, off); err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	s, err := parseSuperblock(q, off)
	if err != nil || s.fsid != [16]byte(p[0x20:]) {
		return nil
	}
	return s
}

var errMagic = corrupt.New("wrong magic")

func parseSuperblock(p []byte, off int64) (*superblock, error) {
	le := binary.LittleEndian
	wrong := func(reason string) (*superblock, error) { return nil, corrupt.At(off, "btrfs superblock: %s", reason) }
	if string(p[0x40:0x48]) != magic {
		return nil, errMagic
	}
	kind := le.Uint16(p[0xc4:])
	if int(kind) >= len(checksums) {
		return nil, fmt.Errorf("btrfs with checksums of type %d: %w", kind, image.ErrUnsupported)
	}
	s := &superblock{sum: checksums[kind]}
	if !s.sum.matches(p[0x20:], p) {
		return wrong("wrong checksum")
	}
	if le.Uint64(p[0x30:]) != uint64(off) {
		return wrong("it belongs to another place")
	}
	s.fsid, s.flags, s.generation = [16]byte(p[0x20:]), le.Uint64(p[0x38:]), le.Uint64(p[0x48:])
	s.root, s.chunkRoot, s.logRoot = le.Uint64(p[0x50:]), le.Uint64(p[0x58:]), le.Uint64(p[0x60:])
	s.rootDir, s.devices = le.Uint64(p[0x80:]), le.Uint64(p[0x88:])
	s.chunkGeneration, s.incompat = le.Uint64(p[0xa4:]), le.Uint64(p[0xbc:])
	s.rootLevel, s.chunkLevel = p[0xc6], p[0xc7]
	s.device, s.deviceUUID = le.Uint64(p[0xc9:]), [16]byte(p[0xc9+66:])
	label, _, _ := bytes.Cut(p[0x12b:0x22b], []byte{0})
	s.label = string(label)
	s.metadataID = s.fsid
	if s.incompat&incompatMetadataUUID != 0 {
		s.metadataID = [16]byte(p[0x23b:])
	}
	sector, node, sys := le.Uint32(p[0x90:]), le.Uint32(p[0x94:]), le.Uint32(p[0xa0:])
	if !isBlockSize(sector) || !isBlockSize(node) || node < sector {
		return wrong("impossible size of sectors or nodes")
	}
	s.sectorSize, s.nodeSize = int(sector), int(node)
	if sys > 2048 {
		return wrong("impossible size of the chunk array")
	}
	s.sysChunks = bytes.Clone(p[0x32b:][:sys])
	if s.rootLevel > maxLevel || s.chunkLevel > maxLevel {
		return wrong("impossible level of a tree")
	}
	return s, nil
}

func isBlockSize(n uint32) bool { return n >= minBlock && n <= maxBlock && n&(n-1) == 0 }

// checkFeatures refuses what must not be read without knowing more.
func (s *superblock) checkFeatures() error {
	var names []string
	for bit := range 64 {
		if s.incompat&^incompatKnown&(1<<bit) != 0 {
			name, ok := incompatNames[bit]
			if !ok {
				name = fmt.Sprintf("feature 1<<%d", bit)
			}
			names = append(names, name)
		}
		if name, ok := refusedFlags[bit]; ok && s.flags&(1<<bit) != 0 {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("btrfs with %s: %w", strings.Join(names, ", "), image.ErrUnsupported)
	}
	return nil
}
