package find

import (
	"errors"
	"runtime"
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

// dir walks a directory. at are the names that lead to it from the archive's top; only
// are the names below it to which the search is limited.
func (w *inArchive) dir(at []string, dirs []alike, only []string) error {
	found, err := w.list(at, dirs, only)
	if err != nil {
		return err
	}
	below := strings.Join(append([]string{w.name}, at...), "/")
	for _, name := range found.sorted() {
		n := found.all[name]
		if len(only) <= 1 {
			if err := w.emit(below+"/"+name, n); err != nil {
				return err
			}
		}
		delete(found.all, name) // a large directory waits while those below it are walked
		if len(n.dirs) == 0 {
			continue
		}
		dirs, err := w.partition(n.dirs)
		if err != nil {
			return err
		}
		if err := w.dir(append(at[:len(at):len(at)], name), dirs, rest(only)); err != nil {
			return err
		}
	}
	return nil
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

// list reads a directory in all its states. Only as many as there are processors are in
// memory at a time, besides what they have in common.
func (w *inArchive) list(at []string, dirs []alike, only []string) (*names, error) {
	found := newNames(w.All)
	step := 2 * runtime.GOMAXPROCS(0)
	lists := make([][]store.Listed, step)
	for part := range slices.Chunk(dirs, step) {
		err := w.each(len(part), func(i int) (err error) {
			lists[i], err = w.read(at, &part[i])
			return err
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

// read reads one state of a directory.
func (w *inArchive) read(at []string, d *alike) ([]store.Listed, error) {
	var out []store.Listed
	collect := func(l store.Listed) error {
		out = append(out, l)
		return nil
	}
	_, err := w.use(d.snaps[0], func(r *store.Reader) error {
		err := d.sub.List(w.ctx, r, collect)
		if d.sub.Catalogued() && errors.Is(err, store.ErrCorrupt) {
			out = nil // no more of the catalog than of the archive
			if d.sub, err = d.sub.Stored(w.ctx, r, at); err == nil {
				err = d.sub.List(w.ctx, r, collect)
			}
		}
		return w.problem(d.snaps[0], w.below(at), err)
	})
	w.Seen(len(out))
	return out, err
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
		wanted := func() bool { return w.Filter.named(strings.Join(append(at[:len(at):len(at)], l.Name), "/")) }
		if n := found.all[l.Name]; n == nil && l.Type != unix.S_IFDIR && (!w.Filter.typed(l.Type) || !wanted()) {
			continue
		}
		n := found.get(l.Name, wanted)
		if l.Type == unix.S_IFDIR {
			n.dirs = append(n.dirs, alike{l.Below, d.snaps})
		}
		if !n.wanted || !w.Filter.typed(l.Type) {
			continue
		}
		if err := w.version(found, n, at, d, l); err != nil {
			return err
		}
	}
	return nil
}

// version adds one state of a name. What a hard link leads to, a catalog does not say,
// and it may be another file in each snapshot.
func (w *inArchive) version(found *names, n *named, at []string, d *alike, l *store.Listed) error {
	if !l.Link {
		if s := w.state(l); w.Filter.has(s) {
			found.add(n, s, d.snaps)
		}
		return nil
	}
	for k, i := range d.snaps {
		var target store.Listed
		there, err := w.use(i, func(r *store.Reader) (err error) {
			target, err = w.roots[i].Resolve(w.ctx, r, at, l.Name)
			return err
		})
		if err != nil {
			if err := w.problem(i, w.below(at)+"/"+l.Name, err); err != nil {
				return err
			}
			continue
		}
		if s := w.state(&target); there && w.Filter.has(s) {
			found.add(n, s, d.snaps[k:k+1])
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

// markLimit is the largest directory, in bytes of metadata with everything below it, whose
// bytes are compared as a whole. What is larger is entered, and its parts are compared.
const markLimit = 1 << 20

// partition makes one of those directories that are the same. It first looks only in
// which chunks they lie, then at their bytes.
func (w *inArchive) partition(dirs []alike) ([]alike, error) {
	if len(dirs) <= 1 {
		return dirs, nil
	}
	dirs, err := w.join(dirs, func(i int, r *store.Reader) (store.Mark, bool, error) {
		return w.marker.Pieces(w.ctx, r, dirs[i].sub)
	})
	if err != nil || len(dirs) <= 1 {
		return dirs, err
	}
	return w.join(dirs, func(i int, r *store.Reader) (store.Mark, bool, error) {
		if n := dirs[i].sub.Size(); n == 0 || n > markLimit {
			return store.Mark{}, false, nil
		}
		return w.marker.Bytes(w.ctx, r, dirs[i].sub)
	})
}

// join makes one of those directories that have the same mark.
func (w *inArchive) join(dirs []alike, mark func(i int, r *store.Reader) (store.Mark, bool, error)) ([]alike, error) {
	marks, known := make([]store.Mark, len(dirs)), make([]bool, len(dirs))
	err := w.each(len(dirs), func(i int) error {
		_, err := w.use(dirs[i].snaps[0], func(r *store.Reader) (err error) {
			marks[i], known[i], err = mark(i, r)
			return err
		})
		if stored(err) { // who reads the directory finds what is wrong
			known[i], err = false, nil
		}
		return err
	})
	return join(dirs, func(i int) (store.Mark, bool) { return marks[i], known[i] }), err
}
