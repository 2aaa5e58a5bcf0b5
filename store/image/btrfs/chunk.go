package btrfs

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	chunkHeader = 48
	stripeSize  = 32
	// maxChunks bounds the memory for the map. Chunks are of a GiB, if there is room.
	maxChunks = 1 << 18
)

// Bits of the type of a chunk.
const (
	chunkRaid0   = 1 << 3
	chunkRaid1   = 1 << 4
	chunkDup     = 1 << 5
	chunkRaid10  = 1 << 6
	chunkRaid5   = 1 << 7
	chunkRaid6   = 1 << 8
	chunkRaid1C3 = 1 << 9
	chunkRaid1C4 = 1 << 10
	chunkProfile = chunkRaid0 | chunkRaid1 | chunkDup | chunkRaid10 | chunkRaid5 | chunkRaid6 | chunkRaid1C3 | chunkRaid1C4
	chunkStriped = chunkRaid0 | chunkRaid10 | chunkRaid5 | chunkRaid6
)

var profiles = map[uint64]string{
	0: "single", chunkRaid0: "raid0", chunkRaid1: "raid1", chunkDup: "dup", chunkRaid10: "raid10",
	chunkRaid5: "raid5", chunkRaid6: "raid6", chunkRaid1C3: "raid1c3", chunkRaid1C4: "raid1c4",
}

// chunk is a range of logical addresses.
type chunk struct {
	start, length uint64
	kind          uint64
	copies        [2]int64 // offsets in the image
	here          int      // how many of them there are
	elsewhere     bool     // other copies, or all, are on other devices
}

func (c *chunk) end() uint64     { return c.start + c.length }
func (c *chunk) profile() string { return profiles[c.kind&chunkProfile] }

// chunkMap is sorted by start.
type chunkMap []chunk

// find returns the chunk with an address.
func (m chunkMap) find(logical uint64) (*chunk, error) {
	i, ok := slices.BinarySearchFunc(m, logical, func(c chunk, l uint64) int { return cmp.Compare(c.start, l) })
	if !ok {
		i--
	}
	if i < 0 || logical >= m[i].end() {
		return nil, corrupt.New("no btrfs chunk has the address %d", logical)
	}
	return &m[i], nil
}

// add inserts a chunk. One that is there already is not added again.
func (m *chunkMap) add(c chunk) error {
	i, ok := slices.BinarySearchFunc(*m, c.start, func(c chunk, l uint64) int { return cmp.Compare(c.start, l) })
	if ok && (*m)[i] == c {
		return nil
	}
	if ok || i > 0 && (*m)[i-1].end() > c.start || i < len(*m) && (*m)[i].start < c.end() {
		return corrupt.New("btrfs chunk at address %d overlaps another one", c.start)
	}
	if len(*m) == maxChunks {
		return fmt.Errorf("btrfs with more than %d chunks: %w", maxChunks, image.ErrUnsupported)
	}
	*m = slices.Insert(*m, i, c)
	return nil
}

// readChunks reads the chunks that the superblock has, and with them the tree that has all.
func (fs *FS) readChunks(r io.ReaderAt) error {
	if err := fs.readSystemChunks(); err != nil {
		return err
	}
	t := tree{id: chunkTree, block: fs.chunkRoot, generation: fs.chunkGeneration, level: fs.chunkLevel}
	var failed error
	wrong := damage{max: 1}
	fs.scan(r, t, key{firstChunk, chunkItem, 0}, key{firstChunk, chunkItem, math.MaxUint64}, &wrong, func(k key, p []byte) bool {
		c, size, err := fs.parseChunk(k, p)
		if err == nil && size != len(p) {
			err = corrupt.New("btrfs chunk at address %d: wrong size of its item", k.offset)
		}
		if err == nil {
			err = fs.chunks.add(c)
		}
		failed = err
		return err == nil
	})
	if err := wrong.err(); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return fs.checkProfiles()
}

// readSystemChunks reads the array in the superblock: of the chunks that have the chunk tree.
func (fs *FS) readSystemChunks() error {
	for p := fs.sysChunks; len(p) > 0; {
		if len(p) < keySize+chunkHeader {
			return corrupt.New("btrfs superblock: the chunk array ends within a chunk")
		}
		k := parseKey(p)
		if k.kind != chunkItem {
			return corrupt.New("btrfs superblock: no chunk in the chunk array")
		}
		c, size, err := fs.parseChunk(k, p[keySize:])
		if err != nil {
			return err
		}
		if err := fs.chunks.add(c); err != nil {
			return err
		}
		p = p[keySize+size:]
	}
	return nil
}

// parseChunk decodes a chunk and returns its size in bytes, too.
func (fs *FS) parseChunk(k key, p []byte) (c chunk, size int, err error) {
	wrong := func(reason string) (chunk, int, error) {
		return c, 0, corrupt.New("btrfs chunk at address %d: %s", k.offset, reason)
	}
	if len(p) < chunkHeader {
		return wrong("its item is too short")
	}
	le := binary.LittleEndian
	stripes := int(le.Uint16(p[44:]))
	size = chunkHeader + stripes*stripeSize
	c = chunk{start: k.offset, length: le.Uint64(p), kind: le.Uint64(p[24:])}
	sector := uint64(fs.sectorSize)
	switch {
	case stripes == 0 || size > len(p):
		return wrong("impossible number of stripes")
	case c.length == 0 || c.length > math.MaxInt64 || c.start > math.MaxInt64 || c.length%sector != 0 || c.start%sector != 0:
		return wrong("impossible place or length")
	case c.profile() == "":
		return wrong("impossible profile")
	}
	// The profiles that keep copies have all of the chunk in each stripe, and so has one stripe.
	if c.kind&chunkStriped != 0 && (stripes > 1 || c.kind&chunkRaid0 == 0) {
		c.elsewhere = true
		return c, size, nil
	}
	if c.kind&chunkProfile == 0 && stripes != 1 {
		return wrong("more than one stripe")
	}
	for i := range stripes {
		stripe := p[chunkHeader+i*stripeSize:]
		off := le.Uint64(stripe[8:])
		switch {
		case le.Uint64(stripe) != fs.device || [16]byte(stripe[16:]) != fs.deviceUUID:
			c.elsewhere = true
		case off > math.MaxInt64-c.length || off%sector != 0:
			return wrong("impossible place of a stripe")
		case c.here == len(c.copies):
			return wrong("too many copies on a device")
		default:
			c.copies[c.here] = int64(off)
			c.here++
		}
	}
	return c, size, nil
}

// checkProfiles refuses profiles that spread content over devices.
func (fs *FS) checkProfiles() error {
	var names []string
	end := int64(0)
	for i := range fs.chunks {
		c := &fs.chunks[i]
		if c.here == 0 && c.kind&chunkStriped != 0 && !slices.Contains(names, c.profile()) {
			names = append(names, c.profile())
		}
		for _, off := range c.copies[:c.here] {
			end = max(end, off+int64(c.length))
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("btrfs with profile %s over several devices: %w", strings.Join(names, " and "), image.ErrUnsupported)
	}
	if end > fs.size {
		fs.note("the image ends before the file system does")
	}
	return nil
}
