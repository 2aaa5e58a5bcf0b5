package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/bucket"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/lru"
	"github.com/pbsfs/pbsfs/store/name"
)

// Options say how a bucket is read.
type Options struct {
	At          bucket.Location
	Credentials bucket.Credentials
	// Parallel is how many requests may be under way.
	Parallel int
	// Refresh is how long a listing answers.
	Refresh time.Duration
	// Patience is how long a request may make no progress.
	Patience time.Duration
	// Reached is told how each request ended: nil if the server answered what it should,
	// or else why not. It must be quick; nil ignores it.
	Reached func(*Error)
}

// Bucket is a datastore in a bucket. It is safe for concurrent use.
type Bucket struct {
	c     *client
	names *listings
	// missing are chunks that were not there a moment ago.
	missing *lru.Cache[name.Digest, missing]
}

// missing is what was found of a chunk that is not there.
type missing struct {
	err   *backend.MissingChunkError
	until time.Time
}

// missingCount is how many such chunks are remembered.
const missingCount = 4096

var _ backend.Backend = (*Bucket)(nil)

// New returns the datastore at a location. It asks nobody.
func New(opts Options) (*Bucket, error) {
	c, err := newClient(opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", opts.At, err)
	}
	return &Bucket{
		c: c, names: &listings{c: c, refresh: opts.Refresh, known: lru.New[string, *listing](listingBytes)},
		missing: lru.New[name.Digest, missing](missingCount),
	}, nil
}

// ErrNoStore says that a bucket has no datastore of the name.
var ErrNoStore = errors.New("no such datastore")

// firstLook bounds the first request: who has mistyped something wants to know it soon.
const firstLook = 5 * time.Second

// Check looks whether the datastore is there: whether the bucket has any object of it.
func (b *Bucket) Check(ctx context.Context) error {
	errFound := errors.New("found")
	err := b.c.list(ctx, b.c.at.Store+"/", false, min(b.c.patience, firstLook), func(minio.ObjectInfo) error { return errFound })
	switch {
	case errors.Is(err, errFound):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%s: %w: the bucket has no object below %s/", b.c.at, ErrNoStore, b.c.at.Store)
}

// Idle closes the connections that no request uses.
func (b *Bucket) Idle() { b.c.transport.CloseIdleConnections() }

// Close does what Idle does: a bucket may be used on.
func (b *Bucket) Close() error {
	b.Idle()
	return nil
}

// List returns the entries of a directory above the chunks.
func (b *Bucket) List(ctx context.Context, dir string) ([]backend.Entry, error) {
	dir = path.Clean(dir)
	f, rest, err := b.names.at(ctx, dir)
	if err != nil {
		return nil, err
	}
	for rest != "" && f != nil {
		var first string
		first, rest, _ = strings.Cut(rest, "/")
		f = f.folders[first]
	}
	if f == nil || dir != "." && f.empty() {
		return nil, b.c.notThere("list", dir)
	}
	out := make([]backend.Entry, 0, len(f.folders)+len(f.files))
	for n := range f.folders {
		out = append(out, backend.Entry{Name: n, Dir: true})
	}
	for n := range f.files {
		out = append(out, backend.Entry{Name: n})
	}
	return out, nil
}

func (f *folder) empty() bool { return len(f.folders) == 0 && len(f.files) == 0 }

// Stat describes a name above the chunks, from a listing of the directory above it.
func (b *Bucket) Stat(ctx context.Context, name string) (backend.Info, error) {
	name = path.Clean(name)
	if name == "." {
		return backend.Info{Mode: unix.S_IFDIR | 0o755}, nil
	}
	if strings.HasPrefix(name, chunks) {
		return b.statChunk(ctx, name)
	}
	f, rest, err := b.names.at(ctx, path.Dir(name))
	if err != nil {
		return backend.Info{}, err
	}
	info, ok := f.stat(path.Join(rest, path.Base(name)))
	if !ok {
		return backend.Info{}, b.c.notThere("stat", name)
	}
	return info, nil
}

// statChunk describes the object of a chunk, which no listing of a group has.
func (b *Bucket) statChunk(ctx context.Context, name string) (backend.Info, error) {
	key, info, found := b.c.at.Store+"/"+name, backend.Info{}, false
	err := b.c.list(ctx, key, false, b.c.patience, func(o minio.ObjectInfo) error {
		if o.Key == key {
			info, found = infoOf(o), true
		}
		return nil
	})
	if err == nil && !found {
		err = b.c.notThere("stat", name)
	}
	return info, err
}

// chunks is the part of the keys of a datastore that is chunks.
const chunks = ".chunks/"

// ListChunks lists all chunks, a thousand with each request.
func (b *Bucket) ListChunks(ctx context.Context, fn func(backend.ChunkName) error) error {
	return b.c.list(ctx, b.c.at.Store+"/"+chunks, true, b.c.patience, func(o minio.ObjectInfo) error {
		file := strings.TrimPrefix(o.Key, b.c.at.Store+"/")
		c, ok := backend.ParseChunkName(path.Base(file))
		if !ok || path.Dir(file) != chunks+c.Digest.Prefix() {
			return nil
		}
		c.Path, c.Size = file, o.Size
		return fn(c)
	})
}

// directory is a name with which others begin.
type directory struct {
	b   *Bucket
	dir string
}

func (d directory) Stat(ctx context.Context, name string) (backend.Info, error) {
	return d.b.Stat(ctx, d.dir+"/"+name)
}

func (d directory) Close() error { return nil }

// OpenDir returns a directory, if it exists.
func (b *Bucket) OpenDir(ctx context.Context, dir string) (backend.Directory, error) {
	info, err := b.Stat(ctx, dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: b.c.at.String() + "/" + dir, Err: unix.ENOTDIR}
	}
	return directory{b, dir}, nil
}

// key returns the key of a file above the chunks.
func (b *Bucket) key(name string) string {
	return b.c.at.Store + "/" + content + "/" + path.Clean(name)
}

// ReadFile reads a file as a whole.
func (b *Bucket) ReadFile(ctx context.Context, name string, limit int64, buf []byte) ([]byte, backend.Info, error) {
	info, err := b.Through(ctx, name, limit, whole(&buf))
	if err != nil {
		return nil, info, err
	}
	return buf, info, nil
}

// whole returns a function that reads everything into buf.
func whole(buf *[]byte) func(io.Reader, int64) error {
	return func(r io.Reader, size int64) error {
		if int64(cap(*buf)) < size {
			*buf = make([]byte, size)
		}
		*buf = (*buf)[:size]
		_, err := io.ReadFull(r, *buf)
		return err
	}
}

// Through has read read a file. A file that a listing had and that is gone makes that
// listing old.
func (b *Bucket) Through(ctx context.Context, name string, limit int64, read func(f io.Reader, size int64) error) (backend.Info, error) {
	info, err := b.c.get(ctx, b.key(name), limit, read)
	if errors.Is(err, fs.ErrNotExist) {
		b.names.drop(path.Clean(name))
	}
	return info, err
}

// lookAgain is when a chunk is asked for again that was not there: some stores take a
// moment to show what is new.
const lookAgain = 300 * time.Millisecond

// ReadChunk reads a chunk. The listings of all groups are old when a chunk is missing: its
// snapshot may be gone. A chunk that is missing is not asked for again for a while.
func (b *Bucket) ReadChunk(ctx context.Context, d name.Digest, buf []byte) ([]byte, error) {
	key := b.c.at.Store + "/" + chunks + d.Prefix() + "/" + d.String()
	if m, ok := b.missing.Get(d); ok && time.Now().Before(m.until) {
		return nil, m.err
	}
	_, err := b.c.get(ctx, key, blob.MaxEncodedChunk, whole(&buf))
	if errors.Is(err, fs.ErrNotExist) {
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		_, err = b.c.get(ctx, key, blob.MaxEncodedChunk, whole(&buf))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		b.names.forget()
		gone := &backend.MissingChunkError{Bad: b.badChunk(ctx, key)}
		b.missing.Put(d, missing{gone, time.Now().Add(b.names.refresh)}, 1)
		return nil, gone
	case err != nil:
		return nil, err
	case len(buf) == 0:
		return nil, corrupt.New("object is empty")
	}
	return buf, nil
}

// badChunk returns the name that a verification has given to a corrupt chunk, "" if there
// is none.
func (b *Bucket) badChunk(ctx context.Context, key string) string {
	bad := ""
	err := b.c.list(ctx, key+".", false, b.c.patience, func(o minio.ObjectInfo) error {
		if strings.HasSuffix(o.Key, ".bad") {
			bad = strings.TrimPrefix(o.Key, b.c.at.Store+"/")
		}
		return nil
	})
	if err != nil {
		return ""
	}
	return bad
}

// forget makes all listings old. Who reads a datastore with many missing chunks has it
// listed again once a second, not for each.
func (l *listings) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.forgotten) > time.Second {
		l.forgotten = now
		l.known.Drop()
	}
}

// LockShared says that there are no locks in a bucket.
func (b *Bucket) LockShared(dir string) (backend.Lock, error) {
	return nil, &fs.PathError{Op: "lock", Path: b.c.at.String() + "/" + dir, Err: unix.ENOLCK}
}

// Statfs knows nothing: a bucket has no end.
func (b *Bucket) Statfs() (unix.Statfs_t, error) {
	return unix.Statfs_t{Bsize: 4096, Frsize: 4096, Namelen: 255}, nil
}
