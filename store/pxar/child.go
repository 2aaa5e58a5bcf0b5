package pxar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Child is a name in a directory, and where what it names is.
type Child struct {
	Name string
	// NamePos is the position of the FILENAME header. It identifies the child
	// in its archive, and children are delivered in its order.
	NamePos int64

	body  int64 // what follows the name
	bound int64 // where the next child or the table begins
	end   int64 // as the table claims, -1 if nowhere
	depth uint32
	path  uint32
}

// Child returns the i-th child in archive order. An error that matches
// [corrupt.Err] concerns this child only: its name cannot be a file's, is not
// the one the table means, or is that of an earlier child.
func (t *Table) Child(r io.ReaderAt, i int) (Child, error) {
	if i < 0 || i >= len(t.items) {
		return Child{}, fmt.Errorf("child %d of %d", i, len(t.items))
	}
	w := newWindow(r, t.goodbye, nameAhead)
	defer w.release()
	return t.child(w, i)
}

// child is Child with a window of the caller's, which is left so that what
// follows the name can be read from it.
func (t *Table) child(w *window, i int) (Child, error) {
	name, body, err := t.name(w, i)
	if err != nil {
		return Child{}, err
	}
	c := t.at(i, string(name), body)
	if t.items[i].same {
		if err := t.checkFirst(w, i, c.Name); err != nil {
			return Child{}, err
		}
	}
	return c, nil
}

// at returns the i-th child, whose name has been read.
func (t *Table) at(i int, name string, body int64) Child {
	return Child{
		Name: name, NamePos: t.items[i].pos,
		body: body, bound: t.bound(i), end: t.items[i].end,
		depth: t.dir.depth + 1, path: t.dir.path + uint32(len(name)) + 1,
	}
}

// bound returns where the range of the i-th child ends at the latest.
func (t *Table) bound(i int) int64 {
	if i+1 < len(t.items) {
		return t.items[i+1].pos
	}
	return t.goodbye
}

// name reads the name of the i-th child, valid until w is used again, and the
// position of what follows. A name with another hash than the table's could be
// listed but not looked up.
func (t *Table) name(w *window, i int) (name []byte, body int64, err error) {
	it := &t.items[i]
	w.limit = t.bound(i)
	if name, body, err = w.filename(it.pos); err != nil {
		return nil, 0, err
	}
	if hashName(name) != it.hash {
		return nil, 0, corrupt.At(it.pos, "hash of name %q is not the goodbye table's", name)
	}
	return name, body, nil
}

// checkFirst returns an error unless i is the first child with that name, which
// is so far only known to share its hash.
func (t *Table) checkFirst(w *window, i int, name string) error {
	pos := t.items[i].pos
	for _, k := range t.sameHash(t.items[i].hash) {
		if int(k) == i {
			return nil
		}
		switch other, _, err := t.name(w, int(k)); {
		case err == nil && string(other) == name:
			return corrupt.At(pos, "second child with the name %q", name)
		case err != nil && !errors.Is(err, corrupt.Err):
			return err
		}
	}
	return corrupt.At(pos, "more than %d children with one hash", maxSameHash)
}

// Lookup returns the child with that name, or [fs.ErrNotExist]. In a table
// that is not sound, a name that is not found may still be meant by what is
// wrong there, and the error is [Table.Err].
func (t *Table) Lookup(r io.ReaderAt, name string) (Child, error) {
	if !isName(name) {
		return Child{}, fs.ErrNotExist
	}
	w := newWindow(r, t.goodbye, nameAhead)
	defer w.release()
	missing := t.err
	for _, k := range t.sameHash(hashName([]byte(name))) {
		i := int(k)
		found, body, err := t.name(w, i)
		switch {
		case err == nil && string(found) == name:
			return t.at(i, name, body), nil
		case err == nil:
		case !errors.Is(err, corrupt.Err):
			return Child{}, err
		case missing == nil:
			missing = err
		}
	}
	if missing != nil {
		return Child{}, missing
	}
	return Child{}, fs.ErrNotExist
}

// Only returns the index of the only child that can have that name, by its hash;
// false where there is none, or several. No child is read.
func (t *Table) Only(name string) (i int, ok bool) {
	if !isName(name) {
		return 0, false
	}
	same := t.sameHash(hashName([]byte(name)))
	if len(same) != 1 {
		return 0, false
	}
	return int(same[0]), true
}
