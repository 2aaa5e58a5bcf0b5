package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/lru"
)

const (
	// listingBytes bounds the memory for listings: some million objects.
	listingBytes = 128 << 20
	// objectWeight is about what an object takes in a listing, besides its name.
	objectWeight = 220
	// maxListed bounds the objects of one listing. A group has five for each snapshot.
	maxListed = 2_000_000
)

// content is the part of the keys of a datastore that is not chunks.
const content = ".cnt"

// folder is a directory, as it was listed.
type folder struct {
	folders map[string]*folder
	files   map[string]backend.Info
	newest  time.Time // of all objects in it
}

func newFolder() *folder {
	return &folder{folders: make(map[string]*folder), files: make(map[string]backend.Info)}
}

// add puts an object below the folder.
func (f *folder) add(name string, info backend.Info) {
	for {
		if info.Mtime.After(f.newest) {
			f.newest = info.Mtime
		}
		dir, rest, below := strings.Cut(name, "/")
		if dir == "" {
			return // no name of ours
		}
		if !below {
			f.files[dir] = info
			return
		}
		child := f.folders[dir]
		if child == nil {
			child = newFolder()
			f.folders[dir] = child
		}
		if rest == "" {
			return // the object that other programs make for a directory
		}
		f, name = child, rest
	}
}

// info describes a folder. It has the time of the newest object in it.
func (f *folder) info() backend.Info {
	return backend.Info{Mode: unix.S_IFDIR | 0o755, Mtime: f.newest}
}

// stat describes a name below the folder.
func (f *folder) stat(name string) (backend.Info, bool) {
	for {
		dir, rest, below := strings.Cut(name, "/")
		if !below {
			if info, ok := f.files[name]; ok {
				return info, true
			}
			if child := f.folders[name]; child != nil {
				return child.info(), true
			}
			return backend.Info{}, false
		}
		if f = f.folders[dir]; f == nil {
			return backend.Info{}, false
		}
		name = rest
	}
}

// listing is the answer to one listing.
type listing struct {
	done   chan struct{} // closed when the rest is there
	folder *folder
	err    error
	until  time.Time
}

// listings remembers what was listed.
type listings struct {
	c       *client
	refresh time.Duration

	mu        sync.Mutex // a leaf lock
	known     *lru.Cache[string, *listing]
	forgotten time.Time
}

// group returns the group in which a name lies, and the rest of the name. Without a group
// it returns false.
func group(name string) (dir, rest string, ok bool) {
	parts := strings.Split(name, "/")
	i := 0
	for i+1 < len(parts) && parts[i] == "ns" {
		i += 2
	}
	if i+2 > len(parts) || parts[i] == "ns" {
		return "", "", false
	}
	return strings.Join(parts[:i+2], "/"), strings.Join(parts[i+2:], "/"), true
}

// at returns the listing that answers for a directory: that of its group as a whole, or of
// the directory alone.
func (l *listings) at(ctx context.Context, dir string) (f *folder, rest string, err error) {
	where, rest, deep := group(dir)
	if !deep {
		where, rest = dir, ""
	}
	for {
		known, mine := l.claim(where)
		if mine {
			known.folder, known.err = l.list(ctx, where, deep)
			l.finish(where, known)
		}
		select {
		case <-known.done:
		case <-ctx.Done():
			return nil, "", context.Cause(ctx)
		}
		gaveUp := errors.Is(known.err, context.Canceled) || errors.Is(known.err, context.DeadlineExceeded)
		if mine || !gaveUp || ctx.Err() != nil {
			return known.folder, rest, known.err
		}
	}
}

// claim returns a listing that is fresh or on its way. If there is none, the caller has to
// make it.
func (l *listings) claim(where string) (_ *listing, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.known.Get(where); ok && known != nil && (known.until.IsZero() || time.Now().Before(known.until)) {
		return known, false
	}
	made := &listing{done: make(chan struct{})}
	l.known.Put(where, made, 1)
	return made, true
}

// finish publishes a listing that was made. One that failed is not remembered.
func (l *listings) finish(where string, made *listing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	made.until = time.Now().Add(l.refresh)
	current, ok := l.known.Get(where)
	switch {
	case made.err != nil && ok && current == made:
		l.known.Put(where, nil, 1)
	case made.err == nil:
		l.known.Put(where, made, made.folder.weight())
	}
	close(made.done)
}

func (f *folder) weight() int64 {
	n := int64(objectWeight)
	for name := range f.files {
		n += objectWeight + int64(len(name))
	}
	for name, child := range f.folders {
		n += int64(len(name)) + child.weight()
	}
	return n
}

// drop forgets what answers for a name, because it was found out to be old.
func (l *listings) drop(name string) {
	where, _, deep := group(name)
	if !deep {
		where = path.Dir(name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.known.Get(where); ok && known != nil && !known.until.IsZero() {
		l.known.Put(where, nil, 1)
	}
}

// list asks for a directory, with everything below it if it is deep.
func (l *listings) list(ctx context.Context, dir string, deep bool) (*folder, error) {
	prefix := l.c.at.Store + "/" + content + "/"
	if dir != "." {
		prefix += dir + "/"
	}
	f, n := newFolder(), 0
	err := l.c.list(ctx, prefix, deep, l.c.patience, func(o minio.ObjectInfo) error {
		if n++; n > maxListed {
			return fmt.Errorf("%s/%s: more than %d objects", l.c.at, dir, maxListed)
		}
		f.add(strings.TrimPrefix(o.Key, prefix), infoOf(o))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// list calls fn for each object whose key begins with prefix. Unless deep, keys end at the
// next slash, and one may come twice. An error of fn ends the listing.
func (c *client) list(ctx context.Context, prefix string, deep bool, patience time.Duration, fn func(minio.ObjectInfo) error) error {
	done, err := c.slot(ctx)
	if err != nil {
		return err
	}
	defer done()
	ctx, progress, stop := c.watch(ctx, patience)
	defer stop()
	var enough error
	opts := minio.ListObjectsOptions{Prefix: prefix, Recursive: deep}
	err = c.try(ctx, prefix, func() error {
		for o := range c.core.ListObjectsIter(ctx, c.at.Bucket, opts) {
			if o.Err != nil {
				return o.Err
			}
			if len(o.Key) > maxKey {
				return errNoListing
			}
			progress()
			opts.StartAfter = o.Key // for the next attempt
			if !strings.HasPrefix(o.Key, prefix) || o.Key == prefix && strings.HasSuffix(prefix, "/") {
				continue
			}
			if enough = fn(o); enough != nil {
				return nil
			}
		}
		return context.Cause(ctx)
	})
	return errors.Join(enough, err)
}

// notThere says that a name does not exist.
func (c *client) notThere(op, name string) error {
	return &fs.PathError{Op: op, Path: c.at.String() + "/" + name, Err: fs.ErrNotExist}
}
