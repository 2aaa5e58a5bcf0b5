package store

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

const (
	// maxNamed bounds the size, in bytes of the catalog, of a directory whose names are
	// taken from the catalog, and of each directory above it.
	maxNamed = 2 << 20
	// maxNamedPath bounds how many bytes of a catalog one listing reads.
	maxNamedPath = 16 << 20
)

// catalogState is what an archive knows of its snapshot's catalog.
type catalogState struct {
	frame  atomic.Pointer[catalog.Catalog]
	broken atomic.Bool // the frame of the catalog is broken
}

// Names are the children of a directory by name and type, from the snapshot's catalog.
// The names are those of the archive, as far as hashes tell. The type is what the
// catalog says, until the child is looked up.
type Names struct {
	dir   *catalog.Directory
	entry []uint32 // for each child of the table, its entry in dir
}

// At returns name and type of the i-th child of the table.
func (n *Names) At(i int) (string, catalog.Kind) { return n.dir.At(int(n.entry[i])) }

// Names returns the names of the children of the directory at path, which has the table
// t, without reading a child. They come from the catalog, if it agrees with the table
// name by name. Names returns nil if the catalog is of no use, and always for split
// archives, whose children cost less to read.
func (a *Archive) Names(ctx context.Context, right CanRead, t *pxar.Table, path []string) (*Names, error) {
	if a.format.Split() || t.Err() != nil {
		return nil, nil
	}
	dir, err := a.catalogued(ctx, right, path)
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrKeyNeeded):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return matched(dir, t), nil
}

// matched returns the names of a table's children. It returns nil unless each name of
// dir belongs to exactly one child, and each child has a name.
func matched(dir *catalog.Directory, t *pxar.Table) *Names {
	if dir.Len() != t.Len() {
		return nil
	}
	const none = ^uint32(0)
	entry := make([]uint32, t.Len())
	for i := range entry {
		entry[i] = none
	}
	for k := range dir.Len() {
		name, _ := dir.At(k)
		i, ok := t.Only(name)
		if !ok || entry[i] != none {
			return nil
		}
		entry[i] = uint32(k)
	}
	return &Names{dir: dir, entry: entry}
}

// catalogued returns the catalog's directory at path.
func (a *Archive) catalogued(ctx context.Context, right CanRead, path []string) (*catalog.Directory, error) {
	stream, err := a.meta.snap.catalogStream()
	if err != nil {
		return nil, err
	}
	r := stream.At(ctx, right)
	frame, err := a.catalogFrame(r, stream.Size())
	if err != nil {
		return nil, err
	}
	budget := int64(maxNamedPath)
	dir, err := stream.catalogDir(ctx, frame, r, frame.Root(), &budget)
	if err != nil {
		return nil, err
	}
	if dir, err = stream.enter(ctx, frame, r, dir, a.meta.file.Name.String(), &budget); err != nil {
		return nil, err
	}
	for _, name := range path {
		if dir, err = stream.enter(ctx, frame, r, dir, name, &budget); err != nil {
			return nil, err
		}
	}
	return dir, nil
}

// catalogStream returns the snapshot's catalog.
func (s *Snapshot) catalogStream() (*Stream, error) {
	line, ok := s.manifest.Lookup(name.Catalog)
	if !ok {
		return nil, corrupt.New("the snapshot has no catalog")
	}
	return s.Stream(line)
}

// catalogFrame returns the catalog. It is opened once for each archive.
func (a *Archive) catalogFrame(r io.ReaderAt, size int64) (*catalog.Catalog, error) {
	if c := a.catalog.frame.Load(); c != nil {
		return c, nil
	}
	if a.catalog.broken.Load() {
		return nil, corrupt.New("catalog cannot be used")
	}
	c, err := catalog.Open(r, size)
	switch {
	case err == nil:
		a.catalog.frame.Store(c)
	case errors.Is(err, ErrCorrupt):
		a.catalog.broken.Store(true)
	}
	return c, err
}

// enter returns the directory called name in dir.
func (s *Stream) enter(ctx context.Context, c *catalog.Catalog, r io.ReaderAt, dir *catalog.Directory, name string, budget *int64) (*catalog.Directory, error) {
	p := dir.Child(name)
	if p == (catalog.Place{}) {
		return nil, corrupt.New("catalog has no directory %q", name)
	}
	return s.catalogDir(ctx, c, r, p, budget)
}

// catalogDir returns the directory at p of the catalog s, from memory if it is there.
// The bytes that it reads are subtracted from budget.
func (s *Stream) catalogDir(ctx context.Context, c *catalog.Catalog, r io.ReaderAt, p catalog.Place, budget *int64) (*catalog.Directory, error) {
	dirs := s.snap.ds.memory.catalogs
	key := catalogKey{csum: s.file.Csum, place: p}
	if d, ok := dirs.Get(key); ok {
		return d, nil
	}
	d, err := c.ReadDir(ctx, r, p, min(maxNamed, *budget))
	if err != nil {
		return nil, err
	}
	*budget -= d.Size()
	dirs.Put(key, d, d.MemSize())
	return d, nil
}
