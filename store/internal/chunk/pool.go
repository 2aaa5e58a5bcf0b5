package chunk

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pool gives out buffers for blocks and keeps a few that were given back. Large
// ones are mapped, outside the memory that Go collects: there, a cache of blocks
// would take twice its size between two collections.
type pool struct {
	mu     sync.Mutex
	free   [][]byte           // given back last at the end
	size   int64              // bytes of free
	mapped map[*byte]struct{} // what was mapped, in use or free
}

const (
	minMapped = 128 << 10 // buffers from that size on are mapped
	mapUnit   = 64 << 10  // their sizes are multiples of that
	maxFree   = 16 << 20  // bytes kept
)

// get returns a buffer with a capacity of at least n, length 0. One that was
// given back is taken when it is not a quarter too large.
func (p *pool) get(n int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := -1
	for i, b := range p.free {
		if c := cap(b); c >= n && c <= n+n/4+4096 && (best < 0 || c < cap(p.free[best])) {
			best = i
		}
	}
	if best >= 0 {
		return p.take(best)
	}
	if n < minMapped {
		return make([]byte, 0, n)
	}
	return p.mmap((n + mapUnit - 1) / mapUnit * mapUnit)
}

// take takes the i-th free buffer, with p.mu held.
func (p *pool) take(i int) []byte {
	b := p.free[i]
	p.free = append(p.free[:i], p.free[i+1:]...)
	p.size -= int64(cap(b))
	return b[:0]
}

// mmap maps a buffer, with p.mu held. The kernel allows a process only so many
// mappings: beyond those, Go has memory.
func (p *pool) mmap(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]byte, 0, n)
	}
	if p.mapped == nil {
		p.mapped = make(map[*byte]struct{})
	}
	p.mapped[unsafe.SliceData(b)] = struct{}{}
	return b[:0]
}

// put takes a buffer back. It keeps it for the next one who needs one like it,
// and lets go of the oldest ones when those are too many.
func (p *pool) put(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, b)
	p.size += int64(cap(b))
	for p.size > maxFree {
		p.unmap(p.take(0))
	}
}

// unmap gives a buffer back to the system, with p.mu held, if it was mapped.
func (p *pool) unmap(b []byte) {
	at := unsafe.SliceData(b[:cap(b)])
	if _, ok := p.mapped[at]; !ok {
		return
	}
	delete(p.mapped, at)
	if err := unix.Munmap(b[:cap(b)]); err != nil {
		panic("chunk: unmapping a buffer: " + err.Error()) // it was mapped as a whole
	}
}

// drop forgets all free buffers.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.free) > 0 {
		p.unmap(p.take(0))
	}
}
