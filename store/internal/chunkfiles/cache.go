package chunkfiles

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/name"
)

const (
	once  = "once"
	again = "again"

	// touchAfter is how old the time of the last use may be before it is brought up to
	// date.
	touchAfter = time.Minute
	// rest is how long nothing is kept after a chunk could not be written.
	rest = 30 * time.Second
)

// Options say where chunks are kept, and how many.
type Options struct {
	Dir string
	// Limit bounds the bytes of all files. For a moment there may be a sixteenth more.
	Limit int64
	Log   *slog.Logger
}

// Cache is a directory with chunks. It is safe for concurrent use. Its owner must Close it.
type Cache struct {
	opts    Options
	cleaner sync.WaitGroup

	// mu guards the fields below. It is a leaf lock.
	mu       sync.Mutex
	since    int64 // bytes that were written since the last cleaning
	cleaning bool
	resting  time.Time // until then nothing is kept
	told     string    // the last complaint
	closed   bool
}

// New returns the cache in a directory, which is made when it is needed. It looks at
// nothing yet; the first chunk that is kept begins a cleaning.
func New(opts Options) *Cache { return &Cache{opts: opts, since: opts.Limit} }

// Close waits for a cleaning that is under way.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cleaner.Wait()
}

func (c *Cache) path(class string, d name.Digest) string {
	text := d.String()
	return filepath.Join(c.opts.Dir, class, text[:2], text)
}

// Get returns a chunk, in buf if its capacity is large enough, and whether it is there. The
// chunk may be damaged.
func (c *Cache) Get(d name.Digest, buf []byte) ([]byte, bool) {
	for _, class := range []string{again, once} {
		if b, info, ok := read(c.path(class, d), buf); ok {
			c.used(class, d, info)
			return b, true
		}
	}
	return nil, false
}

func read(path string, buf []byte) ([]byte, fs.FileInfo, bool) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > blob.MaxEncodedChunk {
		return nil, nil, false
	}
	if int64(cap(buf)) < info.Size() {
		buf = make([]byte, info.Size())
	}
	buf = buf[:info.Size()]
	if _, err := f.ReadAt(buf, 0); err != nil {
		return nil, nil, false
	}
	return buf, info, true
}

// used notes the use of a chunk. If that fails, the chunk is only deleted earlier.
func (c *Cache) used(class string, d name.Digest, info fs.FileInfo) {
	now := time.Now()
	if class == once {
		to := c.path(again, d)
		if err := os.Rename(c.path(once, d), to); errors.Is(err, fs.ErrNotExist) && os.MkdirAll(filepath.Dir(to), 0o700) == nil {
			_ = os.Rename(c.path(once, d), to)
		}
		_ = os.Chtimes(to, now, now)
		return
	}
	if now.Sub(info.ModTime()) > touchAfter {
		_ = os.Chtimes(c.path(again, d), now, now)
	}
}

// Forget removes a chunk that was found to be wrong.
func (c *Cache) Forget(d name.Digest) {
	_ = os.Remove(c.path(once, d))
	_ = os.Remove(c.path(again, d))
}

// Put keeps a chunk, if that is possible.
func (c *Cache) Put(d name.Digest, encoded []byte) {
	if int64(len(encoded)) > c.opts.Limit/16 || !c.mayWrite() {
		return
	}
	if err := c.write(c.path(once, d), encoded); err != nil {
		c.failed(err)
		return
	}
	c.grown(int64(len(encoded)))
}

func (c *Cache) mayWrite() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && !time.Now().Before(c.resting)
}

// failed reports why a chunk could not be kept, each cause once, and lets the disk rest.
func (c *Cache) failed(err error) {
	cause := err
	var onDisk *fs.PathError
	if errors.As(err, &onDisk) {
		cause = onDisk.Err
	}
	c.mu.Lock()
	c.resting = time.Now().Add(rest)
	known := c.told == cause.Error()
	c.told = cause.Error()
	c.mu.Unlock()
	if !known {
		c.opts.Log.Warn("chunks are not kept on disk", "directory", c.opts.Dir, "error", err)
	}
}

// write writes a file that is either whole or not there.
func (c *Cache) write(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), unfinished)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			f, err = os.CreateTemp(filepath.Dir(path), unfinished)
		}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// unfinished is the pattern of temporary names.
const unfinished = "unfinished-*"

// grown counts what was written, and has the cache cleaned now and then.
func (c *Cache) grown(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since += n; c.since < c.opts.Limit/16 || c.cleaning || c.closed {
		return
	}
	c.since, c.cleaning = 0, true
	c.cleaner.Go(func() {
		c.clean()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cleaning = false
	})
}
