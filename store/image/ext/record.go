package ext

import (
	"encoding/binary"
	"strings"

	"github.com/pbsfs/pbsfs/store/image"
)

const (
	recordHeader = 8
	minRecord    = 12
	recordTail   = 12 // with the checksum of a block
	tailType     = 0xde
)

// recordTypes are the types of objects, by number in a record.
var recordTypes = [...]uint32{0, image.Regular, image.Dir, image.CharDevice, image.BlockDevice, image.Fifo, image.Socket, image.Symlink}

// records calls fn with the names in p, which is a block of a directory, or the part of one
// that lies in an inode. It returns what is wrong; names with something wrong are left out, and
// so is all that follows a record whose length is. dots says that "." and ".." belong here.
func (fs *FS) records(p []byte, dots bool, fn func(e image.Entry)) (reason string) {
	le := binary.LittleEndian
	for off, n := 0, 0; off < len(p); n++ {
		rest := p[off:]
		if len(rest) < minRecord {
			return "no room for a record"
		}
		size := recordSize(le.Uint16(rest[4:]), fs.blockSize)
		name := int(rest[6])
		if size < minRecord || size%4 != 0 || size > len(rest) || recordHeader+name > size {
			return "impossible length of a record"
		}
		if number := uint64(le.Uint32(rest)); number != 0 {
			e := image.Entry{Name: string(rest[recordHeader:][:name]), Number: number}
			if kind := rest[7]; fs.incompat&incompatFiletype != 0 && int(kind) < len(recordTypes) {
				e.Type = recordTypes[kind]
			}
			switch {
			case dots && (n == 0 && e.Name == "." || n == 1 && e.Name == ".."):
			case e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00"):
				reason = "impossible name"
			case number > fs.inodes:
				reason = "impossible inode number"
			default:
				fn(e)
			}
		}
		off += size
	}
	return reason
}

// recordSize decodes the length of a record: with blocks of 64 KiB it does not fit in its
// 16 bits.
func recordSize(n uint16, blockSize int) int {
	switch {
	case blockSize < 1<<16:
		return int(n)
	case n == 1<<16-1 || n == 0:
		return blockSize
	default:
		return int(n)&^3 | int(n)&3<<16
	}
}

// blockIsRight verifies a block of a directory, which is a leaf or a node of a hash tree. Such a
// node may still have the tail of the leaf that it was.
func (i *inode) blockIsRight(p []byte, blockSize int) bool {
	if i.has(flagIndex) && i.hashNodeIsRight(p, blockSize) {
		return true
	}
	le := binary.LittleEndian
	tail := p[len(p)-recordTail:]
	return le.Uint32(tail) == 0 && le.Uint16(tail[4:]) == recordTail && tail[6] == 0 && tail[7] == tailType &&
		chksum(i.seed, p[:len(p)-recordTail]) == le.Uint32(tail[8:])
}

// hashNodeIsRight verifies the root of a hash tree, behind "." and "..", or an inner node, in
// an empty record. The limit of entries says where the checksum is.
func (i *inode) hashNodeIsRight(p []byte, blockSize int) bool {
	const entrySize = 8
	le := binary.LittleEndian
	var start int
	switch size := recordSize(le.Uint16(p[4:]), blockSize); {
	case size == len(p):
		start = recordHeader
	case size == minRecord && recordSize(le.Uint16(p[minRecord+4:]), blockSize) == len(p)-minRecord:
		start = 32
	default:
		return false
	}
	limit, count := int(le.Uint16(p[start:])), int(le.Uint16(p[start+2:]))
	end := start + limit*entrySize
	if count > limit || end > len(p)-8 {
		return false
	}
	c := chksum(chksum(i.seed, p[:start+count*entrySize]), p[end:end+4])
	return chksum(c, make([]byte, 4)) == le.Uint32(p[end+4:])
}
