package chunk

import (
	"slices"
	"time"
)

// Statistics counts what a source has done since it was made.
type Statistics struct {
	// Hits are chunks that were in memory when they were asked for, Misses the others.
	Hits, Misses uint64
	// Verified is how many bytes of decoded data were found right.
	Verified uint64
	// Failed are loads that gave no chunk.
	Failed uint64
	// Times are how long the other loads took, from the backend's read to the digest.
	Times Times
	// AheadUsed are chunks that were loaded ahead and then asked for, AheadWasted those
	// that left the cache before.
	AheadUsed, AheadWasted uint64
}

// timeBounds are the upper bounds of the classes of [Times], but the last, which has none.
var timeBounds = []time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Times is a histogram of durations.
type Times struct {
	// Counts are how many were at most as long as the bound, and longer than the one
	// before; the last class has no bound.
	Counts []uint64
	Sum    time.Duration
}

// TimeBounds returns the bounds of the classes of [Times], one less than there are classes.
func TimeBounds() []time.Duration { return slices.Clone(timeBounds) }

func (t *Times) add(d time.Duration) {
	if t.Counts == nil {
		t.Counts = make([]uint64, len(timeBounds)+1)
	}
	i, _ := slices.BinarySearch(timeBounds, d)
	t.Counts[i]++
	t.Sum += d
}

// Statistics returns what was counted so far.
func (s *Source) Statistics() Statistics {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.counts
	out.Times.Counts = slices.Clone(out.Times.Counts)
	out.AheadUsed += s.cache.usedLater
	out.AheadWasted = s.cache.unusedGone
	return out
}
