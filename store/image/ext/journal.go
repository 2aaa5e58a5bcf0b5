package ext

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const journalMagic = 0xc03b3998

// Types of blocks in the log.
const (
	logDescriptor = 1
	logCommit     = 2
	logSuper1     = 3
	logSuper2     = 4
	logRevoke     = 5
)

// Features of the log.
const (
	logChecksum1 = 0x1 // compatible

	log64bit        = 0x2 // the others are incompatible
	logAsyncCommit  = 0x4
	logChecksum2    = 0x8
	logChecksum3    = 0x10
	logFastCommit   = 0x20
	logIncompatible = 0x1 | log64bit | logAsyncCommit | logChecksum2 | logChecksum3 | logFastCommit
)

const (
	logHeaderSize = 12
	logWindow     = 256 << 10 // bytes of the log that are read at once
	minLogBlocks  = 1024
	fastBlocks    = 256 // of fast commits, where nothing else is said
)

// journal is the log of a file system, which is a file.
type journal struct {
	content
	r io.ReaderAt // for the time of the replay

	first, end           uint64 // blocks of the log that are used in turn
	fastFirst, fastEnd   uint64 // blocks of fast commits
	start                uint64 // the oldest block that counts; 0 if the log is empty
	sequence             uint32 // of the transaction there
	compat, incompatible uint32
	seed                 uint32

	window      []byte // some blocks
	windowStart uint64
}

// openJournal reads the superblock of the log.
func (fs *FS) openJournal(r io.ReaderAt) (*journal, error) {
	i, err := fs.inode(r, fs.journalInode)
	if err != nil {
		return nil, err
	}
	c, err := fs.content(i)
	if err != nil {
		return nil, err
	}
	if i.has(flagInline|flagEncrypted) || c.blocks() < 2 {
		return nil, corrupt.At(i.off, "ext inode %d: it is no journal", i.Number)
	}
	j := &journal{content: c, r: r}
	p, err := j.block(0)
	if err != nil {
		return nil, err
	}
	return j, j.parse(p[:superblockSize])
}

func (j *journal) parse(p []byte) error {
	be := binary.BigEndian
	wrong := func(reason string) error { return corrupt.At(j.inode.off, "ext journal: %s", reason) }
	kind := be.Uint32(p[4:])
	if be.Uint32(p) != journalMagic || kind != logSuper1 && kind != logSuper2 {
		return wrong("wrong magic")
	}
	if kind == logSuper2 {
		j.compat, j.incompatible = be.Uint32(p[0x24:]), be.Uint32(p[0x28:])
		if ro := be.Uint32(p[0x2c:]); ro != 0 || j.incompatible&^logIncompatible != 0 {
			return fmt.Errorf("ext journal with features %#x, %#x: %w", j.incompatible, ro, errNotReplayed)
		}
	}
	if j.checksums() {
		if p[0x50] != 4 {
			return wrong("unknown checksums")
		}
		if chksum(chksum(chksum(math.MaxUint32, p[:0xfc]), make([]byte, 4)), p[0x100:]) != be.Uint32(p[0xfc:]) {
			return wrong("wrong checksum")
		}
		j.seed = chksum(math.MaxUint32, p[0x30:0x40])
	}
	j.end, j.first = uint64(be.Uint32(p[0x10:])), uint64(be.Uint32(p[0x14:]))
	j.sequence, j.start = be.Uint32(p[0x18:]), uint64(be.Uint32(p[0x1c:]))
	if int(be.Uint32(p[0xc:])) != j.fs.blockSize || j.end > j.blocks() || j.first == 0 {
		return wrong("impossible sizes")
	}
	if j.incompatible&logFastCommit != 0 {
		n := uint64(be.Uint32(p[0x54:]))
		if n == 0 {
			n = fastBlocks
		}
		j.fastEnd = j.end
		if j.end >= n+minLogBlocks {
			j.end -= n
		}
		j.fastFirst = j.end + 1
	}
	if j.first >= j.end || j.start != 0 && (j.start < j.first || j.start >= j.end) {
		return wrong("impossible sizes")
	}
	return nil
}

func (j *journal) checksums() bool { return j.incompatible&(logChecksum2|logChecksum3) != 0 }

// block returns a block of the log. It is good until the next call.
func (j *journal) block(n uint64) ([]byte, error) {
	bs := uint64(j.fs.blockSize)
	if n >= j.blocks() {
		return nil, corrupt.At(j.inode.off, "ext journal: block %d is behind its end", n)
	}
	if n < j.windowStart || (n-j.windowStart+1)*bs > uint64(len(j.window)) {
		count := min(max(1, logWindow/bs), j.blocks()-n)
		if uint64(cap(j.window)) < count*bs {
			j.window = make([]byte, count*bs)
		}
		j.window, j.windowStart = j.window[:count*bs], n
		if err := j.fill(n); err != nil {
			j.window = j.window[:0]
			return nil, err
		}
	}
	return j.window[(n-j.windowStart)*bs:][:bs], nil
}

// fill reads the window, or its first block alone where the others cannot be read.
func (j *journal) fill(n uint64) error {
	bs := j.fs.blockSize
	// The content of the journal ends with a block, whatever its size is.
	err := j.readAt(j.r, j.window, int64(n)*int64(bs))
	if err != nil && len(j.window) > bs {
		j.window = j.window[:bs]
		err = j.readAt(j.r, j.window, int64(n)*int64(bs))
	}
	return err
}

// place returns where a block of the log lies in the image.
func (j *journal) place(n uint64) (uint64, error) {
	x, err := j.run(j.r, n)
	if err == nil && !x.data {
		err = corrupt.At(j.inode.off, "ext journal: block %d is missing", n)
	}
	return x.place, err
}

// next returns the block of the log that follows one.
func (j *journal) next(n uint64) uint64 {
	if n++; n >= j.end {
		n -= j.end - j.first
	}
	return n
}

// blockIsRight verifies a descriptor or a block of revocations, which end with a checksum.
func (j *journal) blockIsRight(p []byte) bool {
	end := len(p) - 4
	return !j.checksums() || chksum(chksum(j.seed, p[:end]), make([]byte, 4)) == binary.BigEndian.Uint32(p[end:])
}

// commitIsRight verifies a commit; that only its header was written is right, too.
func (j *journal) commitIsRight(p []byte) bool {
	const field, header = 16, 60
	if !j.checksums() {
		return true
	}
	c := chksum(chksum(j.seed, p[:field]), make([]byte, 4))
	want := binary.BigEndian.Uint32(p[field:])
	return chksum(c, p[field+4:]) == want ||
		chksum(chksum(c, p[field+4:header]), make([]byte, len(p)-header)) == want
}

// tag says where a block in the log belongs.
type tag struct {
	block    uint64
	checksum uint32
	flags    uint32
}

// Flags of tags.
const (
	tagEscaped  = 1
	tagSameUUID = 2
	tagDeleted  = 4
	tagLast     = 8
)

// tags decodes a descriptor.
func (j *journal) tags(p []byte) []tag {
	be := binary.BigEndian
	size := 12
	switch {
	case j.incompatible&logChecksum3 != 0:
		size = 16
	default:
		if j.incompatible&logChecksum2 != 0 {
			size += 2
		}
		if j.incompatible&log64bit == 0 {
			size -= 4
		}
	}
	if j.checksums() {
		p = p[:len(p)-4]
	}
	var all []tag
	for p = p[logHeaderSize:]; len(p) >= size; {
		t := tag{block: uint64(be.Uint32(p))}
		if j.incompatible&logChecksum3 != 0 {
			t.flags, t.checksum = be.Uint32(p[4:]), be.Uint32(p[12:])
		} else {
			t.checksum, t.flags = uint32(be.Uint16(p[4:])), uint32(be.Uint16(p[6:]))
		}
		if j.incompatible&log64bit != 0 {
			t.block |= uint64(be.Uint32(p[8:])) << 32
		}
		all = append(all, t)
		if t.flags&tagLast != 0 {
			break
		}
		p = p[size:]
		if t.flags&tagSameUUID == 0 {
			p = p[min(16, len(p)):]
		}
	}
	return all
}

// tagFits verifies a block of the log against its tag.
func (j *journal) tagFits(t tag, sequence uint32, p []byte) bool {
	if !j.checksums() {
		return true
	}
	c := chksum(chksum(j.seed, binary.BigEndian.AppendUint32(nil, sequence)), p)
	if j.incompatible&logChecksum3 == 0 {
		c &= math.MaxUint16
	}
	return c == t.checksum
}
