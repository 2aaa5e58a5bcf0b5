package pxar

import (
	"io"
	"math"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Entry is one object of the archive: everything but the content.
type Entry struct {
	Metadata
	// NamePos is the position of the FILENAME header that identifies the
	// object: for a hard link its target's. It is 0 for the root directory,
	// which has no name; no name stands there.
	NamePos int64
	Link    bool    // reached through a hard link
	Dir     Dir     // of a directory
	Target  string  // of a symbolic link; any bytes but NUL
	Device  Device  // of a device
	Payload Payload // of a regular file
}

// Device is the number of a device.
type Device struct{ Major, Minor uint32 }

// ReadRoot reads the root directory's entry.
func (a *Archive) ReadRoot(r io.ReaderAt) (*Entry, error) {
	w := newWindow(r, a.size, entryAhead)
	defer w.release()
	e, err := a.parseEntry(w, a.root.entry)
	if err != nil {
		return nil, err
	}
	if e.Type() != TypeDir {
		return nil, corrupt.At(a.root.entry, "root has mode %#o, want a directory", e.Mode)
	}
	e.Dir = a.root
	return e, nil
}

// ReadEntry reads what c names. A hard link is followed to its file. The
// goodbye table of a directory is not looked at: [Archive.ReadTable] checks
// that it belongs there.
func (a *Archive) ReadEntry(r io.ReaderAt, c Child) (*Entry, error) {
	w := newWindow(r, c.bound, entryAhead)
	defer w.release()
	h, err := w.header(c.body)
	if err != nil {
		return nil, err
	}
	if h.typ == itemHardlink {
		return a.readLinked(w, c.NamePos, h)
	}
	// The ends that tables of split archives claim for files count content
	// that is elsewhere (reference "pxar", section 4).
	if !a.split {
		if err := c.checkEnd(); err != nil {
			return nil, err
		}
		w.limit = c.end
	}
	e, err := a.parseEntry(w, c.body)
	if err != nil {
		return nil, err
	}
	e.NamePos = c.NamePos
	if e.Type() == TypeDir {
		e.Dir, err = c.dir()
	}
	return e, err
}

// checkEnd checks the end that the table claims against the next child.
func (c Child) checkEnd() error {
	if c.end < c.body || c.end > c.bound {
		return corrupt.At(c.NamePos, "child ends at %d, want it between %d and %d", c.end, c.body, c.bound)
	}
	return nil
}

// dir returns the location of c, which is known to be a directory.
func (c Child) dir() (Dir, error) {
	if err := c.checkEnd(); err != nil {
		return Dir{}, err
	}
	if c.depth > maxDepth || c.path > maxPath {
		return Dir{}, corrupt.At(c.NamePos, "directory %d levels and %d bytes of path deep, want at most %d and %d", c.depth, c.path, maxDepth, maxPath)
	}
	return Dir{entry: c.body, end: c.end, depth: c.depth, path: c.path}, nil
}

// parseEntry reads an ENTRY at pos, its attributes, and the item that ends it.
func (a *Archive) parseEntry(w *window, pos int64) (*Entry, error) {
	e := new(Entry)
	next, err := e.readStat(w, pos)
	if err != nil {
		return nil, err
	}
	attrs := attrReader{m: &e.Metadata}
	for next != w.limit {
		h, err := w.header(next)
		if err != nil {
			return nil, err
		}
		more, err := attrs.read(w, h)
		if err != nil {
			return nil, err
		}
		if !more {
			return e, a.readTerminal(w, h, e)
		}
		next = h.end()
	}
	switch e.Type() {
	case TypeFIFO, TypeSocket:
		return e, nil
	}
	return nil, corrupt.At(pos, "entry with mode %#o has no content", e.Mode)
}

// readTerminal reads the item that ends the attributes, and with it the entry
// unless that is a directory. The type in mode must be the item's.
func (a *Archive) readTerminal(w *window, h header, e *Entry) (err error) {
	fits := false
	switch h.typ {
	case itemPayload, itemPayloadRef:
		if fits = e.Type() == TypeRegular; fits {
			e.Payload, err = a.readPayload(w, h)
		}
	case itemSymlink:
		if fits = e.Type() == TypeSymlink; fits {
			e.Target, err = readTarget(w, h)
		}
	case itemDevice:
		if fits = e.Type() == TypeCharDevice || e.Type() == TypeBlockDevice; fits {
			e.Device, err = readDevice(w, h)
		}
	case itemFilename, itemGoodbye:
		fits = e.Type() == TypeDir || e.Type() == TypeFIFO || e.Type() == TypeSocket
	default:
		return corrupt.At(h.pos, "item of type %#016x in an entry", h.typ)
	}
	if !fits {
		return corrupt.At(h.pos, "item of type %#016x ends an entry with mode %#o", h.typ, e.Mode)
	}
	return err
}

func readTarget(w *window, h header) (string, error) {
	b, err := w.text(h, maxTarget)
	return string(b), err
}

func readDevice(w *window, h header) (Device, error) {
	b, err := w.content(h, 16)
	if err != nil {
		return Device{}, err
	}
	major, minor := le64(b), le64(b[8:])
	if major > math.MaxUint32 || minor > math.MaxUint32 {
		return Device{}, corrupt.At(h.pos, "device number %d, %d", major, minor)
	}
	return Device{Major: uint32(major), Minor: uint32(minor)}, nil
}
