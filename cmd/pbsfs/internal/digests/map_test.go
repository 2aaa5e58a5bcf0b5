package digests

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/pbsfs/pbsfs/store/name"
)

func digest(rng *rand.Rand) (d name.Digest) {
	for i := range 4 {
		binary.LittleEndian.PutUint64(d[8*i:], rng.Uint64())
	}
	return d
}

// A Map answers as the built-in map does.
func TestMapIsLikeTheBuiltInOne(t *testing.T) {
	for _, size := range []int{0, 1, blockEntries, load, load + 1, 50_000} {
		rng := rand.New(rand.NewPCG(1, uint64(size)))
		var m Map[uint32]
		want := make(map[name.Digest]uint32)
		for i := range size {
			d := digest(rng)
			if m.Get(d) != nil {
				t.Fatalf("%d: a digest is there before it was added", size)
			}
			m.Add(d, uint32(i))
			want[d] = uint32(i)
		}
		if m.Len() != len(want) {
			t.Errorf("%d: got length %d", size, m.Len())
		}
		for d, v := range want {
			if got := m.Get(d); got == nil || *got != v || !m.Has(d, v) || m.Has(d, v+1) {
				t.Fatalf("%d: got %v for a digest with the value %d", size, got, v)
			}
			*m.Get(d)++
		}
		n := 0
		for d, v := range m.All() {
			if n++; *v != want[d]+1 {
				t.Fatalf("%d: got the value %d, want %d", size, *v, want[d]+1)
			}
		}
		if n != size {
			t.Errorf("%d: got %d entries", size, n)
		}
		if m.Get(digest(rng)) != nil {
			t.Errorf("%d: a digest that was not added is there", size)
		}
	}
}

func TestMapKeepsSeveralValuesOfOneDigest(t *testing.T) {
	var m Map[uint32]
	d := name.Digest{1}
	for v := range uint32(3 * load) {
		m.Add(d, v)
	}
	for v := range uint32(3 * load) {
		if !m.Has(d, v) {
			t.Fatalf("value %d is missing", v)
		}
	}
	if m.Has(d, 3*load) || m.Has(name.Digest{2}, 0) {
		t.Error("a value is there that was not added")
	}
}

// BenchmarkAdd says what an entry takes: of memory that is in use, and of the most that
// the heap had while entries were added.
func BenchmarkAdd(b *testing.B) {
	const entries = 2_000_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		rng := rand.New(rand.NewPCG(1, 2))
		var m Map[uint32]
		for range entries {
			if d := digest(rng); m.Get(d) == nil {
				m.Add(d, 1)
			}
		}
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/entries, "all-B/entry")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/entries, "B/entry")
		runtime.KeepAlive(&m)
	}
}
