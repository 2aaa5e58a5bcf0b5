package btrfs

import (
	"fmt"
	"io"
)

// tree is where a tree begins.
type tree struct {
	id, block, generation uint64
	level                 uint8
}

// damage collects what is wrong: the first of it is told.
type damage struct {
	first error
	count int
	max   int // after so much a reader gives up
}

func (d *damage) add(err error) {
	if err == nil {
		return
	}
	if d.first == nil {
		d.first = err
	}
	d.count++
}

func (d *damage) tooMuch() bool { return d.count >= d.max }

func (d *damage) err() error {
	if d.count > 1 {
		return fmt.Errorf("%w (and %d more)", d.first, d.count-1)
	}
	return d.first
}

// frame is a tree block on the way down.
type frame struct {
	n     *node
	next  int // entry
	limit key // all keys are before it
}

func (fs *FS) topOf(r io.ReaderAt, t tree) (*node, error) {
	return fs.node(r, reference{t.id, t.block, t.generation, t.level, nil, lastKey})
}

// scan calls fn with the items from one key to another one, until it returns false. Parts of
// the tree that cannot be read are left out and told of in wrong. As children have all of their keys
// between those of their neighbours, no block is read twice, whatever a tree looks like.
func (fs *FS) scan(r io.ReaderAt, t tree, from, to key, wrong *damage, fn func(k key, p []byte) bool) {
	top, err := fs.topOf(r, t)
	if err != nil {
		wrong.add(err)
		return
	}
	stack := make([]frame, 0, maxLevel+1)
	push := func(n *node, limit key) {
		if n.level == 0 {
			stack = append(stack, frame{n, n.from(from), limit})
		} else {
			stack = append(stack, frame{n, max(0, n.floor(from)), limit})
		}
	}
	for push(top, lastKey); len(stack) > 0; {
		f := &stack[len(stack)-1]
		if f.next == f.n.count || f.n.key(f.next).compare(to) > 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		i, limit := f.next, f.limit
		f.next++
		if f.n.level == 0 {
			if !fn(f.n.key(i), f.n.item(i)) {
				return
			}
			continue
		}
		n, err := fs.child(r, t.id, f.n, i, limit)
		if err != nil {
			if wrong.add(err); wrong.tooMuch() {
				return
			}
			continue
		}
		if f.next < f.n.count {
			limit = f.n.key(f.next)
		}
		push(n, limit)
	}
}

// floor returns the last item that is not behind k; no key if there is none.
func (fs *FS) floor(r io.ReaderAt, t tree, k key) (key, []byte, error) {
	n, err := fs.topOf(r, t)
	if err != nil {
		return key{}, nil, err
	}
	for limit := lastKey; ; {
		i := n.floor(k)
		if i < 0 {
			return key{}, nil, nil
		}
		if n.level == 0 {
			return n.key(i), n.item(i), nil
		}
		parent := n
		if n, err = fs.child(r, t.id, parent, i, limit); err != nil {
			return key{}, nil, err
		}
		if i+1 < parent.count {
			limit = parent.key(i + 1)
		}
	}
}

// get returns the item with a key, nil if there is none.
func (fs *FS) get(r io.ReaderAt, t tree, k key) ([]byte, error) {
	found, p, err := fs.floor(r, t, k)
	if err != nil || found != k {
		return nil, err
	}
	return p, nil
}
