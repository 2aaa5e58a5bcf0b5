package chunk

import (
	"sync"
	"sync/atomic"
)

// Block is the verified data of one chunk. It is read-only and shared.
type Block struct {
	data []byte
	refs atomic.Int64
	pool *pool // where data goes when the last reference is gone; nil: to the collector
}

// Bytes returns the data, valid until Release. It must not be changed.
func (b *Block) Bytes() []byte { return b.data }

// retain adds a reference to a block that the caller has one of already.
func (b *Block) retain() *Block {
	b.refs.Add(1)
	return b
}

// Release gives one reference back. It must be called once for each Get.
func (b *Block) Release() {
	switch n := b.refs.Add(-1); {
	case n == 0:
		data := b.data
		b.data = nil
		if b.pool != nil {
			b.pool.put(data)
		}
	case n < 0:
		panic("chunk: Block released more often than it was got")
	}
}

// pool keeps a few buffers of released blocks. Chunks of a datastore come in
// few sizes (4 MiB images, streams of 1 to 16 MiB), so that best fit within a
// factor of two finds one nearly always.
type pool struct {
	mu   sync.Mutex
	free [][]byte
	max  int // buffers kept
}

// get returns a buffer with a capacity of at least n, length 0.
func (p *pool) get(n int) []byte {
	p.mu.Lock()
	best := -1
	for i, b := range p.free {
		if c := cap(b); c >= n && c <= 2*n+4096 && (best < 0 || c < cap(p.free[best])) {
			best = i
		}
	}
	if best < 0 {
		p.mu.Unlock()
		return make([]byte, 0, n)
	}
	b := p.free[best]
	last := len(p.free) - 1
	p.free[best], p.free[last] = p.free[last], nil
	p.free = p.free[:last]
	p.mu.Unlock()
	return b[:0]
}

// put takes a buffer back; when the pool is full, the oldest one goes.
func (p *pool) put(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) >= p.max {
		copy(p.free, p.free[1:])
		p.free[len(p.free)-1] = b
		return
	}
	p.free = append(p.free, b)
}

// drop forgets all buffers.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = nil
}
