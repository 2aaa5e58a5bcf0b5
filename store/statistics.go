package store

import (
	"time"

	"github.com/pbsfs/pbsfs/store/internal/chunk"
)

// Statistics counts what was done with a datastore since it was opened. Everything but the
// classes of LoadTimes only grows.
type Statistics struct {
	// Chunks are those that were in memory when they were needed, and those that were not.
	Chunks Hits
	// Metadata are parts of archives' metadata that were in memory, MetadataFiles those of
	// the others that an earlier process had kept on disk.
	Metadata, MetadataFiles Hits
	// Copies are chunks of a bucket that were on this machine, and those that were not.
	Copies Hits
	// Verified is how many bytes of chunks were decoded and found right.
	Verified uint64
	// FailedLoads are chunks that could not be loaded.
	FailedLoads uint64
	// LoadTimes are how long the other loads took: to read, verify and decode a chunk.
	LoadTimes Times
	// AheadUsed are chunks that were loaded before they were asked for, and then were;
	// AheadWasted those that were forgotten before.
	AheadUsed, AheadWasted uint64
}

// Hits counts the questions to a cache, by their answer.
type Hits struct{ Hits, Misses uint64 }

// Times is a histogram of durations. Counts has one class more than there are Bounds: the
// i-th counts those up to the i-th bound that are in no earlier class.
type Times struct {
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration
}

// Statistics returns what was counted so far. It reads nothing and waits for nobody.
func (l *Lookup) Statistics() Statistics {
	if l.isZero() {
		return Statistics{}
	}
	d := l.ds.datastore
	c, m := d.chunks.Statistics(), d.memory.metadata.Statistics()
	times := Times{Bounds: chunk.TimeBounds(), Counts: c.Times.Counts, Sum: c.Times.Sum}
	if times.Counts == nil {
		times.Counts = make([]uint64, len(times.Bounds)+1)
	}
	return Statistics{
		Chunks:        Hits{c.Hits, c.Misses},
		Metadata:      Hits{m.Memory, m.Disk + m.Nowhere},
		MetadataFiles: Hits{m.Disk, m.Nowhere},
		Copies:        d.copies(),
		Verified:      c.Verified,
		FailedLoads:   c.Failed,
		LoadTimes:     times,
		AheadUsed:     c.AheadUsed,
		AheadWasted:   c.AheadWasted,
	}
}
