package find

import (
	"crypto/sha256"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// item is an entry in the directory of a snapshot.
type item struct {
	name  string
	state State
	// archive says that sub is the tree of an archive; known that it could be opened.
	archive, known bool
	sub            store.Subtree
}

// top searches the snapshots of the group.
func (g *group) top(only []string) error {
	items := make([][]item, len(g.snaps))
	err := g.each(len(g.snaps), func(i int) error {
		_, err := g.use(int32(i), func(r *store.Reader) (err error) {
			items[i], err = g.items(r, int32(i), only)
			return g.problem(int32(i), "", err)
		})
		return err
	})
	if err != nil {
		return err
	}
	found, archives := newNames(g.All), make(map[string]*inArchive)
	for i := range items {
		for _, it := range items[i] {
			g.addItem(found, archives, int32(i), it)
		}
	}
	for _, called := range found.sorted() {
		n := found.all[called]
		if len(only) <= 1 {
			if err := g.emit(called, n); err != nil {
				return err
			}
		}
		if w := archives[called]; w != nil {
			dirs, err := w.partition(n.dirs)
			if err != nil {
				return err
			}
			if err := w.dir(nil, dirs, rest(only)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addItem adds an entry of one snapshot to those of the others.
func (g *group) addItem(found *names, archives map[string]*inArchive, i int32, it item) {
	n := found.get(it.name, func() bool { return g.Filter.named(it.name) })
	dated := it.state
	if it.state.content != (State{}.content) { // its time is the snapshot's
		dated.Mtime = g.snaps[i].Time().Unix()
	}
	if n.wanted && g.Filter.typed(it.state.Type) && g.Filter.has(dated) {
		found.add(n, it.state, []int32{i})
	}
	if !it.known {
		return
	}
	n.dirs = append(n.dirs, alike{sub: it.sub, snaps: []int32{i}})
	w := archives[it.name]
	if w == nil {
		w = &inArchive{group: g, name: it.name, roots: make(map[int32]store.Subtree)}
		archives[it.name] = w
	}
	w.roots[i] = it.sub
}

// items lists the directory of a snapshot, without what lies on disks.
func (g *group) items(r *store.Reader, i int32, only []string) ([]item, error) {
	s := g.snaps[i]
	n, err := g.Tree.Walk(g.ctx, r, s.String(), false)
	if err != nil {
		return nil, err
	}
	snap, err := store.LoadSnapshot(g.ctx, r, s)
	if err != nil {
		return nil, err
	}
	var out []item
	err = tree.Visit(g.ctx, r, n, func(e tree.Entry) error {
		onDisk := e.Type == unix.S_IFDIR && e.Stored.Format() == name.Fixed
		if onDisk || len(only) > 0 && e.Name != only[0] {
			return nil
		}
		if e.Type != unix.S_IFDIR && (!g.Filter.named(e.Name) || !g.Filter.typed(e.Type)) {
			return nil // nobody asks for its size
		}
		it, err := g.item(r, i, snap, n, e)
		if err == nil {
			out = append(out, it)
		}
		return err
	})
	g.Seen(len(out))
	return out, err
}

func (g *group) item(r *store.Reader, i int32, snap *store.Snapshot, dir *tree.Node, e tree.Entry) (item, error) {
	it := item{name: e.Name, state: State{Type: e.Type}, archive: e.Type == unix.S_IFDIR}
	line, _ := snap.Manifest().Lookup(e.Stored)
	if it.archive {
		return it, g.problem(i, e.Name, g.archive(r, snap, line, &it))
	}
	n, err := dir.Lookup(g.ctx, r, e.Name)
	if err != nil {
		return it, g.problem(i, e.Name, err)
	}
	it.state.Size = n.Attr().Size
	it.state.content = line.Csum
	if g.Filter.Owned {
		attr := n.Attr()
		it.state.Known, it.state.Mode, it.state.UID, it.state.GID = true, attr.Mode&^unix.S_IFMT, attr.UID, attr.GID
	}
	if e.Stored.Format() != name.Blob || n.Broken() != nil {
		return it, nil
	}
	f, err := n.Open(g.ctx, r)
	if text, ok := f.(tree.Bytes); ok && err == nil {
		it.state.content = sha256.Sum256(text)
	}
	return it, g.problem(i, e.Name, err)
}

// archive opens the tree of an archive: from the catalog if that has what is needed.
func (g *group) archive(r *store.Reader, snap *store.Snapshot, line manifest.File, it *item) (err error) {
	if !g.Filter.Owned {
		it.sub, err = snap.Listing(g.ctx, r, line)
		it.known = err == nil
		if it.known || !stored(err) {
			return err
		}
	}
	if it.sub, err = snap.Tree(g.ctx, r, line); err != nil {
		return err
	}
	it.known = true
	l, err := it.sub.Top(g.ctx, r)
	if g.Filter.Owned {
		it.state.Known, it.state.Mode, it.state.UID, it.state.GID = true, l.Mode&^unix.S_IFMT, l.UID, l.GID
	}
	return err
}
