package btrfs

import (
	"cmp"
	"encoding/binary"
)

// Numbers of trees and of other objects that are always there.
const (
	rootTree     = 1
	chunkTree    = 3
	fsTree       = 5
	checksumTree = 7
	relocTree    = 1<<64 - 8

	firstChunk = 256

	firstFree = 256 // numbers from here to lastFree are given to objects and subvolumes
	lastFree  = 1<<64 - 256
)

// Kinds of items.
const (
	inodeItem    = 1
	xattrItem    = 24
	dirItem      = 84
	dirIndex     = 96
	extentData   = 108
	extentSums   = 128
	rootItem     = 132
	rootBackref  = 144
	rootRef      = 156
	chunkItem    = 228
	sumsObjectID = 1<<64 - 10
)

const keySize = 17

// key is the place of an item in its tree.
type key struct {
	object uint64
	kind   uint8
	offset uint64
}

// lastKey is behind all keys.
var lastKey = key{1<<64 - 1, 255, 1<<64 - 1}

func parseKey(p []byte) key {
	return key{binary.LittleEndian.Uint64(p), p[8], binary.LittleEndian.Uint64(p[9:])}
}

func (k key) compare(l key) int {
	return cmp.Or(cmp.Compare(k.object, l.object), cmp.Compare(k.kind, l.kind), cmp.Compare(k.offset, l.offset))
}
