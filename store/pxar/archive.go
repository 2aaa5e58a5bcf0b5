package pxar

import (
	"bytes"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Archive describes one archive. It holds no source; every method that reads
// is given the stream that [Open] was given, the .pxar or .mpxar.
type Archive struct {
	size    int64
	split   bool
	prelude []byte
	root    Dir
}

// Dir locates a directory inside its archive. Two values of one archive are
// equal when they mean the same directory. The zero value locates nothing.
type Dir struct {
	entry int64  // position of the ENTRY item
	end   int64  // end of the goodbye table
	depth uint32 // directories above
	path  uint32 // length of the path from the root
}

// Open reads both ends of an archive of that size: version and prelude, and
// the tail of the root directory.
func Open(r io.ReaderAt, size int64) (*Archive, error) {
	if size < minEntry+minGoodbye {
		return nil, corrupt.New("archive of %d bytes, want at least %d", size, minEntry+minGoodbye)
	}
	w := newWindow(r, size, entryAhead)
	defer w.release()
	a := &Archive{size: size, root: Dir{end: size}}
	if err := a.readPreamble(w); err != nil {
		return nil, err
	}
	if _, err := a.readTail(w, a.root); err != nil {
		return nil, err
	}
	return a, nil
}

// readPreamble reads what may stand before the root's ENTRY.
func (a *Archive) readPreamble(w *window) error {
	h, err := w.header(0)
	if err != nil {
		return err
	}
	if h.typ != itemVersion {
		return nil
	}
	if a.split, err = readVersion(w, h); err != nil {
		return err
	}
	a.root.entry = h.end()
	if h, err = w.header(h.end()); err != nil || h.typ != itemPrelude {
		return err
	}
	if h.contentLen() > maxPrelude {
		return corrupt.At(h.pos, "prelude of %d bytes, want at most %d", h.contentLen(), maxPrelude)
	}
	b, err := w.bytes(h.content(), int(h.contentLen()))
	if err != nil {
		return err
	}
	a.prelude = bytes.Clone(b)
	a.root.entry = h.end()
	return nil
}

// readVersion reads the version item and reports whether it is the one of
// split archives.
func readVersion(w *window, h header) (split bool, err error) {
	b, err := w.content(h, 8)
	if err != nil {
		return false, err
	}
	switch v := le64(b); v {
	case 1, 2:
		return v == 2, nil
	default:
		return false, corrupt.At(h.pos, "archive format version %d, want 1 or 2", v)
	}
}

// Split reports whether the content of the files is in a payload stream.
func (a *Archive) Split() bool { return a.split }

// Size returns the size of the stream.
func (a *Archive) Size() int64 { return a.size }

// Prelude returns what the client stored in front of the root directory of a
// split archive, nil if nothing.
func (a *Archive) Prelude() []byte { return bytes.Clone(a.prelude) }

// Root locates the root directory.
func (a *Archive) Root() Dir { return a.root }

// tail is where a directory's goodbye table is.
type tail struct {
	goodbye  int64 // position of the GOODBYE header
	children int
}

// readTail reads the end of d's goodbye table and checks that it belongs to d
// (reference "pxar", section 4).
func (a *Archive) readTail(w *window, d Dir) (tail, error) {
	if d.entry < a.root.entry || d.end > a.size || d.end-d.entry < minEntry+minGoodbye {
		return tail{}, corrupt.At(d.entry, "directory of %d bytes, want at least %d", d.end-d.entry, minEntry+minGoodbye)
	}
	pos := d.end - tableItemSize
	b, err := w.bytes(pos, tableItemSize)
	if err != nil {
		return tail{}, err
	}
	hash, back, size := le64(b), le64(b[8:]), le64(b[16:])
	room := uint64(d.end - d.entry - minEntry)
	switch {
	case hash != tailHash:
		return tail{}, corrupt.At(pos, "no goodbye table ends here")
	case size < minGoodbye || size > room || (size-headerSize)%tableItemSize != 0:
		return tail{}, corrupt.At(pos, "goodbye table of %d bytes where %d are left", size, room)
	}
	t := tail{goodbye: d.end - int64(size), children: int((size-headerSize)/tableItemSize) - 1}
	if back > uint64(t.goodbye) || !a.isEntryOf(d, t.goodbye-int64(back)) {
		return tail{}, corrupt.At(pos, "goodbye table is not of the directory at %d", d.entry)
	}
	w.ahead = int(min(size, scanAhead)) // the table is what is read next
	h, err := w.header(t.goodbye)
	if err != nil {
		return tail{}, err
	}
	if h.typ != itemGoodbye || h.end() != d.end {
		return tail{}, corrupt.At(t.goodbye, "no goodbye table begins here")
	}
	return t, nil
}

// isEntryOf reports whether pos, derived from a tail, is d's ENTRY. The root of
// an archive with a version item gives position 0 instead: its writer never
// learns where the ENTRY went.
func (a *Archive) isEntryOf(d Dir, pos int64) bool {
	return pos == d.entry || pos == 0 && d.entry == a.root.entry
}
