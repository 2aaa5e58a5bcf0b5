package s3

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/pbsfs/pbsfs/store/internal/chunkfiles"
	"github.com/pbsfs/pbsfs/store/internal/disk"
	"github.com/pbsfs/pbsfs/store/name"
)

// Copies are the places of this machine where chunks of a bucket may lie. A copy is only a
// hint: whoever verifies it and finds it wrong asks for the chunk anew.
type Copies struct {
	// files keeps what was fetched; nil for nothing.
	files *chunkfiles.Cache
	// server is the directory in which a server of this machine keeps its copies, "" for
	// none.
	server string

	hits, misses atomic.Uint64

	mu   sync.Mutex // guards root; nothing is called under it but open and close
	root *disk.Root // of server, while an operation is active
}

// NewCopies returns copies in directories, each of which may be "": one that is ours, of at
// most limit bytes, and the local cache of a server. Its owner must Close it.
func NewCopies(dir string, limit int64, server string, log *slog.Logger) *Copies {
	c := &Copies{server: server}
	if dir != "" {
		c.files = chunkfiles.New(chunkfiles.Options{Dir: dir, Limit: limit, Log: log})
	}
	return c
}

// Counts returns how many of the chunks that were asked for were found on this machine, and
// how many were not.
func (c *Copies) Counts() (hits, misses uint64) { return c.hits.Load(), c.misses.Load() }

// Close waits for what is under way.
func (c *Copies) Close() {
	c.idle()
	if c.files != nil {
		c.files.Close()
	}
}

// idle closes what is open.
func (c *Copies) idle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.root != nil {
		_ = c.root.Close()
		c.root = nil
	}
}

// get returns a copy of a chunk, and whether there is one.
func (c *Copies) get(ctx context.Context, d name.Digest, buf []byte) ([]byte, bool) {
	if root := c.open(); root != nil {
		// An empty file says that the server has evicted the chunk.
		if b, err := root.ReadChunk(ctx, d, buf); err == nil {
			return b, true
		}
	}
	if c.files != nil {
		return c.files.Get(d, buf)
	}
	return nil, false
}

// open returns the open directory of the server's copies, nil if there is none.
func (c *Copies) open() *disk.Root {
	if c.server == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.root == nil {
		root, err := disk.Open(c.server)
		if err != nil {
			return nil
		}
		c.root = root
	}
	return c.root
}

func (c *Copies) keep(d name.Digest, encoded []byte) {
	if c.files != nil {
		c.files.Put(d, encoded)
	}
}

// Near is a bucket of which some chunks lie on this machine as well.
type Near struct {
	*Bucket
	Copies *Copies
}

// ReadChunk returns a copy of a chunk, or the chunk, of which it keeps a copy.
func (n Near) ReadChunk(ctx context.Context, d name.Digest, buf []byte) ([]byte, error) {
	if b, ok := n.Copies.get(ctx, d, buf); ok {
		n.Copies.hits.Add(1)
		return b, nil
	}
	n.Copies.misses.Add(1)
	return n.fetch(ctx, d, buf)
}

// ReadAnew returns the chunk itself, after what ReadChunk returned was found to be wrong.
func (n Near) ReadAnew(ctx context.Context, d name.Digest, buf []byte) ([]byte, error) {
	if n.Copies.files != nil {
		n.Copies.files.Forget(d)
	}
	return n.fetch(ctx, d, buf)
}

func (n Near) fetch(ctx context.Context, d name.Digest, buf []byte) ([]byte, error) {
	b, err := n.Bucket.ReadChunk(ctx, d, buf)
	if err == nil {
		n.Copies.keep(d, b)
	}
	return b, err
}

// Idle closes what no operation needs.
func (n Near) Idle() {
	n.Bucket.Idle()
	n.Copies.idle()
}
