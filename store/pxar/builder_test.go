package pxar

import (
	"bytes"
	"encoding/binary"
)

// node is an object that encoder writes. What is not set has the value that a
// plain object of its kind has.
type node struct {
	name  string
	mode  uint64
	uid   uint32
	gid   uint32
	sec   int64
	nsec  uint32
	v1    bool     // ENTRY_V1, with sec and nsec as one number
	attrs [][]byte // items
	data  string   // content, or target
	kids  []*node
	link  *node  // HARDLINK to it
	raw   []byte // stands after the name instead of everything else

	namePos int64 // set by the encoder
	pos     int64 // of what follows the name
	end     int64
}

// encoder writes archives for tests: well-formed ones, but for what its hooks
// change.
type encoder struct {
	split   bool
	prelude string
	table   func(dir *node, goodbye int64, slots []slot) []slot // in tree order
	tail    func(dir *node, s *slot)

	b       []byte
	payload []byte
}

// item returns an item with that content.
func item(typ uint64, content ...[]byte) []byte {
	c := bytes.Join(content, nil)
	return append(appendHeader(nil, typ, int64(len(c))), c...)
}

// nums returns numbers of 64 bits.
func nums(vs ...uint64) []byte { return appendNums(nil, vs...) }

// sized returns an item that claims another size than it has.
func sized(size uint64, it []byte) []byte {
	it = bytes.Clone(it)
	binary.LittleEndian.PutUint64(it[8:], size)
	return it
}

func xattrItem(name, value string) []byte { return item(itemXattr, []byte(name+"\x00"+value)) }

// archive encodes root and returns the stream of the archive; e.payload is
// that of its payloads.
func (e *encoder) archive(root *node) []byte {
	e.b, e.payload = nil, nil
	if e.split {
		e.b = append(e.b, item(itemVersion, nums(2))...)
		if e.prelude != "" {
			e.b = append(e.b, item(itemPrelude, []byte(e.prelude))...)
		}
		e.payload = item(itemPayloadStart)
	}
	root.namePos = -1
	e.entry(root)
	if e.split {
		e.payload = append(e.payload, item(itemPayloadTail)...)
	}
	return e.b
}

// entry writes everything of n but its name.
func (e *encoder) entry(n *node) {
	n.pos = int64(len(e.b))
	switch {
	case n.raw != nil:
		e.b = append(e.b, n.raw...)
	case n.link != nil:
		e.b = append(e.b, item(itemHardlink, nums(uint64(n.namePos-n.link.namePos)), []byte(n.link.name+"\x00"))...)
	default:
		e.b = append(e.b, n.stat()...)
		for _, a := range n.attrs {
			e.b = append(e.b, a...)
		}
		e.content(n)
	}
	n.end = int64(len(e.b))
}

func (n *node) stat() []byte {
	if n.v1 {
		ns := uint64(n.sec)*1e9 + uint64(n.nsec)
		return item(itemEntryV1, nums(n.mode, 0, uint64(n.uid)|uint64(n.gid)<<32, ns))
	}
	return item(itemEntry, nums(n.mode, 0, uint64(n.uid)|uint64(n.gid)<<32, uint64(n.sec), uint64(n.nsec)))
}

func (e *encoder) content(n *node) {
	switch n.mode & TypeMask {
	case TypeDir:
		e.dir(n)
	case TypeRegular:
		if !e.split {
			e.b = append(e.b, item(itemPayload, []byte(n.data))...)
			return
		}
		e.b = append(e.b, item(itemPayloadRef, nums(uint64(len(e.payload)), uint64(len(n.data))))...)
		e.payload = append(e.payload, item(itemPayload, []byte(n.data))...)
	case TypeSymlink:
		e.b = append(e.b, item(itemSymlink, []byte(n.data+"\x00"))...)
	case TypeCharDevice, TypeBlockDevice:
		e.b = append(e.b, item(itemDevice, nums(8, 1))...)
	}
}

// dir writes the children of n and its table.
func (e *encoder) dir(n *node) {
	for _, k := range n.kids {
		k.namePos = int64(len(e.b))
		e.b = append(e.b, item(itemFilename, []byte(k.name+"\x00"))...)
		e.entry(k)
	}
	goodbye := int64(len(e.b))
	var slots []slot
	for _, k := range n.kids {
		size := uint64(k.end - k.namePos)
		if e.split && k.link == nil && k.mode&TypeMask == TypeRegular {
			size += uint64(len(k.data))
		}
		slots = append(slots, slot{hashName([]byte(k.name)), uint64(goodbye - k.namePos), size})
	}
	slots = treeOrder(slots)
	if e.table != nil {
		slots = e.table(n, goodbye, slots)
	}
	t := slot{tailHash, uint64(goodbye - n.pos), uint64(headerSize + tableItemSize*(len(slots)+1))}
	if e.split && n.namePos == -1 {
		t.back = uint64(goodbye)
	}
	if e.tail != nil {
		e.tail(n, &t)
	}
	var c []byte
	for _, s := range append(slots, t) {
		c = append(c, nums(s.hash, s.back, s.size)...)
	}
	e.b = append(e.b, item(itemGoodbye, c)...)
}

// Nodes of each kind.

func dir(name string, kids ...*node) *node {
	return &node{name: name, mode: TypeDir | 0o755, kids: kids}
}

func file(name, data string) *node { return &node{name: name, mode: TypeRegular | 0o644, data: data} }

func symlink(name, to string) *node       { return &node{name: name, mode: TypeSymlink | 0o777, data: to} }
func special(name string, m uint64) *node { return &node{name: name, mode: m | 0o600} }
func linkTo(name string, to *node) *node  { return &node{name: name, link: to} }
func raw(name string, items ...[]byte) *node {
	return &node{name: name, raw: bytes.Join(items, nil)}
}
