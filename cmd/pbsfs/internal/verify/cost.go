package verify

import (
	"cmp"
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// maxRanges is how many ranges one cost has. A file that is hit in more places has
// several costs.
const maxRanges = 1024

// costs finds what the damage of a snapshot costs. It reads the snapshot as a reader of
// the tree does that remembers nothing.
func (c *check) costs(ctx context.Context, j *job, h *hits) error {
	c.ref.Forget()
	t := tree.New(c.ref)
	w := &walker{check: c, j: j, hits: h}
	n, err := t.Walk(ctx, j.right, j.name.String(), false)
	if err != nil {
		return err
	}
	if err := n.Broken(); err != nil {
		return w.lost(ctx, j.name.String(), Below, err)
	}
	err = tree.Visit(ctx, j.right, n, func(e tree.Entry) error {
		if !w.hit(e) {
			return nil
		}
		return w.entry(ctx, n, j.name.String(), e.Name)
	})
	if errors.Is(err, tree.ErrIncomplete) {
		return w.lost(ctx, j.name.String(), Listing, err)
	}
	return err
}

// walker looks for the costs in one snapshot. In archives it leaves out what does not lie
// in damaged chunks.
type walker struct {
	*check
	j    *job
	hits *hits

	// trial is set while it is only found out whether a name of a file with several may
	// be left out that way: a hard link lies elsewhere than its file.
	trial bool
	links bool // what the trial has found
	all   bool // leave out nothing
}

// hit reports whether an entry of the snapshot's directory shows a file that is damaged.
// The files inside an image are not looked at.
func (w *walker) hit(e tree.Entry) bool {
	if w.j.snap == nil || e.Type == unix.S_IFDIR && e.Stored.Format() == name.Fixed {
		return false
	}
	half, split := e.Stored.Payload()
	return w.hits.files[e.Stored] || split && w.hits.files[half]
}

// child looks at a child of a directory.
func (w *walker) child(ctx context.Context, dir *tree.Node, path, called string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	path += "/" + called
	n, err := dir.Lookup(ctx, w.j.right, called)
	if err != nil {
		return w.lost(ctx, path, Below, err)
	}
	if err := n.Broken(); err != nil {
		kind := Below
		if n.Type() == unix.S_IFREG {
			kind = File
		}
		return w.lost(ctx, path, kind, err)
	}
	switch n.Type() {
	case unix.S_IFDIR:
		return w.directory(ctx, n, path)
	case unix.S_IFREG:
		return w.file(ctx, n, path)
	}
	return nil
}

// entry looks at an entry of the snapshot's directory.
func (w *walker) entry(ctx context.Context, dir *tree.Node, path, called string) (err error) {
	w.all = false
	if w.all, err = w.mustReadAll(ctx, dir, path, called); err != nil {
		return err
	}
	return w.child(ctx, dir, path, called)
}

// mustReadAll reports whether nothing may be left out of an archive, because names of files
// that are hit may be hard links that lie elsewhere.
func (w *walker) mustReadAll(ctx context.Context, dir *tree.Node, path, called string) (bool, error) {
	n, err := dir.Lookup(ctx, w.j.right, called)
	if err != nil || !n.IsDir() || n.Broken() != nil {
		return false, nil //nolint:nilerror // whoever looks at it meets that error again
	}
	some, known, err := n.HasLinks(ctx, w.j.right)
	if err != nil || !some || !known {
		return !known, err
	}
	w.trial, w.links = true, false
	defer func() { w.trial = false }()
	err = w.directory(ctx, n, path+"/"+called)
	return w.links, err
}

func (w *walker) directory(ctx context.Context, n *tree.Node, path string) error {
	l, err := n.List(ctx, w.j.right)
	if err != nil {
		return w.lost(ctx, path, Below, err)
	}
	damage := l.Err()
	for i := range l.Len() {
		if skip, err := w.sound(ctx, l, i); err != nil || skip {
			if err != nil {
				return err
			}
			continue
		}
		e, err := l.At(ctx, w.j.right, i)
		switch {
		case err != nil:
		case e.Name == "":
			damage = cmp.Or(damage, e.Err)
		case e.Err != nil:
			err = w.lost(ctx, path+"/"+e.Name, Below, e.Err)
		default:
			err = w.child(ctx, n, path, e.Name)
		}
		if err != nil {
			return err
		}
	}
	if damage != nil {
		return w.lost(ctx, path, Listing, damage)
	}
	return nil
}

// sound reports whether the i-th child of a directory lies in chunks that are right, with
// all that is below it.
func (w *walker) sound(ctx context.Context, l tree.Listing, i int) (bool, error) {
	r, ok := l.(tree.Ranged)
	if !ok || w.all {
		return false, nil
	}
	bad := false
	whole, err := r.ChildParts(ctx, w.j.right, i, func(p store.Part) error {
		bad = bad || w.hits.chunks[p.Chunk] != nil
		return nil
	})
	if err != nil && w.isLoss(err) { // the index has become bad since: whoever reads on meets it
		return false, nil
	}
	return whole && !bad, err
}

// partly are the files that know in which chunks they lie.
type partly interface {
	Parts(ctx context.Context, right store.CanRead, fn func(store.Part) error) error
}

func (w *walker) file(ctx context.Context, n *tree.Node, path string) error {
	if good, err := w.goodContent(ctx, n); err != nil || good {
		return err
	}
	if w.trial {
		w.links = w.links || n.Attr().Nlink > 1
		return nil
	}
	f, err := n.Open(ctx, w.j.right)
	if err != nil {
		return w.lost(ctx, path, File, err)
	}
	in, ok := f.(partly)
	if !ok { // it was read whole to be opened
		return nil
	}
	r := &ranges{w: w, cost: Cost{Snapshot: w.j.name, Path: path, Kind: Ranges}}
	err = in.Parts(ctx, w.j.right, func(p store.Part) error {
		if w.hits.chunks[p.Chunk] == nil {
			return nil
		}
		return r.add(p.Chunk.Digest(), Range{p.Off, p.End})
	})
	if err == nil {
		err = r.flush()
	}
	if r.hit {
		w.count.HitFiles.Add(1)
	}
	return err
}

// goodContent reports whether the content of a file of an archive lies in chunks that are
// right. To open the file would read a chunk.
func (w *walker) goodContent(ctx context.Context, n *tree.Node) (bool, error) {
	bad := false
	known, err := n.Parts(ctx, w.j.right, func(p store.Part) error {
		bad = bad || w.hits.chunks[p.Chunk] != nil
		return nil
	})
	if err != nil && w.isLoss(err) { // the index of the payload: whoever opens the file meets it
		return false, nil
	}
	return known && !bad, err
}

// ranges collects the ranges of one file, chunk by chunk.
type ranges struct {
	w    *walker
	cost Cost
	hit  bool
}

func (r *ranges) add(chunk name.Digest, x Range) error {
	have := r.cost.Ranges
	if len(have) > 0 && r.cost.Chunk == chunk && have[len(have)-1].End == x.Off {
		have[len(have)-1].End = x.End
		return nil
	}
	if len(have) == maxRanges || r.cost.Chunk != chunk {
		if err := r.flush(); err != nil {
			return err
		}
	}
	r.cost.Chunk, r.cost.OfChunk, r.hit = chunk, true, true
	r.cost.Ranges = append(r.cost.Ranges, x)
	return nil
}

func (r *ranges) flush() error {
	if len(r.cost.Ranges) == 0 {
		return nil
	}
	out := r.cost
	r.cost.Ranges = nil
	return r.w.out.Cost(out)
}

// isLoss reports whether an error of a read is due to damage.
func (w *walker) isLoss(err error) bool {
	if errors.Is(err, store.ErrCorrupt) {
		return true
	}
	_, ofChunk := store.ChunkOf(err)
	var own *store.Error
	return (ofChunk || errors.As(err, &own)) && store.DiskFault(err)
}

// lost reports what cannot be read because of err. If err is no damage, lost returns it.
func (w *walker) lost(ctx context.Context, path string, kind Kind, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, store.ErrKeyNeeded):
		return w.sealed(ctx, path)
	case errors.Is(err, fs.ErrNotExist) && w.j.snap != nil && w.j.snap.Still(ctx, w.j.right) == nil:
		// A name that is listed and cannot be found.
	case !w.isLoss(err):
		return err
	}
	if w.trial { // it may be a file with several names
		w.links = true
		return nil
	}
	if kind == File {
		w.count.HitFiles.Add(1)
	} else {
		w.count.HitDirs.Add(1)
	}
	cost := Cost{Snapshot: w.j.name, Path: path, Kind: kind, Err: err}
	cost.Chunk, cost.OfChunk = store.ChunkOf(err)
	return w.out.Cost(cost)
}

// sealed reports what is damaged of a file of the snapshot that cannot be opened, for want
// of a key.
func (w *walker) sealed(ctx context.Context, path string) error {
	hit := false
	for _, f := range w.j.snap.Manifest().Files {
		if !w.hits.files[f.Name] || !shows(path, f) {
			continue
		}
		found, err := w.sealedRanges(ctx, path, f)
		if err != nil {
			return err
		}
		hit = hit || found
	}
	if hit {
		w.count.HitFiles.Add(1)
	}
	return nil
}

// shows reports whether the path of an entry of the snapshot shows the stored file.
func shows(path string, f manifest.File) bool {
	return hasBase(path, f.Name.ArchiveName()) || hasBase(path, f.Name.String())
}

func hasBase(path, base string) bool {
	n := len(path) - len(base)
	return n > 0 && path[n:] == base && path[n-1] == '/'
}

func (w *walker) sealedRanges(ctx context.Context, path string, f manifest.File) (hit bool, err error) {
	for _, d := range w.j.damage {
		if d.File == f.Name {
			return true, w.out.Cost(Cost{Snapshot: w.j.name, Path: path, Kind: File, Err: d.Err})
		}
	}
	x, err := w.j.snap.ReadIndex(ctx, w.j.right, f)
	if err != nil {
		return false, err
	}
	r := &ranges{w: w, cost: Cost{Snapshot: w.j.name, Path: path, Kind: Sealed}}
	for i := range x.Len() {
		span := x.Span(i)
		if w.hits.chunks[w.j.snap.Wanted(f, span)] == nil {
			continue
		}
		if err := r.add(span.Digest, Range{span.Off, span.End}); err != nil {
			return false, err
		}
	}
	return r.hit, r.flush()
}
