package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmarks measure whole uses of a mount, each beside other ways to reach
// the same files. Subjects take turns, round by round, so that what disturbs
// the machine disturbs all of them. Reported are each subject's median in
// seconds, SUBJECT-s, what the first one needs in proportion, x-SUBJECT, and
// where it matters the memory of the serving process, SUBJECT-MiB.
//
// -benchtime 5x is five rounds. "cold" begins with nothing in the kernel's
// caches and with a new mount; "warm" is what has been done before.

// work is done with the files at path. It returns a count that says what was
// done, the same for all subjects.
type work struct {
	do   func(path string) (int64, error)
	with string // the program that is used, if any
	rate string // also reported: counts in a second, of what
}

// ready brings the program back into memory: reading that is not measured.
func (w work) ready(b *testing.B) {
	b.Helper()
	if w.with != "" {
		execute(b, exec.Command(w.with, "--version"))
	}
}

// What is measured.
var ( //nolint:gochecknoglobals // constants
	readWork   = work{do: readFile}
	randomWork = work{do: readRandom}
	tarWork    = work{do: tarToPipe, with: "tar"}
	findWork   = work{do: countLines("find", "-ls"), with: "find"}
	listWork   = work{do: countLines("ls"), with: "ls"}
)

// BenchmarkImage reads an image from its beginning to its end.
func BenchmarkImage(b *testing.B) {
	all := subjects(b, benchStore(b, "ds-basic"), images[0])
	b.Run("read", func(b *testing.B) { coldAndWarm(b, all, readWork) })
}

// BenchmarkTree works on an archive of 5,000 files and 140 MiB.
func BenchmarkTree(b *testing.B) {
	all := subjects(b, benchStore(b, "ds-nasty"), nasty)
	b.Run("read", func(b *testing.B) { coldAndWarm(b, all, randomWork) })
	b.Run("tar", func(b *testing.B) { coldAndWarm(b, all, tarWork) })
	b.Run("find", func(b *testing.B) { coldAndWarm(b, all, findWork) })
	small := work{do: readAll(smallFiles(b, all[0])), rate: "files/s"}
	b.Run("small", func(b *testing.B) { coldAndWarm(b, all, small) })
}

func coldAndWarm(b *testing.B, all []subject, w work) {
	b.Run("cold", func(b *testing.B) { measureCold(b, all, w) })
	b.Run("warm", func(b *testing.B) { measureWarm(b, all, w) })
}

func measureCold(b *testing.B, all []subject, w work) {
	needDropCaches(b)
	alternate(b, all, w.rate, func(s subject) (time.Duration, int64) {
		dropCaches(b)
		at := s.mount(b)
		defer at.end()
		w.ready(b)
		return timed(b, w, at.path)
	})
}

func measureWarm(b *testing.B, all []subject, w work) {
	paths := map[string]string{}
	for _, s := range all {
		paths[s.name] = s.mount(b).path
		timed(b, w, paths[s.name])
	}
	alternate(b, all, w.rate, func(s subject) (time.Duration, int64) { return timed(b, w, paths[s.name]) })
}

// timed does the work, and returns how long that took and what it counted.
func timed(b *testing.B, w work, path string) (time.Duration, int64) {
	b.Helper()
	start := time.Now()
	n, err := w.do(path)
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

// readRandom reads a file of 40 MiB that does not compress, so that every byte
// of it is of the datastore.
func readRandom(tree string) (int64, error) { return readFile(filepath.Join(tree, "sizes/random-big")) }

// tarToPipe makes a tar archive, and counts bytes. GNU tar would not read the
// files at all if it wrote to /dev/null.
func tarToPipe(tree string) (int64, error) {
	cmd := exec.Command("tar", "-cf", "-", "-C", tree, ".")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	kill := time.AfterFunc(benchTimeout, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	n, err := io.CopyBuffer(justWriter{}, out, make([]byte, 128<<10))
	return n, errors.Join(err, cmd.Wait())
}

// countLines counts what a program prints about what is at path.
func countLines(name string, args ...string) func(path string) (int64, error) {
	return func(path string) (int64, error) {
		out, err := output(exec.Command(name, append([]string{path}, args...)...))
		return int64(bytes.Count(out, []byte("\n"))), err
	}
}

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

// readAll opens, reads and closes files, and counts them.
func readAll(names []string) func(tree string) (int64, error) {
	return func(tree string) (int64, error) {
		for i, name := range names {
			if _, err := os.ReadFile(filepath.Join(tree, name)); err != nil {
				return int64(i), err
			}
		}
		return int64(len(names)), nil
	}
}

// BenchmarkSnapshots mounts a datastore with 10,000 snapshots in one group, and
// one with 10 of them, which should not differ before they are listed.
func BenchmarkSnapshots(b *testing.B) {
	dir := scratch(b)
	group := filepath.Dir(vm100)
	store := manySnapshots(b, dir, 10000)
	all := []subject{
		pbsfs("pbsfs", store, group),
		pbsfs("pbsfs10", manySnapshots(b, dir, 10), group),
		raw(filepath.Join(store, group)),
	}
	if image, ok := squash(b, store, "-e", filepath.Join(store, ".chunks")); ok {
		all = append(all, squashfuse(image, group))
	}
	noRaw := slices.DeleteFunc(slices.Clone(all), func(s subject) bool { return s.name == "raw" })
	b.Run("mount", func(b *testing.B) { benchmarkMount(b, noRaw) })
	b.Run("ls", func(b *testing.B) { benchmarkList(b, all, func() {}) })
	b.Run("ls/cold", func(b *testing.B) {
		needDropCaches(b)
		benchmarkList(b, all, func() { dropCaches(b) })
	})
	b.Run("unmount", func(b *testing.B) { benchmarkUnmount(b, noRaw[:2]) })
}

// benchmarkMount measures until the tree answers.
func benchmarkMount(b *testing.B, all []subject) {
	memory := memories{}
	alternate(b, all, "", func(s subject) (time.Duration, int64) {
		at := s.mount(b)
		defer at.end()
		memory.add(b, s, at)
		return at.took, 0
	})
	memory.report(b)
}

// benchmarkList measures the first listing of a group's snapshots in a mount.
func benchmarkList(b *testing.B, all []subject, before func()) {
	memory := memories{}
	alternate(b, all, "", func(s subject) (time.Duration, int64) {
		at := s.mount(b)
		defer at.end()
		before()
		listWork.ready(b)
		took, _ := timed(b, listWork, at.path)
		memory.add(b, s, at)
		return took, 0
	})
	memory.report(b)
}

// benchmarkUnmount measures until the serving process has ended.
func benchmarkUnmount(b *testing.B, all []subject) {
	alternate(b, all, "", func(s subject) (time.Duration, int64) {
		at := s.mount(b)
		timed(b, listWork, at.path)
		start := time.Now()
		at.end()
		return time.Since(start), 0
	})
}

// memories holds what serving processes have in memory, by subject.
type memories map[string][]float64

func (m memories) add(b *testing.B, s subject, at *served) {
	b.Helper()
	if at.pid == 0 {
		return
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", at.pid))
	check(b, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			check(b, err)
			m[s.name] = append(m[s.name], kib/1024)
		}
	}
}

func (m memories) report(b *testing.B) {
	b.Helper()
	for name, v := range m {
		b.ReportMetric(median(v), name+"-MiB")
	}
}
