package compare

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Kind is what happened to a path.
type Kind byte

// The kinds, as the letters that a line begins with.
const (
	Added   Kind = 'A'
	Removed Kind = 'D'
	Changed Kind = 'M'
	Moved   Kind = 'R'
)

// String returns the kind as a word.
func (k Kind) String() string {
	switch k {
	case Added:
		return "added"
	case Removed:
		return "removed"
	case Changed:
		return "changed"
	case Moved:
		return "moved"
	}
	return "unknown"
}

// Change is a difference between two trees.
type Change struct {
	Kind Kind
	// Path is relative to what was compared, "" for itself. From is the old path of what
	// was moved.
	Path, From string
	// Old and New are the nodes, nil on the side that has none.
	Old, New *tree.Node
	// What are the aspects of a Changed path. An image has Ranges as well.
	What   []Detail
	Ranges *Ranges
}

// Options say how trees are compared.
type Options struct {
	// Ignore are the aspects that do not count.
	Ignore map[string]bool
	// DirTimes makes the times of directories count, which change with each entry.
	DirTimes bool
	// Problem is told what cannot be compared.
	Problem func(path string, err error)
	// Seen is told of each entry that is looked at.
	Seen func()
}

// Trees calls fn for each difference between a and b, and all below them, in the order of
// names: a directory comes before what it holds. A side without a node is one where there
// is nothing. An error of fn is returned as it is.
func Trees(ctx context.Context, a, b Side, o Options, fn func(Change) error) error {
	w := walk{ctx: ctx, a: a.Right, b: b.Right, Options: o, fn: fn}
	return w.pair("", a.Node, b.Node)
}

// walk is one run of Trees.
type walk struct {
	Options
	ctx  context.Context
	a, b store.CanRead
	fn   func(Change) error
}

// problem tells of an error, unless it says nothing about what is stored.
func (w *walk) problem(path string, err error) error {
	var own *store.Error
	if !errors.As(err, &own) && !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	w.Problem(path, err)
	return nil
}

func (w *walk) pair(path string, old, is *tree.Node) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	w.Seen()
	switch {
	case old == nil:
		return w.one(path, Added, w.b, is)
	case is == nil:
		return w.one(path, Removed, w.a, old)
	}
	for _, n := range []*tree.Node{old, is} {
		if err := n.Broken(); err != nil {
			return w.problem(path, err)
		}
	}
	if err := w.changed(path, old, is); err != nil {
		return err
	}
	switch {
	case old.IsDir() && is.IsDir():
		return w.dirs(path, old, is)
	case old.IsDir():
		return w.below(path, Removed, w.a, old)
	case is.IsDir():
		return w.below(path, Added, w.b, is)
	}
	return nil
}

// changed tells in what two nodes differ.
func (w *walk) changed(path string, old, is *tree.Node) error {
	a, b := Side{w.a, old}, Side{w.b, is}
	c := Change{Kind: Changed, Path: path, Old: old, New: is}
	what, err := Metadata(w.ctx, a, b)
	if err != nil {
		if err := w.problem(path, err); err != nil {
			return err
		}
	}
	if old.Type() == unix.S_IFREG && is.Type() == unix.S_IFREG && !w.Ignore[Content] {
		differs, err := w.content(a, b, &c)
		if err != nil {
			if err := w.problem(path, err); err != nil {
				return err
			}
		}
		if differs {
			what = append([]Detail{{What: Content}}, what...)
		}
	}
	c.What = slices.DeleteFunc(what, func(d Detail) bool {
		return w.Ignore[d.What] || d.What == Mtime && old.IsDir() && is.IsDir() && !w.DirTimes
	})
	if len(c.What) == 0 {
		return nil
	}
	return w.fn(c)
}

// content compares two contents. Those of images are compared to the block.
func (w *walk) content(a, b Side, c *Change) (differs bool, err error) {
	p, err := a.Node.Pieces()
	if err != nil {
		return false, err
	}
	if p == nil || !a.Node.MadeUp() || !b.Node.MadeUp() {
		same, err := SameContent(w.ctx, a, b)
		return !same && err == nil, err
	}
	r, err := RangesOf(w.ctx, a, b)
	if err != nil {
		return false, err
	}
	c.Ranges = &r
	return len(r.Differ) > 0, r.Err
}

// one tells of what is on one side only, and of all below it.
func (w *walk) one(path string, k Kind, right store.CanRead, n *tree.Node) error {
	c := Change{Kind: k, Path: path, New: n}
	if k == Removed {
		c.Old, c.New = n, nil
	}
	if err := w.fn(c); err != nil {
		return err
	}
	if !n.IsDir() {
		return nil
	}
	return w.below(path, k, right, n)
}

func (w *walk) below(path string, k Kind, right store.CanRead, n *tree.Node) error {
	if err := n.Broken(); err != nil {
		return w.problem(path, err)
	}
	all, err := w.children(path, right, n)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(all.nodes)) {
		w.Seen()
		if err := w.one(join(path, name), k, right, all.nodes[name]); err != nil {
			return err
		}
	}
	return nil
}

// dirs compares what is in two directories, unless they are known to be the same.
func (w *walk) dirs(path string, old, is *tree.Node) error {
	alike, err := tree.Alike(w.ctx, w.a, old, w.b, is)
	if alike || err != nil {
		return err
	}
	a, err := w.children(path, w.a, old)
	if err != nil {
		return err
	}
	b, err := w.children(path, w.b, is)
	if err != nil {
		return err
	}
	names := maps.Clone(a.nodes)
	maps.Copy(names, b.nodes)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		p, q := a.nodes[name], b.nodes[name]
		if p == nil && a.mayHave(name) || q == nil && b.mayHave(name) {
			continue // it was told that it cannot be read
		}
		if err := w.pair(join(path, name), p, q); err != nil {
			return err
		}
	}
	return nil
}

// children are what a directory holds.
type children struct {
	nodes   map[string]*tree.Node
	damaged map[string]bool
	// unnamed says that something is there whose name is not known.
	unnamed bool
}

// mayHave reports whether a name that is not among the nodes may exist all the same.
func (c *children) mayHave(name string) bool { return c.unnamed || c.damaged[name] }

func (w *walk) children(path string, right store.CanRead, n *tree.Node) (*children, error) {
	c := &children{nodes: make(map[string]*tree.Node), damaged: make(map[string]bool)}
	l, err := n.List(w.ctx, right)
	if err != nil {
		c.unnamed = true
		return c, w.problem(path, err)
	}
	if l.Err() != nil {
		c.unnamed = true
		if err := w.problem(path, l.Err()); err != nil {
			return nil, err
		}
	}
	for i := range l.Len() {
		e, err := l.At(w.ctx, right, i)
		if err != nil {
			return nil, err
		}
		if err := w.child(path, right, n, e, c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// child adds an entry of a directory to its children.
func (w *walk) child(path string, right store.CanRead, n *tree.Node, e tree.Entry, c *children) error {
	if skipped(e) {
		return nil
	}
	child, err := e.Node, e.Err
	if child == nil && err == nil {
		child, err = n.Lookup(w.ctx, right, e.Name)
	}
	if err == nil {
		c.nodes[e.Name] = child
		return nil
	}
	if e.Name == "" {
		c.unnamed = true
	} else {
		c.damaged[e.Name] = true
		path = join(path, e.Name)
	}
	return w.problem(path, err)
}

// skipped reports whether an entry of a snapshot is left out: what lies on a disk is
// compared as the disk, and manifest, catalog and log only say what was stored and how.
func skipped(e tree.Entry) bool {
	switch e.Stored {
	case name.File{}:
		return false
	case name.Manifest, name.ClientLog, name.Catalog:
		return true
	}
	return e.Type == unix.S_IFDIR && e.Stored.Format() == name.Fixed
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return fmt.Sprintf("%s/%s", dir, name)
}
