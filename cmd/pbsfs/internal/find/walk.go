package find

import (
	"context"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
)

// inArchive walks the archives that have one name.
type inArchive struct {
	*group
	name  string
	roots map[int32]store.Subtree // of each snapshot that has it
}

// batchLimit bounds how many bytes of metadata the directories have, in each snapshot,
// that are read before they are walked.
const batchLimit = 64 << 20

// dir walks a directory. at are the names that lead to it from the archive's top; only
// are the names below it to which the search is limited. A directory that is not too
// large is read in one snapshot after the other, each from its beginning to its end, so
// that no chunk is decoded twice.
func (w *inArchive) dir(at []string, dirs []alike, only []string) error {
	if len(only) == 0 && sizeOf(dirs) <= w.limit {
		if err := w.digest([]batched{{at, dirs}}); err != nil {
			return err
		}
		return w.nodes(at, byNode(dirs))
	}
	found, err := w.list(at, dirs, only)
	if err != nil {
		return err
	}
	names := found.sorted()
	for len(names) > 0 {
		n := found.batch(names, w.limit)
		var batch []batched
		for _, name := range names[:n] {
			if dirs := found.all[name].dirs; n > 1 && len(only) <= 1 && len(dirs) > 0 {
				batch = append(batch, batched{append(at[:len(at):len(at)], name), dirs})
			}
		}
		if err := w.digest(batch); err != nil {
			return err
		}
		for _, name := range names[:n] {
			if err := w.called(at, name, found.all[name], only); err != nil {
				return err
			}
			delete(found.all, name) // a large directory waits while those below it are walked
		}
		names = names[n:]
	}
	return nil
}

// called walks what has a name in the directory at a path.
func (w *inArchive) called(at []string, name string, n *named, only []string) error {
	if len(only) <= 1 {
		if err := w.emit(w.below(at)+"/"+name, n); err != nil {
			return err
		}
	}
	below := append(at[:len(at):len(at)], name)
	switch {
	case len(n.dirs) == 0:
		return nil
	case n.dirs[0].node != nil:
		return w.nodes(below, byNode(n.dirs))
	}
	dirs, err := w.partition(n.dirs)
	if err != nil {
		return err
	}
	return w.dir(below, dirs, rest(only))
}

// sizeOf returns how large the largest of several states of a directory is.
func sizeOf(dirs []alike) (size int64) {
	for _, d := range dirs {
		n, _ := d.sub.Size()
		size = max(size, n)
	}
	return size
}

// batch returns how many of the names, at least one, are read together.
func (m *names) batch(names []string, limit int64) int {
	size := int64(0)
	for i, name := range names {
		if size += sizeOf(m.all[name].dirs); size > limit {
			return max(1, i)
		}
	}
	return len(names)
}

// batched is a directory of a batch.
type batched struct {
	at   []string
	dirs []alike
}

// digest reads directories, and sets their nodes.
func (w *inArchive) digest(batch []batched) error {
	type job struct {
		at []string
		d  *alike
	}
	jobs := make(map[int32][]job) // by snapshot
	for _, b := range batch {
		for i := range b.dirs {
			d := &b.dirs[i]
			jobs[d.snaps[0]] = append(jobs[d.snaps[0]], job{b.at, d})
		}
	}
	read, order := newDigests(w), slices.Sorted(maps.Keys(jobs))
	one := func(k int) error {
		for _, j := range jobs[order[k]] {
			if err := w.reading(j.at, j.d, func(r *store.Reader) (err error) {
				j.d.node, err = read.node(r, j.d.snaps[0], j.d.sub, j.at)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(order) == 0 {
		return nil
	}
	// What the first one has, the others need not read.
	if err := one(0); err != nil {
		return err
	}
	return w.each(len(order)-1, func(k int) error { return one(k + 1) })
}

// reading calls fn with the right to read a directory. If its snapshot has been removed,
// it is read from the next one that has the same; without one, fn is not called.
func (w *inArchive) reading(at []string, d *alike, fn func(*store.Reader) error) error {
	for {
		there, err := w.use(d.snaps[0], fn)
		if there || err != nil || len(d.snaps) == 1 {
			return err
		}
		d.snaps = d.snaps[1:]
		if there, err = w.use(d.snaps[0], func(r *store.Reader) (err error) {
			d.sub, err = w.roots[d.snaps[0]].Enter(w.ctx, r, at)
			return err
		}); there && err != nil {
			return w.problem(d.snaps[0], w.below(at), err)
		}
	}
}

// byNode makes one of those directories that are the same. Those whose snapshot was
// removed before they were read are left out.
func byNode(dirs []alike) []alike {
	dirs = slices.DeleteFunc(dirs, func(d alike) bool { return d.node == nil })
	return join(dirs, func(i int) (*node, bool) { return dirs[i].node, true })
}

// nodes walks a directory whose states have been read.
func (w *inArchive) nodes(at []string, dirs []alike) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	found := newNames(w.All)
	for _, d := range dirs {
		for k := range d.node.entries {
			e := &d.node.entries[k]
			n := found.get(e.name, func() bool { return w.wanted(at, e.name) })
			if e.dir != nil {
				n.dirs = append(n.dirs, alike{node: e.dir, snaps: d.snaps})
				if !w.Filter.typed(unix.S_IFDIR) || !w.Filter.has(e.state) {
					continue
				}
			}
			if !n.wanted {
				continue
			}
			if err := w.version(found, n, at, d.snaps, e); err != nil {
				return err
			}
		}
	}
	for _, name := range found.sorted() {
		n := found.all[name]
		delete(found.all, name)
		if err := w.called(at, name, n, nil); err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether the filter wants a path.
func (w *inArchive) wanted(at []string, name string) bool {
	return w.Filter.named(strings.Join(append(at[:len(at):len(at)], name), "/"))
}

func rest(only []string) []string { return only[min(1, len(only)):] }

// emit passes on the versions of a name.
func (g *group) emit(below string, n *named) error {
	n.newestFirst()
	for _, v := range n.versions {
		f := Found{
			Path: g.snaps[v.last].String() + "/" + below, Below: below, State: v.state,
			Count: v.count, First: g.snaps[v.first], Last: g.snaps[v.last],
		}
		if v.state.content != (State{}.content) {
			f.State.Mtime = f.Last.Time().Unix()
		}
		slices.Sort(v.snaps)
		for _, i := range v.snaps {
			f.Snapshots = append(f.Snapshots, g.snaps[i])
		}
		if err := g.Fn(f); err != nil {
			return err
		}
	}
	return nil
}

// list reads a directory in all its states. Only as many as are read at a time are in
// memory, besides what they have in common.
func (w *inArchive) list(at []string, dirs []alike, only []string) (*names, error) {
	found := newNames(w.All)
	step := workers()
	lists := make([][]store.Listed, step)
	for part := range slices.Chunk(dirs, step) {
		err := w.each(len(part), func(i int) error {
			return w.reading(at, &part[i], func(r *store.Reader) (err error) {
				sound := true
				lists[i], err = w.read(r, part[i].snaps[0], &part[i].sub, at, &sound)
				return err
			})
		})
		if err != nil {
			return nil, err
		}
		for i := range part {
			if err := w.merge(found, at, &part[i], lists[i], only); err != nil {
				return nil, err
			}
			lists[i] = nil
		}
	}
	return found, nil
}

// below returns the path of a directory below its snapshot.
func (w *inArchive) below(at []string) string {
	return strings.Join(append([]string{w.name}, at...), "/")
}

// merge adds what one state of a directory has to what others have.
func (w *inArchive) merge(found *names, at []string, d *alike, list []store.Listed, only []string) error {
	for i := range list {
		l := &list[i]
		if len(only) > 0 && l.Name != only[0] {
			continue
		}
		if l.Err != nil {
			below := w.below(at)
			if l.Name != "" {
				below += "/" + l.Name
			}
			if err := w.problem(d.snaps[0], below, l.Err); err != nil {
				return err
			}
			continue
		}
		wanted := func() bool { return w.wanted(at, l.Name) }
		if n := found.all[l.Name]; n == nil && l.Type != unix.S_IFDIR && (!w.Filter.typed(l.Type) || !wanted()) {
			continue
		}
		n := found.get(l.Name, wanted)
		if l.Type == unix.S_IFDIR {
			n.dirs = append(n.dirs, alike{sub: *l.Below, snaps: d.snaps})
		}
		if !n.wanted || !w.Filter.typed(l.Type) {
			continue
		}
		if err := w.version(found, n, at, d.snaps, &entry{name: l.Name, state: w.state(l), link: l.Link}); err != nil {
			return err
		}
	}
	return nil
}

// version adds one state of a name. What a hard link leads to, a catalog does not say,
// and it may be another file in each snapshot.
func (w *inArchive) version(found *names, n *named, at []string, snaps []int32, e *entry) error {
	if !e.link {
		if w.Filter.has(e.state) {
			found.add(n, e.state, snaps)
		}
		return nil
	}
	for k, i := range snaps {
		var target store.Listed
		there, err := w.use(i, func(r *store.Reader) (err error) {
			target, err = w.roots[i].Resolve(w.ctx, r, at, e.name)
			return err
		})
		if err != nil {
			if err := w.problem(i, w.below(at)+"/"+e.name, err); err != nil {
				return err
			}
			continue
		}
		if s := w.state(&target); there && w.Filter.has(s) {
			found.add(n, s, snaps[k:k+1])
		}
	}
	return nil
}

// state returns the state of an entry.
func (w *inArchive) state(l *store.Listed) State {
	s := State{Type: l.Type, Size: l.Size, Mtime: l.Mtime}
	if w.Filter.Owned {
		s.Known, s.Mode, s.UID, s.GID = true, l.Mode&^unix.S_IFMT, l.UID, l.GID
	}
	return s
}

// partition makes one of those directories that lie in the same chunks.
func (w *inArchive) partition(dirs []alike) ([]alike, error) {
	if len(dirs) <= 1 {
		return dirs, nil
	}
	marks, known := make([]store.Mark, len(dirs)), make([]bool, len(dirs))
	err := w.each(len(dirs), func(i int) error {
		_, err := w.use(dirs[i].snaps[0], func(r *store.Reader) (err error) {
			marks[i], known[i], err = w.marker.Pieces(w.ctx, r, dirs[i].sub)
			return err
		})
		if stored(err) { // who reads the directory finds what is wrong
			known[i], err = false, nil
		}
		return err
	})
	return join(dirs, func(i int) (store.Mark, bool) { return marks[i], known[i] }), err
}
