package storetest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/dchest/siphash"

	"github.com/pbsfs/pbsfs/store/pxar"
)

// Item types (reference "pxar", section 1).
const (
	itemVersion      = 0x730f6c75df16a40d
	itemEntry        = 0xd5956474e588acef
	itemFilename     = 0x16701121063917b3
	itemXattr        = 0x0dab0229b57dcd03
	itemSymlink      = 0x27f971e7dbf5dc5f
	itemDevice       = 0x9fc9e906586d5ce9
	itemHardlink     = 0x51269c8422bd7275
	itemPayload      = 0x28147a1b0b7c1a25
	itemPayloadRef   = 0x419d3d6bc4ba977e
	itemGoodbye      = 0x2fec4fa642d5731d
	itemPayloadStart = 0x834c68c2194a4ed2
	itemPayloadTail  = 0x6c72b78b984c81b5

	tailHash = 0xef5eed5b753e1555
	hashKey0 = 0x83ac3f1cfbb450db
	hashKey1 = 0xaa4f1b6879369fbd
)

// Node is an object of an archive that is being made.
type Node struct {
	Name     string
	Mode     uint32
	UID, GID uint32
	Sec      int64
	Nsec     uint32
	Xattrs   []pxar.Attribute
	Data     string // content, or target of a symbolic link
	Kids     []*Node
	To       *Node // of a hard link, which nothing else of counts
	// Spoil, if set, replaces what stands after the name.
	Spoil []byte

	namePos, pos, end int64
}

// Dir returns a directory. The root's name is "".
func Dir(name string, kids ...*Node) *Node {
	return &Node{Name: name, Mode: pxar.TypeDir | 0o755, Kids: kids}
}

// File returns a regular file.
func File(name, data string) *Node {
	return &Node{Name: name, Mode: pxar.TypeRegular | 0o644, Data: data}
}

// Symlink returns a symbolic link.
func Symlink(name, to string) *Node {
	return &Node{Name: name, Mode: pxar.TypeSymlink | 0o777, Data: to}
}

// Device returns the block device 8:1.
func Device(name string) *Node { return &Node{Name: name, Mode: pxar.TypeBlockDevice | 0o600} }

// Link returns a hard link to a file that comes before it.
func Link(name string, to *Node) *Node { return &Node{Name: name, To: to} }

// With returns n with an extended attribute more.
func (n *Node) With(name, value string) *Node {
	n.Xattrs = append(n.Xattrs, pxar.Attribute{Name: name, Value: []byte(value)})
	return n
}

// Archive returns the archive of a tree, with its payload stream if it is to
// be split.
func Archive(root *Node, split bool) (archive, payload []byte) {
	w := &writer{split: split}
	if split {
		w.item(itemVersion, nums(2))
		w.payload = item(itemPayloadStart)
	}
	w.entry(root, true)
	if split {
		w.payload = append(w.payload, item(itemPayloadTail)...)
	}
	return w.b, w.payload
}

type writer struct {
	split      bool
	b, payload []byte
}

func nums(vs ...uint64) (b []byte) {
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func item(typ uint64, content ...[]byte) []byte {
	c := bytes.Join(content, nil)
	return append(nums(typ, uint64(16+len(c))), c...)
}

func (w *writer) item(typ uint64, content ...[]byte) { w.b = append(w.b, item(typ, content...)...) }

func (w *writer) at() int64 { return int64(len(w.b)) }

// entry writes everything of n but its name.
func (w *writer) entry(n *Node, root bool) {
	n.pos = w.at()
	defer func() { n.end = w.at() }()
	switch {
	case n.Spoil != nil:
		w.b = append(w.b, n.Spoil...)
		return
	case n.To != nil:
		w.item(itemHardlink, nums(uint64(n.namePos-n.To.namePos)), []byte(n.To.Name+"\x00"))
		return
	}
	w.item(itemEntry, nums(uint64(n.Mode), 0, uint64(n.UID)|uint64(n.GID)<<32, uint64(n.Sec), uint64(n.Nsec)))
	for _, x := range n.Xattrs {
		w.item(itemXattr, []byte(x.Name+"\x00"), x.Value)
	}
	switch n.Mode & pxar.TypeMask {
	case pxar.TypeDir:
		w.dir(n, root)
	case pxar.TypeRegular:
		w.content(n)
	case pxar.TypeSymlink:
		w.item(itemSymlink, []byte(n.Data+"\x00"))
	case pxar.TypeCharDevice, pxar.TypeBlockDevice:
		w.item(itemDevice, nums(8, 1))
	}
}

func (w *writer) content(n *Node) {
	if !w.split {
		w.item(itemPayload, []byte(n.Data))
		return
	}
	w.item(itemPayloadRef, nums(uint64(len(w.payload)), uint64(len(n.Data))))
	w.payload = append(w.payload, item(itemPayload, []byte(n.Data))...)
}

// slot is an item of a goodbye table.
type slot struct{ hash, back, size uint64 }

// dir writes the children of n and its table.
func (w *writer) dir(n *Node, root bool) {
	for _, k := range n.Kids {
		k.namePos = w.at()
		w.item(itemFilename, []byte(k.Name+"\x00"))
		w.entry(k, false)
	}
	goodbye := w.at()
	slots := make([]slot, 0, len(n.Kids))
	for _, k := range n.Kids {
		hash := siphash.Hash(hashKey0, hashKey1, []byte(k.Name))
		slots = append(slots, slot{hash, uint64(goodbye - k.namePos), uint64(k.end - k.namePos)})
	}
	tail := slot{tailHash, uint64(goodbye - n.pos), uint64(16 + 24*(len(slots)+1))}
	if w.split && root {
		tail.back = uint64(goodbye)
	}
	var c []byte
	for _, s := range append(treeOrder(slots), tail) {
		c = append(c, nums(s.hash, s.back, s.size)...)
	}
	w.item(itemGoodbye, c)
}

// treeOrder sorts slots and puts them into the order of a complete binary
// tree.
func treeOrder(slots []slot) []slot {
	slices.SortFunc(slots, func(a, b slot) int { return cmp.Compare(a.hash, b.hash) })
	out := make([]slot, len(slots))
	next := 0
	var place func(i int)
	place = func(i int) {
		if i >= len(out) {
			return
		}
		place(2*i + 1)
		out[i] = slots[next]
		next++
		place(2*i + 2)
	}
	place(0)
	return out
}
