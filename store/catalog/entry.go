package catalog

import (
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Kind is the type of an entry, as the byte that the catalog has for it.
type Kind byte

// The kinds.
const (
	Dir         Kind = 'd'
	File        Kind = 'f'
	Symlink     Kind = 'l'
	HardLink    Kind = 'h' // a further name of a file whose first name is a File
	BlockDevice Kind = 'b'
	CharDevice  Kind = 'c'
	Fifo        Kind = 'p'
	Socket      Kind = 's'
)

// String returns the kind's letter.
func (k Kind) String() string { return string(rune(k)) }

// Entry is a directory entry.
type Entry struct {
	Name  string
	Kind  Kind
	Size  uint64 // 0 unless Kind is File
	Mtime int64  // seconds since the epoch; 0 unless Kind is File
}

const (
	maxRawName = 4095 // what the format allows
	maxName    = 255  // what a directory entry can have
)

// isName reports whether s can be the name of a directory entry.
func isName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= maxName && !strings.ContainsAny(s, "/\x00")
}

// table is a directory's table of entries while it is being read.
type table struct {
	start int64  // of the directory block in the stream; deltas refer to it
	size  int64  // of the block
	block []byte // the block, kept for its memory
	buf   []byte // the block without its length
	pos   int    // of the next entry in buf
	left  uint64 // entries to come
}

// init begins reading of buf.
func (t *table) init() error {
	count, n := unsigned(t.buf)
	if n == 0 {
		return t.corrupt("directory table has no valid number of entries")
	}
	t.pos, t.left = n, count
	return nil
}

func (t *table) corrupt(format string, args ...any) error {
	body := t.start + t.size - int64(len(t.buf))
	return corrupt.At(body+int64(t.pos), "catalog: "+format, args...)
}

// next reads the next entry. child is the start of the block of a directory,
// 0 for all others. more is false, and nothing else is valid, when there are
// no entries left.
func (t *table) next() (e Entry, child int64, more bool, err error) {
	if t.left == 0 {
		if t.pos != len(t.buf) {
			return Entry{}, 0, false, t.corrupt("%d bytes behind the last entry of a directory", len(t.buf)-t.pos)
		}
		return Entry{}, 0, false, nil
	}
	t.left--
	if e, err = t.head(); err != nil {
		return Entry{}, 0, false, err
	}
	switch e.Kind {
	case Dir:
		child, err = t.child()
	case File:
		err = t.file(&e)
	case Symlink, HardLink, BlockDevice, CharDevice, Fifo, Socket:
	}
	return e, child, err == nil, err
}

// head reads the type and the name.
func (t *table) head() (Entry, error) {
	rest := t.buf[t.pos:]
	if len(rest) == 0 {
		return Entry{}, t.corrupt("directory table ends %d entries early", t.left+1)
	}
	kind := Kind(rest[0])
	switch kind {
	case Dir, File, Symlink, HardLink, BlockDevice, CharDevice, Fifo, Socket:
	default:
		return Entry{}, t.corrupt("unknown entry type %#02x", rest[0])
	}
	length, n := unsigned(rest[1:])
	switch {
	case n == 0:
		return Entry{}, t.corrupt("entry without a valid length of its name")
	case length > maxRawName:
		return Entry{}, t.corrupt("name of %d bytes", length)
	case length > uint64(len(rest)-1-n):
		return Entry{}, t.corrupt("name of %d bytes leaves its directory", length)
	}
	end := 1 + n + int(length)
	t.pos += end
	return Entry{Name: string(rest[1+n : end]), Kind: kind}, nil
}

// child reads where a directory's block is. It lies before the block that
// holds the entry, which is what makes every walk end.
func (t *table) child() (int64, error) {
	delta, n := unsigned(t.buf[t.pos:])
	if n == 0 {
		return 0, t.corrupt("directory without a valid offset")
	}
	if delta == 0 || delta > uint64(t.start-magicSize) {
		return 0, t.corrupt("directory lies %d bytes before its parent at %d", delta, t.start)
	}
	t.pos += n
	return t.start - int64(delta), nil
}

// file reads what only regular files have.
func (t *table) file(e *Entry) error {
	size, n := unsigned(t.buf[t.pos:])
	if n == 0 {
		return t.corrupt("file without a valid size")
	}
	t.pos += n
	mtime, n := signed(t.buf[t.pos:])
	if n == 0 {
		return t.corrupt("file without a valid time")
	}
	t.pos += n
	e.Size, e.Mtime = size, mtime
	return nil
}
