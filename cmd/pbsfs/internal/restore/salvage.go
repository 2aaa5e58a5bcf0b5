package restore

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// zeros notes which ranges of a file are zeros, because chunks are damaged.
func (t *tally) zeros(path string, lost []store.Range) {
	if len(lost) > 0 {
		t.zerosIn(path, tree.RangesText(lost, maxRanges))
	}
}

func (t *tally) zerosIn(path, ranges string) {
	t.note(Problem{cmp.Or(path, "."), Zeros, "bytes " + ranges})
}

const (
	// maxRanges bounds the text that says where zeros are, in bytes.
	maxRanges = 64 << 10
	// maxMark bounds it in the attribute: many file systems have 4 KiB for all of a file.
	maxMark = 3 << 10
)

// lostOf returns which ranges of a content that was read are zeros, because chunks are
// damaged.
func lostOf(f tree.File) []store.Range {
	if s, ok := f.(tree.Salvaged); ok {
		return s.Lost()
	}
	return nil
}

// mark gives the metadata of a file whose content was copied the attribute that says where
// zeros are, and returns what that says. A file that is there already is better than one
// with zeros.
func mark(m *metadata, f tree.File, there *unix.Stat_t) (lost []store.Range, err error) {
	lost = lostOf(f)
	switch {
	case len(lost) == 0:
		return nil, nil
	case there != nil:
		return nil, &damagedError{"bytes " + tree.RangesText(lost, maxRanges) + " are lost, and what is there is not replaced by a file with zeros"}
	}
	x := tree.Attribute{Name: tree.DamagedName, Value: []byte(tree.RangesText(lost, maxMark))}
	m.xattrs = append(slices.DeleteFunc(slices.Clone(m.xattrs), func(o tree.Attribute) bool { return o.Name == x.Name }), x)
	return lost, nil
}

// markedBefore names a file with zeros that an earlier run of this restore has written.
func (w *writer) markedBefore(o *object, j *job, m *metadata) {
	value, err := grown(func(b []byte) (int, error) { return unix.Fgetxattr(o.fd, tree.DamagedName, b) })
	if err != nil || slices.ContainsFunc(m.xattrs, func(o tree.Attribute) bool { return o.Name == tree.DamagedName && string(o.Value) == string(value) }) {
		return
	}
	m.xattrs = append(slices.Clone(m.xattrs), tree.Attribute{Name: tree.DamagedName, Value: value})
	w.tally.zerosIn(j.path(), string(value))
}

// damagedError says that a file was not restored because chunks are damaged.
type damagedError struct{ text string }

func (e *damagedError) Error() string        { return e.text }
func (e *damagedError) Is(target error) bool { return target == store.ErrCorrupt }
