package chunk

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestReadsAreCounted(t *testing.T) {
	p := newPlace(t)
	const size = 1000
	data := text(1, size)
	d, gone := p.Chunk(data, nil), p.Chunk(text(2, size), nil)
	must(os.Remove(filepath.Join(p.Dir, storetest.ChunkFile(gone))))
	s := NewSource(1<<20, LocalLimits())
	for range 3 {
		mustGet(t, s, p, plain(d, size)).Release()
	}
	if _, err := s.Get(t.Context(), plain(gone, size), false, p.hold); err == nil {
		t.Fatal("a chunk that is not there was read")
	}
	got := s.Statistics()
	if got.Hits != 2 || got.Misses != 2 || got.Verified != size || got.Failed != 1 {
		t.Errorf("got %+v, want 2 hits, 2 misses, %d bytes verified, 1 failure", got, size)
	}
	var loads uint64
	for _, n := range got.Times.Counts {
		loads += n
	}
	if loads != 1 || got.Times.Sum <= 0 || len(got.Times.Counts) != len(TimeBounds())+1 {
		t.Errorf("got the times %+v of %d loads, want one", got.Times, loads)
	}
	got.Times.Counts[0] += 100
	if now := s.Statistics(); slices.Equal(now.Times.Counts, got.Times.Counts) {
		t.Error("what was returned is what is counted in")
	}
}

func TestWhatWasLoadedAheadIsUsedOrWasted(t *testing.T) {
	p := newPlace(t)
	const size = 1000
	var want []Want
	for i := range 4 {
		want = append(want, plain(p.Chunk(text(i, size), nil), size))
	}
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(1<<20, LocalLimits())
		for _, w := range want[:2] {
			s.Ahead(w, p.hold)
		}
		synctest.Wait()
		for range 2 { // the second use is none of what was loaded ahead
			mustGet(t, s, p, want[0]).Release()
		}
		s.Drop() // and want[1] was never used
		// A reader that comes while it is loaded ahead uses it.
		p.gate = make(chan struct{})
		s.Ahead(want[2], p.hold)
		synctest.Wait()
		done := make(chan struct{})
		go func() {
			mustGet(t, s, p, want[2]).Release()
			close(done)
		}()
		synctest.Wait()
		close(p.gate)
		<-done
		mustGet(t, s, p, want[3]).Release() // was not loaded ahead
		if got := s.Statistics(); got.AheadUsed != 2 || got.AheadWasted != 1 {
			t.Errorf("%d used and %d wasted, want 2 and 1", got.AheadUsed, got.AheadWasted)
		}
		s.Drop()
		if got := s.Statistics(); got.AheadUsed != 2 || got.AheadWasted != 1 {
			t.Errorf("after all was dropped: %d used and %d wasted, want 2 and 1", got.AheadUsed, got.AheadWasted)
		}
	})
}

func TestTimesFallIntoTheirClass(t *testing.T) {
	var times Times
	bounds := TimeBounds()
	for _, d := range []time.Duration{0, bounds[0], bounds[0] + 1, bounds[len(bounds)-1], bounds[len(bounds)-1] + 1, time.Hour} {
		times.add(d)
	}
	last := len(bounds)
	for class, want := range map[int]uint64{0: 2, 1: 1, last - 1: 1, last: 2} {
		if times.Counts[class] != want {
			t.Errorf("class %d has %d, want %d", class, times.Counts[class], want)
		}
	}
}
