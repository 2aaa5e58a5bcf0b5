package storetest

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/dchest/siphash"
)

// Forgery is a stream of an archive as a list of items, of which nothing need be right.
// What tables and hard links refer to are items, not positions: they lead where they shall,
// whatever stands between.
type Forgery struct{ Items []Item }

// Item is an item of a Forgery.
type Item struct {
	Type    uint64
	Content []byte
	// Size is what the header says, 0 for what is right.
	Size uint64
	// Slots are the content of a goodbye table; the last one is its tail.
	Slots []Slot
	// AsIs keeps the slots in their order; otherwise they are put into that of a table.
	AsIs bool
	// Link says that the content is that of a hard link to the item To.
	Link bool
	To   int
}

// Slot is an entry of a goodbye table: for the child that begins with the item To and ends
// before the item End. The tail is that of the directory whose entry is To.
type Slot struct {
	To, End int
	// Hash, Back and Size are added to what is right.
	Hash, Back, Size uint64
}

// Types are the types of all items, in the order of their names in the reference.
var Types = []uint64{
	itemVersion, 0xe309d79d9f7b771b, itemEntry, 0x11da850a1c1cceff, itemFilename, itemXattr,
	0x2ce8540a457d55b8, 0x136e3eceb04c03ab, 0x10868031e9582876, 0xbbbb13415a6896f5, 0xc89357b40532cd1f, 0xf90a8a5816038ffe,
	0x2da9dd9db5f7fb67, 0xe07540e82f7d1cbb, itemSymlink, itemDevice, itemHardlink, itemPayload, itemPayloadRef, itemGoodbye,
	itemPayloadStart, itemPayloadTail,
}

// The types of items that are made by name.
const (
	TypeEntry    = itemEntry
	TypeFilename = itemFilename
	TypeXattr    = itemXattr
	TypeACLUser  = 0x2ce8540a457d55b8
	TypeHardlink = itemHardlink
	TypePayload  = itemPayload
	TypeRef      = itemPayloadRef
	TypeGoodbye  = itemGoodbye
)

// Forge takes a stream that [Archive] has made apart.
func Forge(stream []byte) *Forgery {
	f := &Forgery{}
	var at []int64 // positions of the items, and the end
	for off := 0; off < len(stream); {
		typ, size := binary.LittleEndian.Uint64(stream[off:]), int(binary.LittleEndian.Uint64(stream[off+8:]))
		f.Items = append(f.Items, Item{Type: typ, Content: bytes.Clone(stream[off+16 : off+size])})
		at = append(at, int64(off))
		off += size
	}
	at = append(at, int64(len(stream)))
	for i := range f.Items {
		f.Items[i].refer(at, i)
	}
	return f
}

// refer puts references to items in the place of positions.
func (it *Item) refer(at []int64, i int) {
	index := func(pos int64) int { n, _ := slices.BinarySearch(at, pos); return n }
	switch it.Type {
	case itemHardlink:
		it.Link = true
		it.To = index(at[i-1] - int64(binary.LittleEndian.Uint64(it.Content))) // the name stands before it
	case itemGoodbye:
		for b := it.Content; len(b) >= 24; b = b[24:] {
			to := at[i] - int64(binary.LittleEndian.Uint64(b[8:]))
			it.Slots = append(it.Slots, Slot{To: index(to), End: index(to + int64(binary.LittleEndian.Uint64(b[16:])))})
		}
		it.Content = nil
	}
}

// Bytes writes the stream.
func (f *Forgery) Bytes() []byte {
	at := make([]int64, 0, len(f.Items)+1)
	pos := int64(0)
	for i := range f.Items {
		at = append(at, pos)
		pos += int64(f.Items[i].length())
	}
	at = append(at, pos)
	out := make([]byte, 0, pos)
	for i := range f.Items {
		it := &f.Items[i]
		size := uint64(it.length())
		if it.Size != 0 {
			size = it.Size
		}
		out = append(append(out, nums(it.Type, size)...), f.content(i, at)...)
	}
	return out
}

func (it *Item) length() int {
	if it.Slots != nil {
		return 16 + 24*len(it.Slots)
	}
	return 16 + len(it.Content)
}

// content is what stands behind the header of item i.
func (f *Forgery) content(i int, at []int64) []byte {
	it := &f.Items[i]
	where := func(n int) uint64 { return uint64(at[min(max(n, 0), len(at)-1)]) }
	switch {
	case it.Link && i > 0 && len(it.Content) >= 8:
		return append(nums(where(i-1)-where(it.To)), it.Content[8:]...)
	case it.Slots == nil:
		return it.Content
	}
	if len(it.Slots) == 0 {
		return nil // not even a tail
	}
	slots := make([]slot, 0, len(it.Slots))
	for _, s := range it.Slots {
		slots = append(slots, slot{f.hashOf(s.To) + s.Hash, where(i) - where(s.To) + s.Back, where(s.End) - where(s.To) + s.Size})
	}
	tail := &slots[len(slots)-1]
	last := it.Slots[len(slots)-1]
	tail.hash, tail.size = tailHash+last.Hash, uint64(it.length())+last.Size
	if !it.AsIs {
		copy(slots, treeOrder(slices.Clone(slots[:len(slots)-1])))
	}
	var out []byte
	for _, s := range slots {
		out = append(out, nums(s.hash, s.back, s.size)...)
	}
	return out
}

// hashOf is the hash of the name that an item is, if it is one.
func (f *Forgery) hashOf(i int) uint64 {
	if i < 0 || i >= len(f.Items) {
		return 0
	}
	name, _, _ := bytes.Cut(f.Items[i].Content, []byte{0})
	return siphash.Hash(hashKey0, hashKey1, name)
}
