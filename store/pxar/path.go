package pxar

import (
	"errors"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Tables is where the tables of an archive come from: [Archive.ReadTable], or
// somebody who remembers them.
type Tables func(Dir) (*Table, error)

// PathOf returns the names that lead from the root to the child whose FILENAME
// header is at namePos, that child's own included. The root, 0, has none.
func (a *Archive) PathOf(r io.ReaderAt, namePos int64, tables Tables) ([]string, error) {
	var path []string
	if namePos == 0 {
		return path, nil
	}
	for d := a.root; ; {
		t, err := tables(d)
		if err != nil {
			return nil, err
		}
		c, err := t.childHolding(r, namePos)
		if err != nil {
			return nil, err
		}
		path = append(path, c.Name)
		if c.NamePos == namePos {
			return path, nil
		}
		if d, err = a.enter(r, c); err != nil {
			return nil, err
		}
		if d == (Dir{}) {
			return nil, corrupt.At(namePos, "no child of a directory")
		}
	}
}

// childHolding returns the child whose range holds pos.
func (t *Table) childHolding(r io.ReaderAt, pos int64) (Child, error) {
	i := t.holding(pos)
	if i < 0 {
		return Child{}, corrupt.At(pos, "no child of a directory")
	}
	return t.Child(r, i)
}

// enter returns the directory that c is, the zero Dir if it is something else.
func (a *Archive) enter(r io.ReaderAt, c Child) (Dir, error) {
	w := newWindow(r, c.bound, headerSize+statSize)
	defer w.release()
	return peekDir(w, c)
}

// peekDir is enter with a window of the caller's. It reads no more than the
// type.
func peekDir(w *window, c Child) (Dir, error) {
	var m Metadata
	h, err := w.header(c.body)
	if err != nil || h.typ == itemHardlink {
		return Dir{}, err
	}
	if _, err := m.readStat(w, c.body); err != nil || m.Type() != TypeDir {
		return Dir{}, err
	}
	return c.dir()
}

// find looks up a path; the zero Child and no error mean that it is not there.
func (a *Archive) find(r io.ReaderAt, path []string, tables Tables) (Child, error) {
	d := a.root
	var c Child
	for i, name := range path {
		t, err := tables(d)
		if err != nil {
			return Child{}, err
		}
		if c, err = t.Lookup(r, name); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return Child{}, err
		}
		if i == len(path)-1 {
			break
		}
		if d, err = a.enter(r, c); err != nil || d == (Dir{}) {
			return Child{}, err
		}
	}
	return c, nil
}
