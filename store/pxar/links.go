package pxar

import (
	"context"
	"errors"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// linkTarget returns the position of the FILENAME header that the HARDLINK item
// h, which belongs to the name at namePos, points to. The path that is stored
// with it is for people (reference "pxar", section 6).
func (a *Archive) linkTarget(w *window, namePos int64, h header) (int64, error) {
	if h.size < minHardlink || h.size > maxHardlink {
		return 0, corrupt.At(h.pos, "hard link of %d bytes", h.size)
	}
	b, err := w.bytes(h.content(), 8)
	if err != nil {
		return 0, err
	}
	back := le64(b)
	if back == 0 || namePos < a.root.entry+minEntry || back > uint64(namePos-a.root.entry-minEntry) {
		return 0, corrupt.At(h.pos, "hard link points %d bytes back from %d", back, namePos)
	}
	return namePos - int64(back), nil
}

// readLinked reads the file that the HARDLINK item h links to. It stands before
// the link and is no link itself.
func (a *Archive) readLinked(w *window, namePos int64, h header) (*Entry, error) {
	target, err := a.linkTarget(w, namePos, h)
	if err != nil {
		return nil, err
	}
	w.limit = namePos
	_, body, err := w.filename(target)
	if err != nil {
		return nil, err
	}
	e, err := a.parseEntry(w, body)
	if err != nil {
		return nil, err
	}
	if e.Type() != TypeRegular {
		return nil, corrupt.At(h.pos, "hard link to an entry with mode %#o", e.Mode)
	}
	e.NamePos, e.Link = target, true
	return e, nil
}

// TargetOf returns the position of the FILENAME header that c links to, and
// whether c is a hard link. The target is not looked at.
func (a *Archive) TargetOf(r io.ReaderAt, c Child) (namePos int64, ok bool, err error) {
	w := newWindow(r, c.bound, minHardlink)
	defer w.release()
	h, err := w.header(c.body)
	if err != nil || h.typ != itemHardlink {
		return 0, false, err
	}
	namePos, err = a.linkTarget(w, c.NamePos, h)
	return namePos, err == nil, err
}

// LinkTarget is [Archive.TargetOf] for the child with that path. A path that
// leads nowhere is not a hard link, and no error.
func (a *Archive) LinkTarget(r io.ReaderAt, path []string, tables Tables) (namePos int64, ok bool, err error) {
	c, err := a.find(r, path, tables)
	if err != nil || c == (Child{}) {
		return 0, false, err
	}
	return a.TargetOf(r, c)
}

// CountLinks returns how many hard links point to each file, by the position
// of its FILENAME header; the file's own name is not counted, and what is
// pointed to is not looked at. The metadata of a split archive is scanned from
// end to end; a unified archive is walked, which skips the content of files.
//
// With an error, the counts are those found so far, and may be too low. The
// walk goes on after wrong bytes, so that an error that matches [corrupt.Err]
// then means: everything but what is wrong.
func (a *Archive) CountLinks(ctx context.Context, r io.ReaderAt) (map[int64]int, error) {
	c := &linkCounter{ctx: ctx, a: a, links: make(map[int64]int)}
	if a.split {
		return c.links, c.scan(r)
	}
	return c.links, c.walk(r)
}

// linkCounter is one run of CountLinks.
type linkCounter struct {
	ctx   context.Context
	a     *Archive
	links map[int64]int
	steps int
	wrong error // the first wrong bytes
}

// step is called once an item.
func (c *linkCounter) step() error {
	if c.steps++; c.steps%1024 != 1 {
		return nil
	}
	return c.ctx.Err()
}

// count adds the hard link h, whose name is at namePos.
func (c *linkCounter) count(w *window, namePos int64, h header) error {
	target, err := c.a.linkTarget(w, namePos, h)
	if err != nil {
		return err
	}
	if _, known := c.links[target]; !known && len(c.links) == maxLinked {
		return corrupt.At(h.pos, "more than %d files with hard links", maxLinked)
	}
	c.links[target]++
	return nil
}

// scan reads the headers of all items in the order they are stored.
func (c *linkCounter) scan(r io.ReaderAt) error {
	w := newWindow(r, c.a.size, scanAhead)
	defer w.release()
	var last header
	for pos := c.a.root.entry; pos < c.a.size; {
		if err := c.step(); err != nil {
			return err
		}
		h, err := w.header(pos)
		if err != nil {
			return err
		}
		if h.typ == itemHardlink {
			if last.typ != itemFilename {
				return corrupt.At(pos, "hard link without a name")
			}
			if err := c.count(w, last.pos, h); err != nil {
				return err
			}
		}
		last, pos = h, h.end()
	}
	return nil
}

// walk reads all tables, and of each child the name and the header behind it.
// Directories wait in a list, not their tables: those are dropped one by one.
func (c *linkCounter) walk(r io.ReaderAt) error {
	for todo := []Dir{c.a.root}; len(todo) > 0; {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		t, err := c.a.ReadTable(r, d)
		if err == nil {
			todo, err = c.walkTable(r, t, todo)
		}
		if err := c.keep(err); err != nil {
			return err
		}
	}
	return c.wrong
}

// walkTable counts the children of t that are hard links and appends those
// that are directories to todo.
func (c *linkCounter) walkTable(r io.ReaderAt, t *Table, todo []Dir) ([]Dir, error) {
	w := newWindow(r, t.goodbye, childAhead)
	defer w.release()
	if err := c.keep(t.err); err != nil {
		return todo, err
	}
	for i := range t.items {
		if err := c.step(); err != nil {
			return todo, err
		}
		w.ahead = childAhead
		d, err := c.visit(w, t, i)
		if err := c.keep(err); err != nil {
			return todo, err
		}
		if d != (Dir{}) {
			todo = append(todo, d)
		}
	}
	return todo, nil
}

// visit counts the i-th child of t if it is a hard link, and returns the
// directory that it is.
func (c *linkCounter) visit(w *window, t *Table, i int) (Dir, error) {
	child, err := t.child(w, i)
	if err != nil {
		return Dir{}, err
	}
	w.limit = child.bound
	h, err := w.header(child.body)
	if err != nil {
		return Dir{}, err
	}
	if h.typ == itemHardlink {
		return Dir{}, c.count(w, child.NamePos, h)
	}
	return peekDir(w, child)
}

// keep remembers the first error about wrong bytes and passes on all others.
func (c *linkCounter) keep(err error) error {
	if err == nil || !errors.Is(err, corrupt.Err) {
		return err
	}
	if c.wrong == nil {
		c.wrong = err
	}
	return nil
}
