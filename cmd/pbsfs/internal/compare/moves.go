package compare

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// maxMoves bounds how many changes are held back to find what has moved.
const maxMoves = 200_000

// Moves turns the removal of a file here and its addition there into one change. It holds
// changes back until all are known, but no more than some: then it passes them on as they
// come, and TooMany is set.
type Moves struct {
	// A and B are the rights to read the old and the new side.
	A, B store.CanRead
	// Fn gets the changes, in order.
	Fn      func(Change) error
	TooMany bool

	held []Change
}

// Add takes a change.
func (m *Moves) Add(c Change) error {
	if m.TooMany {
		return m.Fn(c)
	}
	m.held = append(m.held, c)
	if len(m.held) <= maxMoves {
		return nil
	}
	m.TooMany = true
	return m.flush()
}

// Finish finds what has moved, and passes on what is held.
func (m *Moves) Finish(ctx context.Context) error {
	if !m.TooMany {
		if err := m.match(ctx); err != nil {
			return err
		}
	}
	return m.flush()
}

func (m *Moves) flush() error {
	held := m.held
	m.held = nil
	for _, c := range held {
		if c.Kind == 0 {
			continue // a removal that is part of a move
		}
		if err := m.Fn(c); err != nil {
			return err
		}
	}
	return nil
}

// traits are what a file keeps when it is moved.
type traits struct {
	typ   uint32
	size  int64
	mtime tree.Time
}

func traitsOf(n *tree.Node) traits {
	return traits{n.Type(), n.Attr().Size, n.Attr().Mtime}
}

// match finds pairs of a removed and an added file with the same traits and the same
// content. Of several candidates it takes one with the same name, else, if there is
// only one, that.
func (m *Moves) match(ctx context.Context) error {
	removed := make(map[traits][]int)
	for i, c := range m.held {
		if c.Kind == Removed && movable(c.Old) {
			removed[traitsOf(c.Old)] = append(removed[traitsOf(c.Old)], i)
		}
	}
	if len(removed) == 0 {
		return nil
	}
	for i, c := range m.held {
		if c.Kind != Added || !movable(c.New) {
			continue
		}
		t := traitsOf(c.New)
		from, err := m.origin(ctx, c, removed[t])
		if err != nil {
			return err
		}
		if from < 0 {
			continue
		}
		old := m.held[from]
		m.held[i] = Change{Kind: Moved, Path: c.Path, From: old.Path, Old: old.Old, New: c.New}
		m.held[from].Kind = 0
		removed[t] = slices.DeleteFunc(removed[t], func(k int) bool { return k == from })
	}
	return nil
}

// movable reports whether a node has enough of its own to be found again elsewhere.
func movable(n *tree.Node) bool {
	return !n.MadeUp() && n.Broken() == nil && n.Attr().Size > 0 && (n.Type() == unix.S_IFREG || n.Type() == unix.S_IFLNK)
}

// origin returns which of the removed files the added one was, -1 if none.
func (m *Moves) origin(ctx context.Context, c Change, removed []int) (int, error) {
	named := slices.DeleteFunc(slices.Clone(removed), func(i int) bool {
		return path.Base(m.held[i].Path) != path.Base(c.Path)
	})
	if len(named) == 0 && len(removed) == 1 {
		named = removed
	}
	slices.SortStableFunc(named, func(i, j int) int {
		return cmp.Compare(common(m.held[j].Path, c.Path), common(m.held[i].Path, c.Path))
	})
	for _, i := range named {
		old := m.held[i].Old
		if old.Type() == unix.S_IFLNK {
			if old.Target() == c.New.Target() {
				return i, nil
			}
			continue
		}
		same, err := SameContent(ctx, Side{m.A, old}, Side{m.B, c.New})
		var own *store.Error
		switch {
		case err != nil && !errors.As(err, &own):
			return -1, err
		case err == nil && same: // one that cannot be read has not moved as far as is known
			return i, nil
		}
	}
	return -1, nil
}

// common returns how many directories two paths have in common.
func common(a, b string) int {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return i
		}
	}
	return min(len(x), len(y))
}
