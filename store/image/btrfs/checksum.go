package btrfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"

	"golang.org/x/crypto/blake2b"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumField is how many bytes a superblock or a tree block has in front for its checksum.
const checksumField = 32

// checksum is how a file system makes sure of its blocks, and of content.
type checksum struct {
	size int
	of   func(p []byte) [checksumField]byte // what is longer than size is zero
}

// checksums are in the order of their types.
var checksums = []checksum{
	{4, func(p []byte) (s [checksumField]byte) {
		binary.LittleEndian.PutUint32(s[:], crc32.Checksum(p, castagnoli))
		return s
	}},
	{8, func(p []byte) (s [checksumField]byte) {
		binary.LittleEndian.PutUint64(s[:], xxhash64(p))
		return s
	}},
	{32, sha256.Sum256},
	{32, blake2b.Sum256},
}

// matches says whether p has the checksum that begins with sum.
func (c checksum) matches(p, sum []byte) bool {
	got := c.of(p)
	return bytes.Equal(got[:c.size], sum[:c.size])
}

// hashName is the hash by which names are found in directories.
func hashName(name string) uint32 {
	return ^crc32.Update(1, castagnoli, []byte(name)) // without the inversions, from ^1
}
