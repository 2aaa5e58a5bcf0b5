package store

import "testing"

// Loads from a bucket fill the line, and take no more memory than a quarter of the cache
// where that is small.
func TestLimitsOfABucket(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		parallel  int
		cacheSize int64
		busy      int64
	}{
		{0, DefaultCacheSize, 128 * mib},
		{4, DefaultCacheSize, 32 * mib},
		{16, 64 * mib, 32 * mib},
		{16, 256 * mib, 64 * mib},
		{64, 4096 * mib, 512 * mib},
	} {
		b := &Bucket{Parallel: tt.parallel}
		if got := b.limits(tt.cacheSize); got.Busy != tt.busy || got.Parallel != b.parallel() {
			t.Errorf("%d requests, a cache of %d MiB: %+v, want %d MiB", tt.parallel, tt.cacheSize/mib, got, tt.busy/mib)
		}
	}
}
