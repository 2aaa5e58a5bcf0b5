package pxar

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Encoder writes an archive in the order of a walk: directories are opened and
// closed, and what lies in them is added in between, in the order of the bytes
// of the names. The root directory is opened by [NewEncoder] or
// [NewSplitEncoder] and closed by [Encoder.Close].
//
// What the decoder would not take is refused with an error that matches
// [ErrEntry] before anything of it is written, and the encoder can be used on.
// Every other error, of a writer or a wish to stop, is for good: there will be
// no archive.
//
// An Encoder holds 24 bytes for each child of the directories that are open. It
// is not safe for concurrent use.
type Encoder struct {
	meta    *sink
	payload *sink // nil for unified archives
	cuts    Cutter
	stack   []openDir
	buf     []byte // items that are being put together
	data    []byte // content on its way
	err     error
}

// openDir is a directory whose table is not written yet.
type openDir struct {
	name     string
	namePos  int64 // of its FILENAME header
	start    int64 // where its goodbye table says it begins
	pathLen  int
	last     string // name of its last child
	ended    bool   // no child may follow
	children []child
}

// child is what a goodbye table says about a child, with a position that does
// not depend on where the table will be.
type child struct {
	hash      uint64
	pos, size int64
}

// ErrEntry matches the error about an entry that no archive can have.
var ErrEntry = errors.New("cannot be stored in an archive")

var errClosed = errors.New("archive is complete")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrEntry, fmt.Sprintf(format, args...))
}

// excludeFile is what clients call the list of exclude patterns that they put
// behind all else in the root directory.
const excludeFile = ".pxarexclude-cli"

const (
	maxFile  = 1 << 62 // leaves room for sums of positions in an int64
	sinkSize = 64 << 10
	copySize = 1 << 20
	maxKept  = 1 << 20 // of the buffer for items: tables can be large

	splitVersion = 2
)

// sink is a buffered stream that knows its position.
type sink struct {
	w   *bufio.Writer
	pos int64
}

func newSink(w io.Writer) *sink { return &sink{w: bufio.NewWriterSize(w, sinkSize)} }

func (s *sink) write(b []byte) error {
	n, err := s.w.Write(b)
	s.pos += int64(n)
	return err
}

// NewEncoder begins a unified archive of a root directory.
func NewEncoder(w io.Writer, root *Metadata) (*Encoder, error) {
	e := &Encoder{meta: newSink(w)}
	return e.begin(root)
}

// Cutter is a writer of a payload stream that wants to know where the stream is
// well cut into chunks.
type Cutter interface {
	// Suggest is told the offset of each file's payload header before the header
	// is written.
	Suggest(off int64)
}

// NewSplitEncoder begins a split archive: all but the content of files goes to
// meta, the content to payload, which may be a [Cutter]. The prelude may be nil.
func NewSplitEncoder(meta, payload io.Writer, prelude []byte, root *Metadata) (*Encoder, error) {
	e := &Encoder{meta: newSink(meta), payload: newSink(payload)}
	e.cuts, _ = payload.(Cutter)
	if len(prelude) > maxPrelude {
		return nil, refuse("prelude of %d bytes, want at most %d", len(prelude), maxPrelude)
	}
	e.buf = appendNums(appendHeader(e.buf, itemVersion, 8), splitVersion)
	if prelude != nil {
		e.buf = append(appendHeader(e.buf, itemPrelude, int64(len(prelude))), prelude...)
	}
	if err := e.payload.write(appendHeader(nil, itemPayloadStart, 0)); err != nil {
		return nil, err
	}
	return e.begin(root)
}

// begin writes the root's entry behind what is in e.buf.
func (e *Encoder) begin(root *Metadata) (*Encoder, error) {
	if err := root.check(TypeDir); err != nil {
		return nil, err
	}
	e.buf = appendEntry(e.buf, root)
	// The table of a root always says that the directory begins at byte 0,
	// also where a version item is (reference "pxar", section 4).
	e.stack = []openDir{{namePos: -1}}
	return e, e.flushBuf()
}

// usable returns why nothing can be added, if so.
func (e *Encoder) usable() error {
	if e.err == nil && len(e.stack) == 0 {
		return errors.New("pxar: encoder was not made by NewEncoder")
	}
	return e.err
}

// flushBuf writes what was put together.
func (e *Encoder) flushBuf() error {
	if e.err == nil {
		e.err = e.meta.write(e.buf)
	}
	if e.buf = e.buf[:0]; cap(e.buf) > maxKept {
		e.buf = nil
	}
	return e.err
}

// Size returns the lengths of the streams so far. There is no payload stream
// in a unified archive.
func (e *Encoder) Size() (archive, payload int64) {
	if e.payload != nil {
		payload = e.payload.pos
	}
	return e.meta.pos, payload
}

func (e *Encoder) top() *openDir { return &e.stack[len(e.stack)-1] }

// start checks a new child and begins it in e.buf with its name.
func (e *Encoder) start(name string) error {
	if err := e.checkName(name); err != nil {
		return err
	}
	d := e.top()
	d.ended = d.ended || name < d.last
	d.last = max(d.last, name)
	e.buf = appendText(e.buf[:0], itemFilename, name)
	return nil
}

// checkName checks that a child with that name may come next. The order keeps
// names from occurring twice.
func (e *Encoder) checkName(name string) error {
	if err := e.usable(); err != nil {
		return err
	}
	d := e.top()
	isList := len(e.stack) == 1 && name == excludeFile
	switch {
	case !isName(name):
		return refuse("%q is not a file name", name)
	case d.ended, name == d.last, name < d.last && !isList, isList && name < d.last && d.has(name):
		return refuse("%q comes behind %q", name, d.last)
	case len(d.children) == maxChildren:
		return refuse("directory with more than %d entries", maxChildren)
	}
	return nil
}

// has reports whether there is a child whose name has the same hash.
func (d *openDir) has(name string) bool {
	hash := hashName([]byte(name))
	for i := range d.children {
		if d.children[i].hash == hash {
			return true
		}
	}
	return false
}

// add notes a child that was written from namePos on; elsewhere is the length
// of content that is not in the archive's own stream.
func (e *Encoder) add(name string, namePos, elsewhere int64) {
	d := e.top()
	d.children = append(d.children, child{hashName([]byte(name)), namePos, e.meta.pos - namePos + elsewhere})
}

// StartDir opens a directory inside the one that is open.
func (e *Encoder) StartDir(name string, m *Metadata) error {
	if err := e.usable(); err != nil {
		return err
	}
	if err := m.check(TypeDir); err != nil {
		return err
	}
	pathLen := e.top().pathLen + len(name) + 1
	if len(e.stack) > maxDepth || pathLen > maxPath {
		return refuse("%q is %d levels and %d bytes of path deep, want at most %d and %d", name, len(e.stack), pathLen, maxDepth, maxPath)
	}
	if err := e.start(name); err != nil {
		return err
	}
	namePos := e.meta.pos
	start := namePos + int64(len(e.buf))
	e.buf = appendEntry(e.buf, m)
	e.stack = append(e.stack, openDir{name: name, namePos: namePos, start: start, pathLen: pathLen})
	return e.flushBuf()
}

// EndDir closes the directory that was opened last.
func (e *Encoder) EndDir() error {
	if err := e.usable(); err != nil {
		return err
	}
	if len(e.stack) == 1 {
		return refuse("end of a directory, but none is open")
	}
	d := e.pop()
	if err := e.writeTable(&d); err != nil {
		return err
	}
	e.add(d.name, d.namePos, 0)
	return nil
}

func (e *Encoder) pop() openDir {
	d := *e.top()
	*e.top() = openDir{}
	e.stack = e.stack[:len(e.stack)-1]
	return d
}

// writeTable writes the goodbye table of d.
func (e *Encoder) writeTable(d *openDir) error {
	goodbye := e.meta.pos
	slots := make([]slot, len(d.children))
	for i, c := range d.children {
		slots[i] = slot{c.hash, uint64(goodbye - c.pos), uint64(c.size)}
	}
	content := int64(tableItemSize) * int64(len(slots)+1)
	e.buf = appendHeader(e.buf[:0], itemGoodbye, content)
	for _, s := range treeOrder(slots) {
		e.buf = appendNums(e.buf, s.hash, s.back, s.size)
	}
	e.buf = appendNums(e.buf, tailHash, uint64(goodbye-d.start), uint64(headerSize+content))
	return e.flushBuf()
}

// Close closes the root directory and completes the archive. All other
// directories must have been closed. It does not close the writers.
func (e *Encoder) Close() error {
	if err := e.usable(); err != nil {
		return err
	}
	if len(e.stack) != 1 {
		return refuse("%d directories are open", len(e.stack)-1)
	}
	if err := e.writeTable(e.top()); err != nil {
		return err
	}
	if e.err = e.meta.w.Flush(); e.err == nil && e.payload != nil {
		if e.err = e.payload.write(appendHeader(nil, itemPayloadTail, 0)); e.err == nil {
			e.err = e.payload.w.Flush()
		}
	}
	if e.err != nil {
		return e.err
	}
	e.err = errClosed
	return nil
}

// AddSymlink adds a symbolic link.
func (e *Encoder) AddSymlink(name string, m *Metadata, target string) error {
	if err := m.check(TypeSymlink); err != nil {
		return err
	}
	if target == "" || len(target) > maxTarget || strings.IndexByte(target, 0) >= 0 {
		return refuse("symbolic link to %d bytes, want 1 to %d without NUL", len(target), maxTarget)
	}
	return e.addEntry(name, m, func(b []byte) []byte { return appendText(b, itemSymlink, target) })
}

// AddDevice adds a character or block device, as the mode says.
func (e *Encoder) AddDevice(name string, m *Metadata, dev Device) error {
	if err := m.check(TypeCharDevice, TypeBlockDevice); err != nil {
		return err
	}
	return e.addEntry(name, m, func(b []byte) []byte {
		return appendNums(appendHeader(b, itemDevice, 16), uint64(dev.Major), uint64(dev.Minor))
	})
}

// AddSpecial adds a fifo or a socket, as the mode says.
func (e *Encoder) AddSpecial(name string, m *Metadata) error {
	if err := m.check(TypeFIFO, TypeSocket); err != nil {
		return err
	}
	return e.addEntry(name, m, func(b []byte) []byte { return b })
}

// addEntry adds an entry that is ended by what terminal appends.
func (e *Encoder) addEntry(name string, m *Metadata, terminal func(b []byte) []byte) error {
	if err := e.start(name); err != nil {
		return err
	}
	namePos := e.meta.pos
	e.buf = terminal(appendEntry(e.buf, m))
	if err := e.flushBuf(); err != nil {
		return err
	}
	e.add(name, namePos, 0)
	return nil
}
