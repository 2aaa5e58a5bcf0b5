package pxar

import "io"

// Mark is where a stream goes on at some position: what comes first there, up to
// Next, is the rest of an item, which is metadata unless it is Content; the
// header of another item is at Next. The zero Mark is that of a stream's
// beginning.
type Mark struct {
	Next    int64
	Content bool
}

// Skim finds what is not content of files in a part of a unified archive, which
// is size bytes long. b begins at position at, and before it lie the bytes of
// head: those of a header that the part before had only the beginning of, from
// m.Next on, else none. keep is told the ranges, in order.
//
// Skim returns where the part after b goes on, and whether that can be told: not
// when something is no item. It trusts nobody: wrong bytes make it keep too much
// or too little, which is all they do.
func Skim(head, b []byte, at int64, m Mark, size int64, keep func(begin, end int64)) (Mark, bool) {
	end := at + int64(len(b))
	if m.Next > at && !m.Content {
		keep(at, min(m.Next, end))
	}
	pos := m.Next
	for pos < end {
		var raw [headerSize]byte
		n := 0
		if pos < at {
			n = copy(raw[:], head)
		}
		copy(raw[n:], b[max(0, pos-at):])
		if pos+headerSize > end {
			keep(max(at, pos), end)
			return Mark{Next: pos}, true
		}
		length := le64(raw[8:])
		if length < headerSize || length > uint64(size-pos) || !isItem(le64(raw[:])) {
			return Mark{}, false
		}
		m = Mark{Next: pos + int64(length), Content: le64(raw[:]) == itemPayload}
		if m.Content {
			keep(max(at, pos), pos+headerSize)
		} else {
			keep(max(at, pos), min(m.Next, end))
		}
		pos = m.Next
	}
	return m, true
}

// isItem reports whether there are items of that type in unified archives.
func isItem(typ uint64) bool {
	switch typ {
	case itemVersion, itemPrelude, itemEntry, itemEntryV1, itemFilename, itemXattr, itemACLUser, itemACLGroup,
		itemACLGroupObj, itemACLDefault, itemACLDefaultUser, itemACLDefaultGroup, itemFCaps, itemQuotaProject,
		itemSymlink, itemDevice, itemHardlink, itemPayload, itemGoodbye:
		return true
	}
	return false
}

// Sparse is a source that has some parts of a stream at hand and others not.
type Sparse interface {
	io.ReaderAt
	// ReadSome is ReadAt for who can do with the first n bytes, more of which
	// are worth no trouble.
	ReadSome(p []byte, n int, off int64) (int, error)
}

// Pos returns where the i-th child begins, and, for the number of children,
// where the table does: positions of headers.
func (t *Table) Pos(i int) int64 {
	if i < len(t.items) {
		return t.items[i].pos
	}
	return t.goodbye
}

// Rewind returns the first of the headers before pos, itself the position of
// one, that can be told to be some in a part of a unified archive that begins at
// position at: those of the goodbye tables that end there, one after the other.
// It returns pos if there are none. Like [Skim], it may be wrong about wrong
// bytes.
func Rewind(b []byte, at, pos int64) int64 {
	for pos-at >= minGoodbye {
		tail := b[pos-at-tableItemSize:]
		size := le64(tail[16:])
		if le64(tail) != tailHash || size < minGoodbye || size > uint64(pos-at) {
			return pos
		}
		h := b[pos-at-int64(size):]
		if le64(h) != itemGoodbye || le64(h[8:]) != size {
			return pos
		}
		pos -= int64(size)
	}
	return pos
}
