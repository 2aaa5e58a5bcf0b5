package xfs

import (
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// Kinds of items. Intents come with what says that they are done.
const (
	itemFreeIntent     = 0x1236
	itemFreeDone       = 0x1237
	itemInode          = 0x123b
	itemBuffer         = 0x123c
	itemQuota          = 0x123d
	itemQuotaOff       = 0x123e
	itemInodeCreate    = 0x123f
	itemRmapIntent     = 0x1240
	itemRefcountDone   = 0x1243
	itemMapIntent      = 0x1244
	itemMapDone        = 0x1245
	itemAttrIntent     = 0x1246
	itemAttrDone       = 0x1247
	itemExchangeIntent = 0x1248
	itemExchangeDone   = 0x1249
)

// Flags of a buffer.
const (
	bufferInodes    = 1 << 0 // only the list of unlinked inodes was changed
	bufferCancelled = 1 << 1 // it is no longer what it was: what came before does not count
	bufferQuota     = 1<<2 | 1<<3 | 1<<4
)

const (
	chunk     = 128 // bytes that a bit of a buffer's map stands for
	maxBuffer = 256 << 10
)

// extentKey is where a buffer lies, in sectors.
type extentKey struct{ at, sectors int64 }

// changes applies transactions to an overlay.
type changes struct {
	fs         *FS
	overlay    overlay
	cancelled  map[extentKey]int
	unfinished map[uint64]bool // intents that change what is shown
	left       budget
}

// buffer is the first region of an item that changes a piece of the disk.
type buffer struct {
	flags uint16
	where extentKey
	bits  []byte // the map, numbers of 32 bits
}

func decodeBuffer(b []byte) (buffer, error) {
	if len(b) < 20 || uint64(le.Uint32(b[16:]))*4 > uint64(len(b)-20) {
		return buffer{}, corrupt.New("log: buffer item of %d bytes", len(b))
	}
	x := buffer{le.Uint16(b[4:]), extentKey{int64(le.Uint64(b[8:])), int64(le.Uint16(b[6:]))}, b[20:][:le.Uint32(b[16:])*4]}
	if x.where.at < 0 || x.where.at > 1<<54 || x.where.sectors == 0 || x.where.sectors*sector > maxBuffer {
		return buffer{}, corrupt.New("log: buffer of %d sectors at %d", x.where.sectors, x.where.at)
	}
	return x, nil
}

func (x buffer) bit(i int) bool {
	return i/8 < len(x.bits) && le.Uint32(x.bits[i/32*4:])>>(i%32)&1 != 0
}

func (it *item) kind() uint16 { return le.Uint16(it.regions[0]) }

func (t *transaction) check() error {
	for _, it := range t.items {
		if len(it.regions) != it.total {
			return corrupt.New("log: item of kind %#x with %d of %d regions", it.kind(), len(it.regions), it.total)
		}
	}
	return nil
}

// cancel is for the first pass: it counts which buffers were given up.
func (c *changes) cancel(_ io.ReaderAt, t *transaction) error {
	if err := t.check(); err != nil {
		return err
	}
	for _, it := range t.items {
		if it.kind() != itemBuffer {
			continue
		}
		x, err := decodeBuffer(it.regions[0])
		if err != nil {
			return err
		}
		if x.flags&bufferCancelled == 0 {
			continue
		}
		if err := c.left.take(regionCost); err != nil {
			return err
		}
		c.cancelled[x.where]++
	}
	return nil
}

// apply is for the second pass: buffers come first, as inodes lie in them, and what is
// given up with the transaction comes last.
func (c *changes) apply(r io.ReaderAt, t *transaction) error {
	if err := t.check(); err != nil {
		return err
	}
	for _, it := range t.items {
		var err error
		switch it.kind() {
		case itemBuffer:
			err = c.buffer(r, t, it)
		case itemInodeCreate:
			err = c.createInodes(r, it)
		}
		if err != nil {
			return err
		}
	}
	for _, it := range t.items {
		if err := c.other(r, t, it); err != nil {
			return err
		}
	}
	for _, it := range t.items {
		if it.kind() == itemBuffer {
			c.giveUp(it)
		}
	}
	return nil
}

// other applies an item that is no buffer.
func (c *changes) other(r io.ReaderAt, t *transaction, it *item) error {
	switch kind := it.kind(); kind {
	case itemBuffer, itemInodeCreate, itemQuota, itemQuotaOff, itemFreeIntent, itemFreeDone:
		return nil // done, or nothing that is shown
	case itemInode:
		return c.inode(r, t, it)
	case itemMapIntent, itemAttrIntent, itemExchangeIntent, itemMapDone, itemAttrDone, itemExchangeDone:
		if len(it.regions[0]) < 16 {
			return corrupt.New("log: item of kind %#x with %d bytes", kind, len(it.regions[0]))
		}
		id := le.Uint64(it.regions[0][8:])
		if kind == itemMapDone || kind == itemAttrDone || kind == itemExchangeDone {
			delete(c.unfinished, id)
		} else if c.unfinished[id] = true; len(c.unfinished) > maxOpen {
			return corrupt.New("log: too many unfinished operations")
		}
		return nil
	default:
		if kind >= itemRmapIntent && kind <= itemRefcountDone {
			return nil // who owns a block is not shown
		}
		return fmt.Errorf("log: item of kind %#x: %w", kind, image.ErrUnsupported)
	}
}

// giveUp takes note that the transaction was met that gave a buffer up.
func (c *changes) giveUp(it *item) {
	x, err := decodeBuffer(it.regions[0])
	if err != nil || x.flags&bufferCancelled == 0 {
		return
	}
	if c.cancelled[x.where]--; c.cancelled[x.where] <= 0 {
		delete(c.cancelled, x.where)
	}
}

// buffer copies the parts of a buffer that were changed to their place.
func (c *changes) buffer(r io.ReaderAt, t *transaction, it *item) error {
	x, err := decodeBuffer(it.regions[0])
	if err != nil {
		return err
	}
	if x.flags&(bufferInodes|bufferCancelled|bufferQuota) != 0 || c.cancelled[x.where] > 0 {
		return nil
	}
	off, n := x.where.at*sector, x.where.sectors*sector
	if newer, err := c.isNewer(r, off, n, t.lsn); err != nil || newer {
		return err
	}
	chunks := int(n / chunk)
	region := 1
	for i := 0; i < chunks; {
		if !x.bit(i) {
			i++
			continue
		}
		if region >= len(it.regions) {
			return corrupt.At(off, "log: buffer with too few regions")
		}
		b := it.regions[region]
		count := 0
		for i+count < chunks && x.bit(i+count) && (count+1)*chunk <= len(b) {
			count++
		}
		if count == 0 {
			return corrupt.At(off, "log: buffer with a region of %d bytes", len(b))
		}
		if err := c.overlay.put(r, &c.left, c.fs.size, b[:count*chunk], off+int64(i)*chunk); err != nil {
			return err
		}
		i, region = i+count, region+1
	}
	return nil
}

// isNewer says whether a buffer was written after the transaction: then the log is older.
// Only some kinds of blocks tell, and those that the log has not yet changed.
func (c *changes) isNewer(r io.ReaderAt, off, n int64, lsn uint64) (bool, error) {
	if c.overlay.changed(off, n) || n < sector {
		return false, nil
	}
	b := make([]byte, sector)
	if err := readFull(r, c.fs.size, b, off); err != nil {
		return false, err
	}
	at, uuid := 0, 0
	switch string(b[:4]) {
	case bmapMagicV5:
		at, uuid = 32, bmapLayout.uuid
	case dataMagicV5, aloneMagicV5:
		at, uuid = 16, dataLayout.uuid
	case targetMagic:
		at, uuid = 48, targetLayout.uuid
	case superblockMagic:
		at, uuid = 240, 32
	default:
		switch be.Uint16(b[8:]) {
		case nodeMagicV5, attrLeafMagicV5, leafMagicV5, leafAloneMagicV5:
			at, uuid = 24, indexLayout.uuid
		default:
			return false, nil
		}
	}
	id := [16]byte(b[uuid : uuid+16])
	written := be.Uint64(b[at:])
	return (id == c.fs.sb.metaUUID || id == c.fs.sb.uuid) && written != 0 && written != 1<<64-1 && written >= lsn, nil
}
