package metadata

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pbsfs/pbsfs/store/internal/lru"
)

// Archive identifies an archive by the checksum of its index.
type Archive [32]byte

// key identifies a piece by the number of a chunk in an archive.
type key struct {
	archive Archive
	chunk   int
}

const (
	// A file is written whole. So a new piece waits for others to be written with it:
	// for minPause, or for pauses times as long as the last writing took, whichever is
	// longer.
	minPause = time.Second
	pauses   = 20
	// maxPending bounds the bytes that wait to be written. Pieces beyond it are not
	// written.
	maxPending = 16 << 20
)

// Options say where a cache keeps its files, and how much it keeps.
type Options struct {
	// Memory bounds the memory of the cache, in bytes.
	Memory int64
	// Dir is the directory of the files; there are none if it is "".
	Dir string
	// Disk bounds the size of the files, in bytes.
	Disk int64
	// Log gets errors about the files, which do not concern any caller.
	Log *slog.Logger
}

// Cache remembers pieces. It is safe for concurrent use.
type Cache struct {
	opts   Options
	pieces *lru.Cache[key, *Piece]
	files  *lru.Cache[Archive, *file]
	counts counts

	// writing is held while files are written.
	writing sync.Mutex

	mu      sync.Mutex
	pending map[Archive][]record
	size    int64       // bytes of pending
	timer   *time.Timer // set while something is pending
	pause   time.Duration
	closed  bool
}

// counts counts where pieces were found.
type counts struct{ memory, disk, none atomic.Uint64 }

// Statistics counts where the pieces were that were asked for.
type Statistics struct{ Memory, Disk, Nowhere uint64 }

// Statistics returns what was counted so far.
func (c *Cache) Statistics() Statistics {
	return Statistics{Memory: c.counts.memory.Load(), Disk: c.counts.disk.Load(), Nowhere: c.counts.none.Load()}
}

// knownFiles is how many files' records are known at a time.
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

// Piece returns what is known of a chunk, nil if there is nothing.
func (c *Cache) Piece(a Archive, chunk int) *Piece {
	k := key{a, chunk}
	if p, ok := c.pieces.Get(k); ok {
		c.counts.memory.Add(1)
		return p
	}
	body := c.load(a, kindPiece, uint64(chunk))
	if body == nil {
		c.counts.none.Add(1)
		return nil
	}
	p, err := decode(body)
	if err != nil {
		c.counts.none.Add(1)
		return nil
	}
	c.counts.disk.Add(1)
	c.pieces.Put(k, p, p.weight())
	return p
}

// PutPiece stores a piece, in place of an earlier one of that chunk. If write is set,
// it is stored in a file as well.
func (c *Cache) PutPiece(a Archive, chunk int, p *Piece, write bool) {
	c.pieces.Put(key{a, chunk}, p, p.weight())
	if write {
		c.write(a, record{kind: kindPiece, number: uint64(chunk), body: p.encode}, p.weight())
	}
}

// Note returns what PutNote stored about an archive, nil if there is nothing.
func (c *Cache) Note(a Archive) []byte { return c.load(a, kindNote, 0) }

// PutNote stores data about an archive besides pieces, in a file only.
func (c *Cache) PutNote(a Archive, note []byte) {
	c.write(a, record{kind: kindNote, body: func() []byte { return note }}, int64(len(note)))
}

// write makes sure that a record is written soon.
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

// flush writes the pending records.
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
		c.files.Drop() // they must be scanned anew
	}
	if len(pending) > 0 {
		c.shrink()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pause = pauses * time.Since(start)
}

// Close writes the pending records. Records that are put later are not written.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.flush()
}
