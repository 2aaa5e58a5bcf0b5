package chunk

import (
	"sync/atomic"
)

// Block is the verified data of one chunk. It is read-only and shared.
type Block struct {
	data []byte
	refs atomic.Int64
	pool *pool // where data goes when the last reference is gone; nil means to the garbage collector
}

// Bytes returns the data, valid until Release. It must not be changed.
func (b *Block) Bytes() []byte { return b.data }

// retain adds a reference. The caller must have one already.
func (b *Block) retain() *Block {
	b.refs.Add(1)
	return b
}

// Release releases one reference. It must be called once for each Get.
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
