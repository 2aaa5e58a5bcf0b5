package catalog

import (
	"context"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const (
	maxDepth = 1024      // names in a path
	maxBlock = 256 << 20 // bytes of one directory
	maxHeld  = 512 << 20 // bytes of all directories on the way to an entry

	// maxKept is the largest buffer that waits for the next directory at
	// the same depth.
	maxKept = 1 << 20
	// checkEvery is how many entries may pass before a cancelled context
	// is noticed.
	checkEvery = 1024
)

// Walk calls fn for each entry below the archive, which is called by its
// stored name: "root.pxar.didx". r reads the stream that c was opened on.
// Directories come before what they hold, the entries of one directory in
// their stored order. path is the entry's path below the archive, its own name
// last; the slice is only valid during the call.
//
// An error of fn ends the walk and is returned as it is, as is the context's.
// An archive that the catalog does not list is an error about the catalog.
func (c *Catalog) Walk(ctx context.Context, r io.ReaderAt, archive string, fn func(path []string, e Entry) error) error {
	w := walk{ctx: ctx, r: r, fn: fn, budget: c.size - magicSize - pointerSize}
	start, err := w.find(archive, c.root, c.size-pointerSize)
	if err != nil {
		return err
	}
	return w.tree(start, c.root)
}

// walk is the state of one walk.
type walk struct {
	ctx context.Context
	r   io.ReaderAt
	fn  func(path []string, e Entry) error

	stack   []table  // the directories that are being read, outermost first
	path    []string // their names, without that of the archive
	held    int64    // bytes of their blocks
	budget  int64    // bytes of blocks that may still be read
	visited int      // entries
}

// find returns the start of the block of an archive's root directory. The
// first entry of that name counts.
func (w *walk) find(archive string, root, limit int64) (int64, error) {
	if err := w.push(root, limit); err != nil {
		return 0, err
	}
	defer w.pop()
	t := &w.stack[0]
	for {
		if err := w.tick(); err != nil {
			return 0, err
		}
		e, child, more, err := t.next()
		switch {
		case err != nil:
			return 0, err
		case !more:
			return 0, corrupt.New("catalog does not list archive %q", archive)
		case e.Name == archive && e.Kind != Dir:
			return 0, t.corrupt("archive %q is no directory", archive)
		case e.Name == archive:
			return child, nil
		}
	}
}

// tree visits all below the directory block at start.
func (w *walk) tree(start, limit int64) error {
	if err := w.push(start, limit); err != nil {
		return err
	}
	for len(w.stack) > 0 {
		t := &w.stack[len(w.stack)-1]
		e, child, more, err := t.next()
		switch {
		case err != nil:
			return err
		case !more:
			w.pop()
		case isName(e.Name):
			err = w.visit(e, child, t.start)
		default:
			err = w.tick()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// visit hands e to the caller and descends into it if it is a directory.
// parent is where its parent's block begins.
func (w *walk) visit(e Entry, child, parent int64) error {
	if err := w.tick(); err != nil {
		return err
	}
	// The path has one name for each directory on the stack but the first.
	w.path = append(w.path[:len(w.stack)-1], e.Name)
	if err := w.fn(w.path, e); err != nil {
		return err
	}
	if e.Kind != Dir {
		return nil
	}
	return w.push(child, parent)
}

// tick counts an entry and looks at the context now and then.
func (w *walk) tick() error {
	w.visited++
	if w.visited%checkEvery == 0 {
		return w.ctx.Err()
	}
	return nil
}

// push begins the directory whose block is at start and must end at limit.
func (w *walk) push(start, limit int64) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	depth := len(w.stack)
	if depth == maxDepth {
		return corrupt.At(start, "catalog: directories are nested more than %d deep", maxDepth)
	}
	if depth < cap(w.stack) {
		w.stack = w.stack[:depth+1] // with the buffer that pop left there
	} else {
		w.stack = append(w.stack, table{})
	}
	t := &w.stack[depth]
	if err := t.read(w.r, start, limit, min(maxBlock, maxHeld-w.held)); err != nil {
		return err
	}
	w.held += t.size
	w.budget -= t.size
	if w.budget < 0 {
		return corrupt.At(start, "catalog: directories overlap or are listed more than once")
	}
	return nil
}

// pop ends the innermost directory.
func (w *walk) pop() {
	t := &w.stack[len(w.stack)-1]
	w.held -= t.size
	if cap(t.block) > maxKept {
		t.block = nil
	}
	t.buf = nil
	w.stack = w.stack[:len(w.stack)-1]
}
