package metadata

import (
	"log/slog"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/store/internal/lru"
)

// Archive is what an archive is found by: the checksum of its index.
type Archive [32]byte

// key names a piece: the number of a chunk in an archive.
type key struct {
	archive Archive
	chunk   int
}

const (
	// minPause is how long what was found waits for more of it to be written
	// with, and pauses how many times as long as writing took, if that is more:
	// a file is written whole.
	minPause = time.Second
	pauses   = 20
	// maxPending bounds what waits to be written, in bytes: what comes then is
	// not written.
	maxPending = 16 << 20
)

// Options say where a cache is and how much it keeps.
type Options struct {
	// Memory bounds what is kept in memory, in bytes.
	Memory int64
	// Dir is the directory of the files; there are none if it is "".
	Dir string
	// Disk bounds the files, in bytes.
	Disk int64
	// Log gets what goes wrong with the files, which nobody else needs to know.
	Log *slog.Logger
}

// Cache remembers pieces. It is safe for concurrent use.
type Cache struct {
	opts   Options
	pieces *lru.Cache[key, *Piece]
	files  *lru.Cache[Archive, *file]

	// writing is held while files are written.
	writing sync.Mutex

	mu      sync.Mutex
	pending map[Archive][]record
	size    int64       // bytes of pending
	timer   *time.Timer // set while something is pending
	pause   time.Duration
	closed  bool
}

// knownFiles is how many files are known at a time, by what is in them.
const knownFiles = 64

// New returns a cache. The caller must Close it.
func New(opts Options) *Cache {
	return &Cache{
		opts:    opts,
		pieces:  lru.New[key, *Piece](opts.Memory),
		files:   lru.New[Archive, *file](knownFiles),
		pending: make(map[Archive][]record),
	}
}

// Piece returns what is known of a chunk, nil if nothing.
func (c *Cache) Piece(a Archive, chunk int) *Piece {
	k := key{a, chunk}
	if p, ok := c.pieces.Get(k); ok {
		return p
	}
	body := c.load(a, kindPiece, uint64(chunk))
	if body == nil {
		return nil
	}
	p, err := decode(body)
	if err != nil {
		return nil
	}
	c.pieces.Put(k, p, p.weight())
	return p
}

// PutPiece remembers a piece, in place of another one of that chunk; also in a
// file, if write is set.
func (c *Cache) PutPiece(a Archive, chunk int, p *Piece, write bool) {
	c.pieces.Put(key{a, chunk}, p, p.weight())
	if write {
		c.write(a, record{kind: kindPiece, number: uint64(chunk), body: p.encode}, p.weight())
	}
}

// Note returns what was remembered of an archive besides pieces, nil if nothing.
func (c *Cache) Note(a Archive) []byte { return c.load(a, kindNote, 0) }

// PutNote remembers something about an archive besides pieces, in a file only.
func (c *Cache) PutNote(a Archive, note []byte) {
	c.write(a, record{kind: kindNote, body: func() []byte { return note }}, int64(len(note)))
}

// write has a record written soon.
func (c *Cache) write(a Archive, r record, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opts.Dir == "" || c.closed || c.size+size > maxPending {
		return
	}
	c.pending[a] = append(c.pending[a], r)
	c.size += size
	if c.timer == nil {
		c.timer = time.AfterFunc(max(minPause, c.pause), c.flush)
	}
}

// flush writes what is pending.
func (c *Cache) flush() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	pending := c.pending
	c.pending, c.size, c.timer = make(map[Archive][]record), 0, nil
	c.mu.Unlock()
	start := time.Now()
	for a, records := range pending {
		if err := c.save(a, records); err != nil {
			c.opts.Log.Debug("metadata is not kept on disk", "directory", c.opts.Dir, "error", err)
			continue
		}
		c.files.Drop() // they are to be looked at anew
	}
	if len(pending) > 0 {
		c.shrink()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pause = pauses * time.Since(start)
}

// Close writes what is pending. What is put later is not written.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.flush()
}
