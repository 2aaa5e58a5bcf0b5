package pxar

import (
	"context"
	"errors"
	"io"
	"strings"
)

// Link is a file of the archive that hard links can be made to. The zero Link
// is none.
type Link struct {
	namePos int64
	path    string // for people, and for tools that unpack archives by it
}

// AddHardlink adds a further name of a file that was added before. A file whose
// path is too long for that is refused; it can be added as a file of its own.
func (e *Encoder) AddHardlink(name string, to Link) error {
	if err := e.usable(); err != nil {
		return err
	}
	switch {
	case to.namePos <= 0 || to.namePos >= e.meta.pos || to.path == "":
		return refuse("hard link to no file of the archive")
	case len(to.path) > maxTarget:
		return refuse("hard link to a path of %d bytes, want at most %d", len(to.path), maxTarget)
	}
	if err := e.start(name); err != nil {
		return err
	}
	namePos := e.meta.pos
	e.buf = appendNums(appendHeader(e.buf, itemHardlink, int64(8+len(to.path)+1)), uint64(namePos-to.namePos))
	e.buf = append(append(e.buf, to.path...), 0)
	if err := e.flushBuf(); err != nil {
		return err
	}
	e.add(name, namePos, 0)
	return nil
}

// path returns the path of a child from the root.
func (e *Encoder) path(name string) string {
	if len(e.stack) == 1 {
		return name
	}
	var b strings.Builder
	b.Grow(e.top().pathLen + len(name))
	for _, d := range e.stack[1:] {
		b.WriteString(d.name)
		b.WriteByte('/')
	}
	b.WriteString(name)
	return b.String()
}

// Stored says what became of a file's content.
type Stored struct {
	Link Link // for further names of the file
	// Missing is how many bytes at the end the source did not deliver; zeros
	// stand for them. Cause is the source's error, nil if it only ended.
	Missing int64
	Cause   error
	// Longer tells that the source had more than was announced. It was cut.
	Longer bool
}

// AddFile adds a regular file of exactly size bytes, which r delivers; r may be
// nil if there are none. The archive stays valid whatever r does, and Stored
// tells what is not as announced. Only an error of r that matches
// [context.Canceled] or [context.DeadlineExceeded] is a wish to stop: it is
// returned, and there will be no archive.
func (e *Encoder) AddFile(name string, m *Metadata, size int64, r io.Reader) (Stored, error) {
	if err := m.check(TypeRegular); err != nil {
		return Stored{}, err
	}
	if size < 0 || size > maxFile {
		return Stored{}, refuse("file of %d bytes", size)
	}
	if e.payload != nil {
		return e.addSplit(name, m, size, r)
	}
	if err := e.start(name); err != nil {
		return Stored{}, err
	}
	namePos := e.meta.pos
	e.buf = appendHeader(appendEntry(e.buf, m), itemPayload, size)
	if err := e.flushBuf(); err != nil {
		return Stored{}, err
	}
	stored, err := e.copy(e.meta, size, r)
	if err != nil {
		return Stored{}, err
	}
	e.add(name, namePos, 0)
	stored.Link = Link{namePos, e.path(name)}
	return stored, nil
}

// addSplit is AddFile for split archives.
func (e *Encoder) addSplit(name string, m *Metadata, size int64, r io.Reader) (Stored, error) {
	// As official clients do, the table counts the content, which is
	// elsewhere (reference "pxar", section 12).
	link, err := e.addRef(name, m, e.payload.pos, size, size)
	if err != nil {
		return Stored{}, err
	}
	if e.cuts != nil {
		e.cuts.Suggest(e.payload.pos)
	}
	if e.err = e.payload.write(appendHeader(nil, itemPayload, size)); e.err != nil {
		return Stored{}, e.err
	}
	stored, err := e.copy(e.payload, size, r)
	if err != nil {
		return Stored{}, err
	}
	stored.Link = link
	return stored, nil
}

// addRef adds a regular file whose content is at off of the payload stream.
func (e *Encoder) addRef(name string, m *Metadata, off, size, elsewhere int64) (Link, error) {
	if err := e.start(name); err != nil {
		return Link{}, err
	}
	namePos := e.meta.pos
	e.buf = appendNums(appendHeader(appendEntry(e.buf, m), itemPayloadRef, 16), uint64(off), uint64(size))
	if err := e.flushBuf(); err != nil {
		return Link{}, err
	}
	e.add(name, namePos, elsewhere)
	return Link{namePos, e.path(name)}, nil
}

// copy writes size bytes from r, or zeros for what it does not deliver.
func (e *Encoder) copy(s *sink, size int64, r io.Reader) (stored Stored, err error) {
	if e.data == nil {
		e.data = make([]byte, copySize)
	}
	left := size
	for left > 0 && r != nil {
		n, err := io.ReadFull(r, e.data[:min(left, copySize)])
		left -= int64(n)
		if e.err = s.write(e.data[:n]); e.err != nil {
			return Stored{}, e.err
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			e.err = err
			return Stored{}, err
		case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			stored.Cause = err
		}
		break
	}
	if left == 0 {
		stored.Longer = r != nil && hasMore(r, e.data)
		return stored, nil
	}
	stored.Missing = left
	return stored, e.pad(s, left)
}

// hasMore reports whether r has not come to its end.
func hasMore(r io.Reader, buf []byte) bool {
	n, _ := r.Read(buf[:1])
	return n > 0
}

// pad writes n zeros.
func (e *Encoder) pad(s *sink, n int64) error {
	clear(e.data)
	for n > 0 && e.err == nil {
		m := min(n, copySize)
		e.err = s.write(e.data[:m])
		n -= m
	}
	return e.err
}
