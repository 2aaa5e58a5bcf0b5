//go:build !race

// The race detector makes what is here ten times as slow, and tells nothing about memory:
// make unit runs it.

package s3

import (
	"fmt"
	"net/http/httptest"
	"runtime"
	"testing"
)

// Listings of everything are forgotten before they need too much memory.
func TestListingsTakeBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("lists a million snapshots")
	}
	h := new(huge)
	s := httptest.NewServer(h)
	defer s.Close()
	b := hugeBucket(t, s)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const looked = 1500 // 750,000 objects
	for i := range looked {
		if _, err := b.List(t.Context(), fmt.Sprintf("vm/%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d groups, %d snapshots: %d requests, %d MiB", looked, looked*hugeSnapshots, h.requests.Load(), grown>>20)
	if grown > 2*listingBytes {
		t.Errorf("%d MiB for listings", grown>>20)
	}
}
