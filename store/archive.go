package store

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// Archive is a pxar archive of a snapshot, stored as one file or split into metadata
// and payload. It is in memory and holds nothing open: every method that reads takes a
// right. It is safe for concurrent use.
type Archive struct {
	meta *Stream
	// payload holds the contents of the files of a split archive; payloadErr says why
	// they cannot be read.
	payload    *Stream
	payloadErr error
	// payloadOK is set once the payload stream was checked to be one.
	payloadOK atomic.Bool
	format    *pxar.Archive
	links     linkTable
	skimmed   skimmed
	catalog   catalogState
	linked    atomic.Pointer[linkedDirs] // nil until somebody has asked
	unread    sync.Once                  // the log reports names that were not stored only once
}

// Archive opens the pxar archive with the stored file f: a .pxar, or the metadata half
// of a split archive.
func (s *Snapshot) Archive(ctx context.Context, right CanRead, f manifest.File) (*Archive, error) {
	if _, err := held(right); err != nil {
		return nil, err
	}
	key := archiveKey{snap: s.name, meta: f, payload: s.manifest.PayloadOf(f)}
	if a, ok := s.ds.memory.archives.Get(key); ok {
		return a, nil
	}
	meta, err := s.Stream(f)
	if err != nil {
		return nil, err
	}
	if err := meta.Check(ctx, right); err != nil {
		return nil, err
	}
	format, err := pxar.Open(meta.metadata(ctx, right), meta.Size())
	if err != nil {
		return nil, s.ds.at(s.name, f.Name, -1, err)
	}
	a := &Archive{meta: meta, format: format, links: newLinkTable()}
	if format.Split() {
		a.payload, a.payloadErr = s.payloadOf(f)
	}
	a.skim(ctx, right, 0)
	s.ds.memory.archives.Put(key, a, 1)
	return a, nil
}

// payloadOf returns the payload half of a split archive.
func (s *Snapshot) payloadOf(f manifest.File) (*Stream, error) {
	half, ok := f.Name.Payload()
	if !ok {
		return nil, s.ds.at(s.name, f.Name, -1, corrupt.New("refers to a payload archive, but is none of a split pair"))
	}
	line, ok := s.manifest.Lookup(half)
	if !ok {
		return nil, s.ds.at(s.name, f.Name, -1, corrupt.New("its payload archive %s is missing from the manifest", half))
	}
	return s.Stream(line)
}

// Snapshot returns the snapshot the archive belongs to.
func (a *Archive) Snapshot() *Snapshot { return a.meta.snap }

// Wrap adds the archive to an error about its bytes. It leaves other errors alone,
// above all the answer that there is no such entry.
func (a *Archive) Wrap(err error) error { return a.meta.wrap(err) }

// Root returns the entry of the archive's top directory.
func (a *Archive) Root(ctx context.Context, right CanRead) (*pxar.Entry, error) {
	e, err := a.format.ReadRoot(a.meta.metadata(ctx, right))
	return e, a.Wrap(err)
}

// Table returns the children of a directory, from memory if they are there.
func (a *Archive) Table(ctx context.Context, right CanRead, dir pxar.Dir) (*pxar.Table, error) {
	if _, err := held(right); err != nil {
		return nil, err
	}
	tables := a.meta.snap.ds.memory.tables
	key := tableKey{archive: a.meta.file.Csum, dir: dir}
	if t, ok := tables.Get(key); ok {
		return t, nil
	}
	t, err := a.format.ReadTable(a.meta.metadata(ctx, right), dir)
	if err != nil {
		return nil, a.Wrap(err)
	}
	if t.Unread() > 0 {
		a.unread.Do(func() { a.warnUnread(t.Unread()) })
	}
	a.skim(ctx, right, t.Pos(t.Len()))
	tables.Put(key, t, tableWeight+int64(t.Len())*tableEntryWeight)
	return t, nil
}

// warnUnread warns of names that the archive lists but does not contain.
func (a *Archive) warnUnread(n int) {
	snap := a.meta.snap
	snap.ds.log.Debug("archive lists names that its client could not read; nothing is stored of them",
		"datastore", snap.ds.name, "snapshot", snap.name.String(), "archive", a.meta.file.Name.String(), "in the first such directory", n)
}

// tables returns [Archive.Table] for one call of the decoder.
func (a *Archive) tables(ctx context.Context, right CanRead) pxar.Tables {
	return func(d pxar.Dir) (*pxar.Table, error) { return a.Table(ctx, right, d) }
}

// The approximate memory that a table of children takes.
const (
	tableWeight      = 256
	tableEntryWeight = 32
)

// Lookup returns the entry called name in a directory; [fs.ErrNotExist] if there is
// none.
func (a *Archive) Lookup(ctx context.Context, right CanRead, dir pxar.Dir, name string) (*pxar.Entry, error) {
	t, err := a.Table(ctx, right, dir)
	if err != nil {
		return nil, err
	}
	r := a.meta.metadata(ctx, right)
	c, err := t.Lookup(r, name)
	if err != nil {
		return nil, a.Wrap(err)
	}
	a.skim(ctx, right, c.NamePos)
	e, err := a.format.ReadEntry(r, c)
	return e, a.Wrap(err)
}

// Child returns the i-th child of a directory in the order in which the children are
// stored. If only its entry is damaged, the name comes with the error.
func (a *Archive) Child(ctx context.Context, right CanRead, t *pxar.Table, i int) (string, *pxar.Entry, error) {
	r := a.meta.metadata(ctx, right)
	c, err := t.Child(r, i)
	if err != nil {
		return "", nil, a.Wrap(err)
	}
	a.skim(ctx, right, c.NamePos)
	e, err := a.format.ReadEntry(r, c)
	return c.Name, e, a.Wrap(err)
}

// PathOf returns the names on the path from the root to the entry whose name lies at
// pos.
func (a *Archive) PathOf(ctx context.Context, right CanRead, pos int64) ([]string, error) {
	path, err := a.format.PathOf(a.meta.metadata(ctx, right), pos, a.tables(ctx, right))
	return path, a.Wrap(err)
}

// Extent is the content of one file of an archive: a range of a stream.
type Extent struct {
	stream *Stream
	off    int64
	size   int64
}

// Content finds the content of a regular file. It first checks that the file refers to
// the content that is stored there.
func (a *Archive) Content(ctx context.Context, right CanRead, p pxar.Payload) (Extent, error) {
	if _, err := held(right); err != nil {
		return Extent{}, err
	}
	if !p.Ref {
		return Extent{stream: a.meta, off: p.Off, size: p.Size}, nil
	}
	if a.payloadErr != nil {
		return Extent{}, a.payloadErr
	}
	if a.payload == nil {
		return Extent{}, a.Wrap(corrupt.At(p.Off, "payload reference in an archive that is not split"))
	}
	r := a.payload.At(ctx, right)
	if !a.payloadOK.Load() {
		if err := pxar.CheckPayloadStream(r, a.payload.Size()); err != nil {
			return Extent{}, a.payload.wrap(err)
		}
		a.payloadOK.Store(true)
	}
	off, err := p.Resolve(r, a.payload.Size())
	if err != nil {
		return Extent{}, a.payload.wrap(err)
	}
	return Extent{stream: a.payload, off: off, size: p.Size}, nil
}

// Size returns the length of the content.
func (x Extent) Size() int64 { return x.size }

// ReadAt reads len(p) bytes from offset off of the content. It reads less only at the
// end of the content, where it returns [io.EOF].
func (x Extent) ReadAt(ctx context.Context, right CanRead, p []byte, off int64) (int, error) {
	return x.read(ctx, right, p, off, nil)
}

// read is ReadAt for a reader that may want zeros instead of an error.
func (x Extent) read(ctx context.Context, right CanRead, p []byte, off int64, past past) (int, error) {
	if x.stream == nil || off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, fs.ErrInvalid)
	}
	if off >= x.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > x.size-off
	if short {
		p = p[:x.size-off]
	}
	n, err := x.stream.readAt(ctx, right, p, x.off+off, content{begin: x.off, end: x.off + x.size, past: past})
	switch {
	case err == io.EOF: //nolint:errorlint // exactly what ReadAt returns
		err = x.stream.snap.ds.at(x.stream.snap.name, x.stream.file.Name, x.off+off, corrupt.New("content ends after the end of the stream"))
	case err == nil && short:
		err = io.EOF
	}
	return n, err
}
