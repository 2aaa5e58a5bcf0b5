package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// Subtree is a directory of an archive with everything below it, for a search that goes
// through many snapshots: it tells what is in the directory without a look at contents,
// and two subtrees can be found to be alike without a look at most of either. It is a
// value in memory, holds nothing open and is safe for concurrent use.
//
// There are two kinds. One comes from the snapshot's catalog, which its client has
// written as a listing of names: it is small, and knows only names, types, sizes and
// times. The other comes from the archive itself, and knows all.
type Subtree struct {
	snap *Snapshot
	file manifest.File

	// stream and format are those of the catalog; nil for a subtree of the archive.
	stream  *Stream
	format  *catalog.Catalog
	listing catalog.Subtree

	archive *Archive
	dir     pxar.Dir
	links   *linkedDirs // of a unified archive
	path    string      // below the archive's top, if links is set
	top     bool        // it is the whole archive
}

// Listed is an entry of a [Subtree].
type Listed struct {
	Name string
	Type uint32 // S_IFMT bits
	// Size and Mtime, in bytes and seconds since the epoch, are those of a regular file.
	Size, Mtime int64
	// Mode has all bits, and it and the ids are known, only if the entry comes from the
	// archive.
	Mode, UID, GID uint32
	// Link says that the entry is a further name of a file, and that the catalog, from
	// which it comes, knows nothing else. [Subtree.Resolve] does.
	Link bool
	// Below is what a directory holds; nil for all else.
	Below *Subtree
	// Err says what is wrong with the entry. Its name may be "".
	Err error
}

// Listing returns the tree of an archive, whose stored file is f, as the snapshot's
// catalog has it. The archive itself is not looked at. It fails with an error that matches
// [ErrCorrupt] if there is no catalog that can be used: then [Snapshot.Tree] has it.
func (s *Snapshot) Listing(ctx context.Context, right CanRead, f manifest.File) (Subtree, error) {
	if f.Name.Content() != name.Pxar {
		return Subtree{}, s.ds.at(s.name, f.Name, -1, corrupt.New("not in a catalog"))
	}
	stream, err := s.catalogStream()
	if err != nil {
		return Subtree{}, err
	}
	r := stream.pick(ctx, right)
	c, err := catalog.Open(r, stream.Size())
	if err != nil {
		return Subtree{}, stream.wrap(err)
	}
	t, err := c.Archive(ctx, r, f.Name.String())
	if err != nil {
		return Subtree{}, stream.wrap(err)
	}
	return Subtree{snap: s, file: f, stream: stream, format: c, listing: t}, nil
}

// Tree returns the tree of an archive, as the archive itself has it.
func (s *Snapshot) Tree(ctx context.Context, right CanRead, f manifest.File) (Subtree, error) {
	a, err := s.Archive(ctx, right, f)
	if err != nil {
		return Subtree{}, err
	}
	root, err := a.Root(ctx, right)
	if err != nil {
		return Subtree{}, err
	}
	t := Subtree{snap: s, file: f, archive: a, dir: root.Dir, top: true}
	if !a.format.Split() {
		if t.links, err = a.linkedDirs(ctx, right); err != nil {
			return Subtree{}, err
		}
	}
	return t, nil
}

// Catalogued reports whether the subtree comes from a catalog.
func (t Subtree) Catalogued() bool { return t.stream != nil }

// Stored returns the same directory as the archive itself has it. path are the names that
// lead to it from the archive's top.
func (t Subtree) Stored(ctx context.Context, right CanRead, path []string) (Subtree, error) {
	out, err := t.snap.Tree(ctx, right, t.file)
	for _, n := range path {
		if err != nil {
			return Subtree{}, err
		}
		var e *pxar.Entry
		if e, err = out.archive.Lookup(ctx, right, out.dir, n); err == nil {
			out = out.child(n, e)
		}
	}
	return out, err
}

// Enter returns the directory at a path below this one; [fs.ErrNotExist] if there is none.
func (t Subtree) Enter(ctx context.Context, right CanRead, path []string) (Subtree, error) {
	for _, n := range path {
		var next *Subtree
		if err := t.List(ctx, right, func(l Listed) error {
			if l.Name == n && l.Err == nil && l.Type == unix.S_IFDIR && next == nil {
				next = l.Below
			}
			return nil
		}); err != nil {
			return Subtree{}, err
		}
		if next == nil {
			return Subtree{}, fmt.Errorf("%s: %w", n, fs.ErrNotExist)
		}
		t = *next
	}
	return t, nil
}

// child returns the directory e, which is called name.
func (t Subtree) child(name string, e *pxar.Entry) Subtree {
	t.dir, t.top = e.Dir, false
	if t.links != nil {
		t.path += "/" + name
	}
	return t
}

// List calls fn for each entry of the directory. Damaged entries are listed with Err set.
// After the last one List fails, with an error that matches [ErrCorrupt], if there may be
// others that it could not see; entries of a catalog then count for nothing. An error of
// fn is returned as it is.
func (t Subtree) List(ctx context.Context, right CanRead, fn func(Listed) error) error {
	if t.Catalogued() {
		return t.stream.wrap(t.format.Entries(ctx, t.stream.pick(ctx, right), t.listing, func(e catalog.Entry, below catalog.Subtree) error {
			return fn(t.fromCatalog(e, below))
		}))
	}
	table, err := t.archive.Table(ctx, right, t.dir)
	if err != nil {
		return err
	}
	for i := range table.Len() {
		n, e, err := t.archive.Child(ctx, right, table, i)
		l := Listed{Name: n, Err: err}
		switch {
		case err == nil:
			l = t.fromArchive(n, e)
		case !errors.Is(err, ErrCorrupt):
			return err
		}
		if err := fn(l); err != nil {
			return err
		}
	}
	return t.archive.Wrap(table.Err())
}

func (t Subtree) fromCatalog(e catalog.Entry, below catalog.Subtree) Listed {
	l := Listed{Name: e.Name, Link: e.Kind == catalog.HardLink, Size: int64(e.Size), Mtime: e.Mtime}
	switch e.Kind {
	case catalog.Dir:
		l.Type = unix.S_IFDIR
		l.Below = new(t)
		l.Below.listing = below
	case catalog.File, catalog.HardLink:
		l.Type = unix.S_IFREG
	case catalog.Symlink:
		l.Type = unix.S_IFLNK
	case catalog.BlockDevice:
		l.Type = unix.S_IFBLK
	case catalog.CharDevice:
		l.Type = unix.S_IFCHR
	case catalog.Fifo:
		l.Type = unix.S_IFIFO
	case catalog.Socket:
		l.Type = unix.S_IFSOCK
	}
	return l
}

func (t Subtree) fromArchive(n string, e *pxar.Entry) Listed {
	l := Listed{Name: n, Type: e.Type(), Mode: e.Mode, UID: e.UID, GID: e.GID}
	switch l.Type {
	case unix.S_IFDIR:
		l.Below = new(t.child(n, e))
	case unix.S_IFREG:
		l.Size, l.Mtime = e.Payload.Size, e.Mtime.Sec
	}
	return l
}

// Top returns the entry of the archive's own top directory, without a name. The catalog
// only tells that it is one.
func (t Subtree) Top(ctx context.Context, right CanRead) (Listed, error) {
	l := Listed{Type: unix.S_IFDIR}
	if t.Catalogued() {
		return l, nil
	}
	e, err := t.archive.Root(ctx, right)
	if err == nil {
		l.Mode, l.UID, l.GID = e.Mode, e.UID, e.GID
	}
	return l, err
}

// Resolve returns the entry that is called name in the directory at path, as the archive
// itself has it; [fs.ErrNotExist] if it has none.
func (t Subtree) Resolve(ctx context.Context, right CanRead, path []string, name string) (Listed, error) {
	a, err := t.snap.Archive(ctx, right, t.file)
	if err != nil {
		return Listed{}, err
	}
	e, err := a.Root(ctx, right)
	for _, n := range append(path[:len(path):len(path)], name) {
		if err != nil {
			return Listed{}, err
		}
		if e.Type() != unix.S_IFDIR {
			return Listed{}, fs.ErrNotExist
		}
		e, err = a.Lookup(ctx, right, e.Dir, n)
	}
	if err != nil {
		return Listed{}, err
	}
	return Subtree{snap: t.snap, file: t.file, archive: a}.fromArchive(name, e), nil
}

// Mark is a value that two subtrees of one [Marker] share only if they are alike: names,
// types, sizes and times, and all else that a listing of either tells, are the same.
type Mark [2]uint64

// Marker makes marks, which mean nothing to another Marker. It is safe for concurrent use.
// Two different subtrees have one mark with a probability of about 2⁻¹²⁸, whatever they
// hold: the seeds are random.
type Marker struct {
	a, b    maphash.Seed
	buffers sync.Pool // of *[markStep]byte
}

// NewMarker returns a Marker.
func NewMarker() *Marker {
	m := &Marker{a: maphash.MakeSeed(), b: maphash.MakeSeed()}
	m.buffers.New = func() any { return new([markStep]byte) }
	return m
}

// Pieces returns the mark of the chunks in which the subtree lies, and where in them. It
// reads only an index. Subtrees without a mark, for which it reports false, may be
// alike; so may those with different marks.
func (m *Marker) Pieces(ctx context.Context, right CanRead, t Subtree) (Mark, bool, error) {
	s, begin, end, ok := t.whole()
	if !ok {
		return Mark{}, false, nil
	}
	h := m.begin()
	for off := begin; off < end; {
		p, err := s.Piece(ctx, right, off)
		if err != nil {
			return Mark{}, false, err
		}
		h.number(p.at, min(p.End, end)-off)
		_, _ = h.Write(p.chunk[:])
		off = p.End
	}
	return h.mark(), true, nil
}

// whole returns the range in which the subtree lies, and whether it tells everything.
func (t Subtree) whole() (s *Stream, begin, end int64, ok bool) {
	if t.Catalogued() {
		begin, end, ok = t.listing.Range()
		return t.stream, begin, end, ok
	}
	begin, end = t.dir.Range()
	if t.links != nil {
		return t.archive.meta, begin, end, !t.links.below(t.path)
	}
	// Hard links can lead out of a directory, and only its bytes tell; none leads out of the
	// archive.
	return t.archive.meta, begin, end, t.top
}

// Size returns about how many bytes of metadata the subtree has. marked says that
// [Marker.Bytes] makes a mark of them.
func (t Subtree) Size() (size int64, marked bool) {
	begin, end, ok := t.extent()
	if !ok && !t.Catalogued() { // contents are a large part of it
		return (end - begin) / contentShare, false
	}
	return end - begin, ok
}

// contentShare is in what part of an archive in one stream metadata is taken to be.
const contentShare = 16

// extent returns the range of the subtree if it consists of metadata only.
func (t Subtree) extent() (begin, end int64, ok bool) {
	if t.Catalogued() {
		begin, end, ok = t.listing.Range()
		if !ok { // all before it may be below it
			begin = 0
		}
		return begin, end, ok
	}
	begin, end = t.dir.Range()
	return begin, end, t.archive.format.Split()
}

// Bytes returns the mark of what the subtree consists of, which it reads. It reports false
// if there is none, because that would mean reading contents, or because the bytes are
// damaged.
func (m *Marker) Bytes(ctx context.Context, right CanRead, t Subtree) (Mark, bool, error) {
	begin, end, ok := t.extent()
	if !ok {
		return Mark{}, false, nil
	}
	var mark Mark
	var err error
	if t.Catalogued() {
		mark, err = m.ofRange(t.stream.pick(ctx, right), begin, end)
	} else {
		h := m.begin()
		err = t.archive.format.WriteMetadata(ctx, t.archive.meta.At(ctx, right), t.dir, h)
		mark = h.mark()
	}
	switch {
	case errors.Is(err, ErrCorrupt):
		return Mark{}, false, nil
	case err != nil:
		return Mark{}, false, err
	}
	return mark, true, nil
}

// markStep is how many bytes of a catalog are read at once.
const markStep = 256 << 10

// ofRange returns the mark of a range of a stream.
func (m *Marker) ofRange(r io.ReaderAt, begin, end int64) (Mark, error) {
	buf := m.buffers.Get().(*[markStep]byte)
	defer m.buffers.Put(buf)
	var mark Mark
	for off := begin; off < end; {
		part := buf[:min(markStep, end-off)]
		if _, err := r.ReadAt(part, off); err != nil {
			return mark, err
		}
		// Ranges of one length have the same parts.
		mark[0] = mark[0]*31 + maphash.Bytes(m.a, part)
		mark[1] = mark[1]*37 + maphash.Bytes(m.b, part)
		off += int64(len(part))
	}
	return mark, nil
}

// Values returns the mark of values and texts, which list hands to add one after the other.
func (m *Marker) Values(list func(add func(numbers []uint64, text string))) Mark {
	h := m.begin()
	var b []byte
	list(func(numbers []uint64, text string) {
		b = binary.LittleEndian.AppendUint64(b[:0], uint64(len(text)))
		for _, n := range numbers {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
		_, _ = h.Write(append(b, text...))
	})
	return h.mark()
}

// marking is a mark that is being made.
type marking struct{ a, b maphash.Hash }

func (m *Marker) begin() *marking {
	h := new(marking)
	h.a.SetSeed(m.a)
	h.b.SetSeed(m.b)
	return h
}

func (h *marking) Write(p []byte) (int, error) {
	_, _ = h.a.Write(p)
	return h.b.Write(p)
}

func (h *marking) number(a, b int64) {
	var buf [16]byte
	binary.LittleEndian.PutUint64(buf[:], uint64(a))
	binary.LittleEndian.PutUint64(buf[8:], uint64(b))
	_, _ = h.Write(buf[:])
}

func (h *marking) mark() Mark { return Mark{h.a.Sum64(), h.b.Sum64()} }
