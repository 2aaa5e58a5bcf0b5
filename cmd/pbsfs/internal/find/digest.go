package find

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
)

// node is what the search needs of a directory and all below it: its directories, and
// those of its other entries whose name and type the filter wants. Nodes with the same
// content are one, whatever they are called and in whichever snapshots they are.
type node struct {
	number  uint64
	entries []entry // by name
}

// entry is an entry of a node.
type entry struct {
	name  string
	state State
	// link says that the state is only known from the archive: [store.Listed.Link].
	link bool
	dir  *node // of a directory
}

// digests turns subtrees into nodes. Each is read once, and what is known to be the same as
// one before is not read.
type digests struct {
	w *inArchive

	mu    sync.Mutex // guards what follows; a leaf lock
	marks map[store.Mark]*node
	nodes map[store.Mark]*node // by their entries
	next  uint64
}

func newDigests(w *inArchive) *digests {
	return &digests{w: w, marks: make(map[store.Mark]*node), nodes: make(map[store.Mark]*node)}
}

// wholeLimit is the largest subtree, in bytes, of which a mark is made of its bytes before
// it is read. What is larger has parts that are the same more often than it is itself.
const wholeLimit = 256 << 10

// node returns the node of a subtree, which lies at a path in snapshot i.
func (d *digests) node(r *store.Reader, i int32, sub store.Subtree, at []string) (*node, error) {
	var marks []store.Mark
	m, ok, err := d.w.marker.Pieces(d.w.ctx, r, sub)
	if err != nil && !stored(err) {
		return nil, err
	}
	if ok && err == nil {
		if n := d.known(m); n != nil {
			return n, nil
		}
		marks = append(marks, m)
	}
	if size, marked := sub.Size(); marked && size <= wholeLimit {
		if m, ok, err = d.w.marker.Bytes(d.w.ctx, r, sub); err != nil {
			return nil, err
		}
		if ok {
			if n := d.known(m); n != nil {
				d.remember(n, marks)
				return n, nil
			}
			marks = append(marks, m)
		}
	}
	n, sound, err := d.read(r, i, sub, at)
	if err == nil && sound {
		d.remember(n, marks)
	}
	return n, err
}

func (d *digests) known(m store.Mark) *node {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.marks[m]
}

func (d *digests) remember(n *node, marks []store.Mark) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range marks {
		d.marks[m] = n
	}
}

// read makes a node of what a directory lists. It is not sound if it does not come from
// where its marks do, or if something could not be read.
func (d *digests) read(r *store.Reader, i int32, sub store.Subtree, at []string) (n *node, sound bool, err error) {
	sound = true
	list, err := d.w.read(r, i, &sub, at, &sound)
	if err != nil {
		return nil, false, err
	}
	var entries []entry
	for k := range list {
		l := &list[k]
		e := entry{name: l.Name, state: d.w.state(l), link: l.Link}
		switch {
		case l.Err != nil:
			sound = false
			err = d.w.problem(i, strings.TrimSuffix(d.w.below(at)+"/"+l.Name, "/"), l.Err)
		case l.Type == unix.S_IFDIR:
			if e.dir, err = d.node(r, i, *l.Below, append(at[:len(at):len(at)], l.Name)); err == nil {
				entries = append(entries, e)
			}
		case d.w.Filter.base(l.Name) && d.w.Filter.typed(l.Type) && (l.Link || d.w.Filter.has(e.state)):
			e.name = strings.Clone(l.Name)
			entries = append(entries, e)
		}
		if err != nil {
			return nil, false, err
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.name == b.name }) // a catalog may have two
	return d.intern(entries), sound, nil
}

// intern returns the node with these entries.
func (d *digests) intern(entries []entry) *node {
	m := d.w.marker.Values(func(add func([]uint64, string)) {
		var numbers [7]uint64
		for k := range entries {
			e := &entries[k]
			below := uint64(0)
			if e.dir != nil {
				below = e.dir.number
			}
			s := &e.state
			add(append(numbers[:0], below, uint64(s.Size), uint64(s.Mtime), uint64(s.Type), uint64(s.Mode), uint64(s.UID)<<32|uint64(s.GID), flag(e.link)), e.name)
		}
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.nodes[m]; n != nil {
		return n
	}
	d.next++
	n := &node{d.next, entries}
	d.nodes[m] = n
	return n
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// read lists a directory. One that the catalog has wrong is replaced by that of the
// archive.
func (w *inArchive) read(r *store.Reader, i int32, sub *store.Subtree, at []string, sound *bool) ([]store.Listed, error) {
	var out []store.Listed
	collect := func(l store.Listed) error {
		out = append(out, l)
		return nil
	}
	err := sub.List(w.ctx, r, collect)
	if sub.Catalogued() && errors.Is(err, store.ErrCorrupt) {
		*sound = false
		out = nil // no more of the catalog than of the archive
		if *sub, err = sub.Stored(w.ctx, r, at); err == nil {
			err = sub.List(w.ctx, r, collect)
		}
	}
	if err != nil {
		*sound = false
	}
	w.Seen(len(out))
	return out, w.problem(i, w.below(at), err)
}
