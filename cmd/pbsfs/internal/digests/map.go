package digests

import (
	"hash/maphash"
	"iter"
	"math/bits"

	"github.com/pbsfs/pbsfs/store/name"
)

const (
	blockEntries = 14   // entries of a block
	slabBlocks   = 1024 // blocks that are allocated at a time
	// load is how many entries a bucket has on average: several blocks, of which only
	// the last is not full.
	load = 8 * blockEntries
)

// Map maps digests to values. The zero Map is empty.
type Map[V comparable] struct {
	seed    maphash.Seed
	buckets []uint32 // the first block of each; 0 if it has none
	slabs   [][]block[V]
	blocks  uint32 // how many are in use; number 0 is none
	free    uint32 // the first block that is not used any more
	count   int
}

// block is a part of a bucket.
type block[V comparable] struct {
	next    uint32 // 0 for the last
	n       uint32
	entries [blockEntries]entry[V]
}

type entry[V comparable] struct {
	value  V
	digest name.Digest
}

// Len returns the number of entries.
func (m *Map[V]) Len() int { return m.count }

// Get returns a value of d, nil if there is none. It may be changed through the pointer,
// which is valid until the next Add.
func (m *Map[V]) Get(d name.Digest) *V {
	return m.find(d, func(V) bool { return true })
}

// Has reports whether v is among the values of d.
func (m *Map[V]) Has(d name.Digest, v V) bool {
	return m.find(d, func(have V) bool { return have == v }) != nil
}

// Add adds a value of d, besides those that d has.
func (m *Map[V]) Add(d name.Digest, v V) {
	if m.buckets == nil {
		m.seed, m.buckets, m.blocks = maphash.MakeSeed(), make([]uint32, 1), 1
	}
	m.put(m.bucket(d), entry[V]{v, d})
	if m.count++; m.count > load*len(m.buckets) {
		m.split()
	}
}

// All returns all entries, in no order. Values may be changed, and nothing added
// meanwhile.
func (m *Map[V]) All() iter.Seq2[name.Digest, *V] {
	return func(yield func(name.Digest, *V) bool) {
		for _, first := range m.buckets {
			for i := first; i != 0; i = m.block(i).next {
				b := m.block(i)
				for k := range b.n {
					if e := &b.entries[k]; !yield(e.digest, &e.value) {
						return
					}
				}
			}
		}
	}
}

// find returns the first value of d that ok accepts.
func (m *Map[V]) find(d name.Digest, ok func(V) bool) *V {
	if m.buckets == nil {
		return nil
	}
	for i := m.buckets[m.bucket(d)]; i != 0; {
		b := m.block(i)
		entries := b.entries[:b.n]
		for k := range entries {
			if e := &entries[k]; e.digest == d && ok(e.value) {
				return &e.value
			}
		}
		i = b.next
	}
	return nil
}

// bucket returns the bucket of d. Of a power of two of buckets, some have been split.
func (m *Map[V]) bucket(d name.Digest) int {
	h := maphash.Bytes(m.seed, d[:])
	size := uint64(1) << bits.Len(uint(len(m.buckets)-1))
	if i := h & (size - 1); i < uint64(len(m.buckets)) {
		return int(i)
	}
	return int(h & (size/2 - 1))
}

// split divides the next bucket in two.
func (m *Map[V]) split() {
	n := len(m.buckets)
	from := n - 1<<(bits.Len(uint(n))-1)
	i := m.buckets[from]
	m.buckets[from] = 0
	m.buckets = append(m.buckets, 0)
	for i != 0 {
		old := *m.block(i)
		m.release(i)
		for k := range old.n {
			e := old.entries[k]
			m.put(m.bucket(e.digest), e)
		}
		i = old.next
	}
}

// put adds an entry to a bucket. Only the first block of a bucket may have room.
func (m *Map[V]) put(bucket int, e entry[V]) {
	i := m.buckets[bucket]
	if i == 0 || m.block(i).n == blockEntries {
		i = m.allocate()
		m.block(i).next = m.buckets[bucket]
		m.buckets[bucket] = i
	}
	b := m.block(i)
	b.entries[b.n] = e
	b.n++
}

func (m *Map[V]) block(i uint32) *block[V] { return &m.slabs[i/slabBlocks][i%slabBlocks] }

// allocate returns an empty block.
func (m *Map[V]) allocate() uint32 {
	if i := m.free; i != 0 {
		m.free = m.block(i).next
		*m.block(i) = block[V]{}
		return i
	}
	if int(m.blocks/slabBlocks) == len(m.slabs) {
		m.slabs = append(m.slabs, make([]block[V], slabBlocks))
	}
	m.blocks++
	return m.blocks - 1
}

// release keeps a block for the next that needs one.
func (m *Map[V]) release(i uint32) {
	m.block(i).n, m.block(i).next = 0, m.free
	m.free = i
}
