package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/pattern"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// maxDepth is how many levels of directories are restored.
const maxDepth = 1024

// walker walks over what is to be restored, in the order in which it is stored.
type walker struct {
	*run
}

// place is where the walker is.
type place struct {
	d      *dir
	rel    string // the path from the top, for the patterns
	choice pattern.Choice
	depth  int
}

// walk walks over all sources.
func (w *walker) walk(sources []Source) error {
	for _, s := range sources {
		at := place{d: w.top, choice: w.o.Patterns.Top(), depth: 1}
		var err error
		if s.Name == "" {
			err = w.children(s.Node, at)
		} else {
			err = w.source(s, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// source restores one source under its name. No pattern is about the source itself, unless
// it is a file.
func (w *walker) source(s Source, at place) error {
	if err := checkName(s.Name); err != nil {
		return err
	}
	if s.Node.IsDir() {
		return w.directory(s.Node, s.Name, at, "")
	}
	return w.object(s.Node, s.Name, at, s.Name)
}

// object restores n under a name in the directory at which the walker is.
func (w *walker) object(n *tree.Node, called string, at place, rel string) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	at.choice = w.o.Patterns.Of(rel, n.IsDir(), at.choice)
	if !at.choice.Chosen && (!n.IsDir() || !w.o.Patterns.LooksBelow(at.choice)) {
		w.tally.leftOut.Add(1)
		return nil
	}
	if n.IsDir() {
		return w.directory(n, called, at, rel)
	}
	if !w.ready(at.d) {
		return nil
	}
	at.d.left.Add(1)
	j := job{d: at.d, name: called, node: n}
	if n.Type() == unix.S_IFREG && n.Attr().Nlink > 1 {
		j.link, j.first = w.links.of(n)
	}
	select {
	case w.jobs <- j:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// directory restores a directory and what is below it.
func (w *walker) directory(n *tree.Node, called string, at place, rel string) error {
	err := n.Broken()
	if err == nil {
		err = w.hold(n)
	}
	if err != nil {
		w.failed(at.d.at(called), err)
		return nil
	}
	d := &dir{up: at.d, name: called, node: n, fd: -1}
	d.left.Store(1)
	if at.choice.Chosen && !w.ready(d) {
		return nil
	}
	if at.depth >= maxDepth {
		w.failed(d.path(), refuse("more than %d levels of directories", maxDepth))
	} else if err := w.children(n, place{d, rel, at.choice, at.depth + 1}); err != nil {
		return err
	}
	w.leave(d)
	return nil
}

// hold locks the snapshot of a node that was met on the way.
func (w *walker) hold(n *tree.Node) error {
	s, ok := n.Snapshot()
	if !ok || n.BackedUp() {
		return nil
	}
	err := w.right.Lock(w.ctx, s)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse("the snapshot was removed meanwhile")
	}
	return err
}

// children restores what is in a directory.
func (w *walker) children(n *tree.Node, at place) error {
	named := false
	err := tree.Visit(w.ctx, w.right, n, func(e tree.Entry) error {
		if isDiskDir(e) {
			return nil // the image has it all
		}
		if err := checkName(e.Name); err != nil {
			return err
		}
		child, err := e.Node, e.Err
		if child == nil && err == nil {
			child, err = n.Lookup(w.ctx, w.right, e.Name)
		}
		if err != nil {
			named = named || e.Err != nil
			w.failed(at.d.at(e.Name), err)
			return nil
		}
		rel := e.Name
		if at.rel != "" {
			rel = at.rel + "/" + e.Name
		}
		return w.object(child, e.Name, at, rel)
	})
	if err == nil || w.ctx.Err() != nil {
		return err
	}
	if errors.Is(err, tree.ErrIncomplete) && named {
		return nil // the entries were named
	}
	if stops(err) {
		return fmt.Errorf("%q: %w", at.d.path(), err)
	}
	w.tally.problem(at.d.path(), err)
	return nil
}

// isDiskDir reports whether an entry is the directory with what lies on a disk.
func isDiskDir(e tree.Entry) bool {
	return e.Type == unix.S_IFDIR && e.Stored != name.File{} && e.Stored.Format() == name.Fixed
}

// checkName refuses what is no name of an entry in a directory.
func checkName(called string) error {
	if called == "" || called == "." || called == ".." || strings.ContainsAny(called, "/\x00") {
		return fmt.Errorf("%q is no name: %w", called, store.ErrCorrupt)
	}
	return nil
}

// ready makes a directory, and those above it, if that was not done. It reports whether
// something can be restored in it.
func (w *walker) ready(d *dir) bool {
	if d.ready || d.broken != nil {
		return d.broken == nil
	}
	if d.up != nil && !w.ready(d.up) {
		d.broken = d.up.broken
		return false
	}
	if err := w.enter(d); err != nil {
		d.broken = err
		w.failed(d.path(), err)
		return false
	}
	d.ready = true
	d.up.left.Add(1)
	return true
}

// leave ends the walker's share in a directory.
func (r *run) leave(d *dir) {
	if d.ready {
		r.finished(d)
	}
}

// finished notes that an object in d is done, or the walk through d. With the last one, d
// gets its metadata, and that is one object less in the directory above.
func (r *run) finished(d *dir) {
	for ; d.left.Add(-1) == 0 && d.up != nil; d = d.up {
		if r.ctx.Err() == nil {
			r.failed(d.path(), r.finish(d))
		}
		r.dirs.drop(d)
	}
}
