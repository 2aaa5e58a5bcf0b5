package integration

import (
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmarks here compare pbsfs with itself: keys with none, counting with
// not counting. The program in bench compares it with others. Subjects take
// turns, round by round, so that what disturbs the machine disturbs all of them.
// Reported are each subject's median in seconds, SUBJECT-s, and what the first
// one needs in proportion, x-SUBJECT.
//
// -benchtime 5x is five rounds. "cold" begins with nothing in the kernel's
// caches and with a new mount; "warm" is what has been done before.

// timed does what is measured with the files at path, and returns how long that took and what it counted.
func timed(b *testing.B, do func(path string) (int64, error), path string) (time.Duration, int64) {
	b.Helper()
	start := time.Now()
	n, err := do(path)
	took := time.Since(start)
	if err != nil {
		b.Fatalf("%s: %v", path, err)
	}
	return took, n
}

// alternate lets all subjects take their turns, in another order each round,
// and reports.
func alternate(b *testing.B, all []subject, rate string, turn func(subject) (time.Duration, int64)) {
	took := map[string][]float64{}
	var counts []int64
	for round := 0; b.Loop(); round++ {
		for i := range all {
			s := all[(i+round)%len(all)]
			d, n := turn(s)
			took[s.name] = append(took[s.name], d.Seconds())
			if counts = append(counts, n); n != counts[0] {
				b.Fatalf("%s: got a count of %d, want %d", s.name, n, counts[0])
			}
		}
	}
	b.ReportMetric(0, "ns/op") // a round of all subjects means nothing
	first := median(took[all[0].name])
	for i, s := range all {
		m := median(took[s.name])
		b.ReportMetric(m, s.name+"-s")
		if i > 0 {
			b.ReportMetric(first/m, "x-"+s.name)
		}
		if rate != "" {
			b.ReportMetric(float64(counts[0])/m, s.name+"-"+rate)
		}
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

const dropCachesFile = "/proc/sys/vm/drop_caches"

func needDropCaches(b *testing.B) {
	b.Helper()
	if err := unix.Access(dropCachesFile, unix.W_OK); err != nil {
		b.Skipf("needs root, to empty the kernel's caches: %v", err)
	}
}

// dropCaches empties the kernel's caches of pages, names and inodes.
func dropCaches(b *testing.B) {
	b.Helper()
	unix.Sync() // what is not written cannot be dropped
	check(b, os.WriteFile(dropCachesFile, []byte("3"), 0))
}

// readFile reads a file in pieces of 1 MiB, and counts bytes.
func readFile(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return io.CopyBuffer(justWriter{}, f, make([]byte, 1<<20)) // no ReadFrom, no WriteTo
}

// justWriter takes everything.
type justWriter struct{}

func (justWriter) Write(p []byte) (int, error) { return len(p), nil }

// smallFiles returns files of a few bytes, 2,000 of the 5,000 in a directory.
func smallFiles(b *testing.B, s subject) []string {
	b.Helper()
	at := s.mount(b)
	defer at.end()
	entries, err := os.ReadDir(filepath.Join(at.path, "many"))
	check(b, err)
	var names []string
	for _, e := range entries[:2000] {
		names = append(names, filepath.Join("many", e.Name()))
	}
	return names
}
