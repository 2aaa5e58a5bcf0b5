package pxar

import (
	"cmp"
	"io"
	"math/bits"
	"slices"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Table is the goodbye table of one directory: where its children are.
type Table struct {
	dir     Dir
	goodbye int64
	items   []tableItem // by position
	byHash  []uint32    // indices of items, by hash and then position
	unread  int         // names that stand for nothing
	err     error
}

// tableItem is one entry of a table.
type tableItem struct {
	hash uint64
	pos  int64 // of the FILENAME header
	end  int64 // as the table claims; -1 if it cannot be a position
	slot uint32
	same bool // another child has the same hash
	// empty is an item that says it has no length, which no child has. A client
	// wrote such items for names that it could not open, at the position of
	// whatever it wrote next.
	empty bool
}

// ReadTable reads the goodbye table of d. A table that cannot be used at all
// is an error; one that can in part is returned, and [Table.Err] says so.
func (a *Archive) ReadTable(r io.ReaderAt, d Dir) (*Table, error) {
	w := newWindow(r, d.end, tableItemSize)
	defer w.release()
	at, err := a.readTail(w, d)
	if err != nil {
		return nil, err
	}
	if at.children > maxChildren {
		return nil, corrupt.At(at.goodbye, "goodbye table of %d children, want at most %d", at.children, maxChildren)
	}
	t := &Table{dir: d, goodbye: at.goodbye}
	if err := t.load(w, at.children); err != nil {
		return nil, err
	}
	t.checkOrder()
	t.sort()
	return t, nil
}

// load reads n items in stored order, leaving out those that do not lie in the
// directory. It reads in steps, so that memory follows bytes that exist.
func (t *Table) load(w *window, n int) error {
	const step = 1024
	pos := t.goodbye + headerSize
	t.items = make([]tableItem, 0, min(n, step))
	for done := 0; done < n; {
		m := min(n-done, step)
		b, err := w.bytes(pos, m*tableItemSize)
		if err != nil {
			return err
		}
		for i := range m {
			t.add(b[i*tableItemSize:], pos+int64(i*tableItemSize), uint32(done+i))
		}
		if err := t.checkRoom(); err != nil {
			return err
		}
		done += m
		pos += int64(m * tableItemSize)
	}
	return nil
}

// checkRoom refuses a table of more children than the directory has room for:
// they do not overlap.
func (t *Table) checkRoom() error {
	room := (t.goodbye - t.dir.entry - minEntry) / minChild
	if n := len(t.items) - t.unread; int64(n) > room {
		return corrupt.At(t.goodbye, "goodbye table of %d children where there is room for %d", n, room)
	}
	return nil
}

// add decodes the item in b, which is stored at pos.
func (t *Table) add(b []byte, pos int64, slot uint32) {
	hash, back, size := le64(b), le64(b[8:]), le64(b[16:])
	room := uint64(t.goodbye - t.dir.entry - minEntry)
	it := tableItem{hash: hash, end: -1, slot: slot, empty: size == 0}
	if it.empty {
		t.unread++
	}
	if (back < minChild || back > room) && (!it.empty || back > 0) {
		t.fail(corrupt.At(pos, "goodbye table lists a child outside its directory"))
		back = 0 // sort drops what stands at the table itself
	}
	it.pos = t.goodbye - int64(back)
	if size <= back {
		it.end = it.pos + int64(size)
	}
	t.items = append(t.items, it)
}

// fail records that the table is not sound.
func (t *Table) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// checkOrder checks that the items, still in stored order, are a search tree:
// the children of i are 2i+1 and 2i+2, and an in-order walk meets no smaller
// hash after a larger one (reference "pxar", section 5).
func (t *Table) checkOrder() {
	last := uint64(0)
	for i := range inOrder(len(t.items)) {
		if t.items[i].hash < last {
			t.fail(corrupt.At(t.goodbye, "goodbye table is not in order"))
			return
		}
		last = t.items[i].hash
	}
}

// inOrder walks the n slots of a binary tree that is stored level by level.
func inOrder(n int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := leftmost(0, n); i < n; i = successor(i, n) {
			if !yield(i) {
				return
			}
		}
	}
}

// slot is an item of a goodbye table: how far before the table the child
// stands, and its length.
type slot struct{ hash, back, size uint64 }

// treeOrder sorts slots by hash and puts them into the order that they are
// stored in, which checkOrder checks.
func treeOrder(slots []slot) []slot {
	slices.SortStableFunc(slots, func(a, b slot) int { return cmp.Compare(a.hash, b.hash) })
	out := make([]slot, len(slots))
	next := 0
	for i := range inOrder(len(slots)) {
		out[i] = slots[next]
		next++
	}
	return out
}

// leftmost returns the smallest slot below i; i itself where there is none.
func leftmost(i, n int) int {
	for 2*i+1 < n {
		i = 2*i + 1
	}
	return i
}

// successor returns the slot that follows i in order, n after the last.
func successor(i, n int) int {
	if 2*i+2 < n {
		return leftmost(2*i+2, n)
	}
	// Counted from 1, the parent of k is k/2 and right children are odd: climb
	// while k is one, then once more from a left child.
	up := i + 1
	up >>= bits.TrailingZeros(^uint(up))
	if up >>= 1; up == 0 {
		return n
	}
	return up - 1
}

// sort puts the items into archive order, drops those that stand for no child
// of their own, and builds the order of hashes.
func (t *Table) sort() {
	slices.SortFunc(t.items, func(a, b tableItem) int {
		return cmp.Or(cmp.Compare(a.pos, b.pos), compareBool(a.empty, b.empty), cmp.Compare(a.slot, b.slot))
	})
	outside, _ := slices.BinarySearchFunc(t.items, t.goodbye, comparePos)
	kept := t.items[:0]
	t.unread = countEmpty(t.items[outside:])
	for _, it := range t.items[:outside] {
		switch n := len(kept); {
		case n == 0 || kept[n-1].pos != it.pos:
			kept = append(kept, it)
		case it.empty:
			t.unread++ // another name for what is there
		default:
			t.fail(corrupt.At(t.goodbye, "goodbye table lists a child twice"))
		}
	}
	t.items = kept
	t.byHash = make([]uint32, len(kept))
	for i := range t.byHash {
		t.byHash[i] = uint32(i)
	}
	slices.SortFunc(t.byHash, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(t.items[a].hash, t.items[b].hash), cmp.Compare(a, b))
	})
	t.markSame()
}

// markSame marks the items whose hash is not their own.
func (t *Table) markSame() {
	for k := 1; k < len(t.byHash); k++ {
		a, b := &t.items[t.byHash[k-1]], &t.items[t.byHash[k]]
		if a.hash == b.hash {
			a.same, b.same = true, true
		}
	}
}

func countEmpty(items []tableItem) (n int) {
	for _, it := range items {
		if it.empty {
			n++
		}
	}
	return n
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func comparePos(it tableItem, pos int64) int { return cmp.Compare(it.pos, pos) }

// Len returns the number of children.
func (t *Table) Len() int { return len(t.items) }

// Unread returns how many names the directory had that its client could not open
// and listed all the same: nothing is stored of them. They are no children.
func (t *Table) Unread() int { return t.unread }

// Err returns nil when the table is sound. Otherwise it is an error that
// matches [corrupt.Err]: the table is not in order, or lists something that is
// not a child of the directory, or one child twice. What it lists besides can
// still be read, but a listing made from it is not complete.
func (t *Table) Err() error { return t.err }

// Range returns where the i-th child lies in the archive, its name included, and in a
// unified archive everything below it.
func (t *Table) Range(i int) (off, end int64) { return t.items[i].pos, t.bound(i) }

// End returns where the directory ends in the archive: no other directory ends there.
func (t *Table) End() int64 { return t.dir.end }

// holding returns the index of the child whose range holds pos, -1 if none.
func (t *Table) holding(pos int64) int {
	if pos >= t.goodbye {
		return -1
	}
	i, found := slices.BinarySearchFunc(t.items, pos, comparePos)
	if found {
		return i
	}
	return i - 1
}

// sameHash returns the indices of the items with that hash, by position.
func (t *Table) sameHash(hash uint64) []uint32 {
	lo, _ := slices.BinarySearchFunc(t.byHash, hash, func(i uint32, h uint64) int { return cmp.Compare(t.items[i].hash, h) })
	hi := lo
	for hi < len(t.byHash) && hi-lo < maxSameHash && t.items[t.byHash[hi]].hash == hash {
		hi++
	}
	return t.byHash[lo:hi]
}
