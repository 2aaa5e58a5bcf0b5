package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Encoder writes a catalog as archives are walked: directories are opened and
// closed in the order of the walk, and each is written when it is closed, so
// that children come before their parent (reference "catalog", section 2).
// What it holds is the entries of the directories that are open.
//
// The directories at the top are the archives, by their stored names:
// "root.pxar.didx". An Encoder is not safe for concurrent use.
type Encoder struct {
	w     io.Writer
	pos   int64
	stack []openDir // the root block, then the directories that are open
	block []byte
	err   error // of the writer, or that it is closed
}

// openDir is a directory that is not written yet.
type openDir struct {
	name    string
	entries []record
}

// record is an entry, and for a directory where its block begins.
type record struct {
	Entry
	start int64
}

// Errors of an [Encoder].
var (
	// ErrEntry matches the error about an entry that no catalog can have.
	// Nothing was written of it, and the encoder can be used on.
	ErrEntry = errors.New("entry cannot be cataloged")
	errDone  = errors.New("catalog is closed")
)

// NewEncoder returns an encoder that writes to w, one block at a time.
func NewEncoder(w io.Writer) *Encoder {
	e := &Encoder{w: w, stack: make([]openDir, 1)}
	e.write(magic[:])
	return e
}

func (e *Encoder) write(b []byte) {
	if e.err != nil {
		return
	}
	n, err := e.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	e.pos += int64(n)
	e.err = err
}

// StartDir opens a directory in the one that is open, or an archive.
func (e *Encoder) StartDir(name string) error {
	switch {
	case e.err != nil:
		return e.err
	case !isName(name):
		return fmt.Errorf("%w: name %q", ErrEntry, name)
	case len(e.stack) > maxDepth:
		return fmt.Errorf("%w: more than %d directories deep", ErrEntry, maxDepth)
	}
	e.stack = append(e.stack, openDir{name: name})
	return nil
}

// Add adds what is not a directory to the directory that is open.
func (e *Encoder) Add(entry Entry) error {
	switch {
	case e.err != nil:
		return e.err
	case len(e.stack) == 1:
		return fmt.Errorf("%w: %q is in no archive", ErrEntry, entry.Name)
	case !isName(entry.Name):
		return fmt.Errorf("%w: name %q", ErrEntry, entry.Name)
	}
	switch entry.Kind {
	case File, Symlink, HardLink, BlockDevice, CharDevice, Fifo, Socket:
	default:
		return fmt.Errorf("%w: %q of kind %q", ErrEntry, entry.Name, byte(entry.Kind))
	}
	e.add(record{Entry: entry})
	return nil
}

func (e *Encoder) add(r record) {
	top := &e.stack[len(e.stack)-1]
	top.entries = append(top.entries, r)
}

// EndDir closes the directory that was opened last.
func (e *Encoder) EndDir() error {
	switch {
	case e.err != nil:
		return e.err
	case len(e.stack) == 1:
		return fmt.Errorf("%w: no directory is open", ErrEntry)
	}
	name, start := e.stack[len(e.stack)-1].name, e.pos
	e.writeTop()
	e.add(record{Entry{Name: name, Kind: Dir}, start})
	return e.err
}

// Close writes the root block and the pointer to it. All directories must have
// been closed. It does not close the writer.
func (e *Encoder) Close() error {
	switch {
	case e.err != nil:
		return e.err
	case len(e.stack) != 1:
		return fmt.Errorf("%w: %d directories are open", ErrEntry, len(e.stack)-1)
	}
	root := e.pos
	e.writeTop()
	e.write(binary.LittleEndian.AppendUint64(nil, uint64(root)))
	if e.err != nil {
		return e.err
	}
	e.err = errDone
	return nil
}

// Size returns how many bytes have been written.
func (e *Encoder) Size() int64 { return e.pos }

// writeTop writes the block of the directory that was opened last and takes it
// from the stack.
func (e *Encoder) writeTop() {
	top := &e.stack[len(e.stack)-1]
	// The length stands before the table and is known behind it: the table is
	// built behind room for the longest.
	e.block = appendTable(append(e.block[:0], make([]byte, maxUnsigned)...), top.entries, e.pos)
	var length [maxUnsigned]byte
	head := appendUnsigned(length[:0], uint64(len(e.block)-maxUnsigned))
	block := e.block[maxUnsigned-len(head):]
	copy(block, head)
	*top = openDir{}
	e.stack = e.stack[:len(e.stack)-1]
	e.write(block)
	if cap(e.block) > maxKept {
		e.block = nil
	}
}

// appendTable appends the table of a directory whose block begins at start.
func appendTable(out []byte, entries []record, start int64) []byte {
	out = appendUnsigned(out, uint64(len(entries)))
	for i := range entries {
		r := &entries[i]
		out = append(out, byte(r.Kind))
		out = appendUnsigned(out, uint64(len(r.Name)))
		out = append(out, r.Name...)
		switch r.Kind {
		case Dir:
			out = appendUnsigned(out, uint64(start-r.start))
		case File:
			out = appendSigned(appendUnsigned(out, r.Size), r.Mtime)
		default: // nothing behind the name
		}
	}
	return out
}
