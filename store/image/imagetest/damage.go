package imagetest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	page     = 4096
	deadline = 25 * time.Second
	maxHeap  = 64 << 20 // above what there was
)

// Counter counts what is read, and can be told to give wrong bytes, none, or errors.
type Counter struct {
	R     io.ReaderAt
	Calls atomic.Int64
	Bytes atomic.Int64

	mu    sync.Mutex
	pages map[int64]bool // those that were read, if not nil

	flips map[int64]byte // by offset
	bad   map[int64]bool // pages
}

var errUnreadable = errors.New("made: page cannot be read")

func (c *Counter) ReadAt(p []byte, off int64) (int, error) {
	c.Calls.Add(1)
	c.Bytes.Add(int64(len(p)))
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	first, last := off/page, (off+int64(len(p))-1)/page
	for i := first; i <= last; i++ {
		if c.bad[i] {
			return 0, errUnreadable
		}
		if c.pages != nil {
			c.mu.Lock()
			c.pages[i] = true
			c.mu.Unlock()
		}
	}
	n, err := c.R.ReadAt(p, off)
	for at, b := range c.flips {
		if at >= off && at < off+int64(n) {
			p[at-off] ^= b
		}
	}
	return n, err
}

// pagesOf returns the pages that a walk reads.
func pagesOf(t testing.TB, r io.ReaderAt, size int64, open OpenFunc, content bool) []int64 {
	t.Helper()
	c := &Counter{R: r, pages: map[int64]bool{}}
	fsys, err := open(c, size)
	if err != nil {
		t.Fatal(err)
	}
	if errs := Walk(fsys, c, content); len(errs) > 0 {
		t.Fatalf("the image that is to be damaged has errors: %v", errs[0])
	}
	var all []int64
	for p := range c.pages {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// Damage walks variants of an image. Each has a few wrong bytes in pages that hold the
// structures of the file system; each tenth is cut off instead.
func Damage(t testing.TB, r io.ReaderAt, size int64, open OpenFunc, runs int) {
	t.Helper()
	pages := pagesOf(t, r, size, open, false)
	idle := heap()
	outcome := map[string]int{}
	for run := range runs {
		rnd := rand.New(rand.NewPCG(uint64(run), 1))
		c, n := &Counter{R: r, flips: map[int64]byte{}}, size
		if run%10 == 9 {
			n = rnd.Int64N(size)
			c.R = io.NewSectionReader(r, 0, n)
		} else {
			for range 1 << rnd.IntN(8) {
				c.flips[pages[rnd.IntN(len(pages))]*page+rnd.Int64N(page)] = byte(1 + rnd.IntN(255))
			}
		}
		outcome[damaged(t, c, n, open, idle, run)]++
	}
	t.Logf("%d variants: %v", runs, outcome)
}

// damaged walks one variant with an eye on the clock and on memory.
func damaged(t testing.TB, c *Counter, size int64, open OpenFunc, idle uint64, run int) string {
	t.Helper()
	done := make(chan string, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Sprintf("panic: %v\n%s", p, stack())
			}
		}()
		fsys, err := open(c, size)
		if err != nil {
			what := "not opened"
			if Unexpected(err) {
				what = "unexpected: " + err.Error()
			}
			done <- what
			return
		}
		errs := Walk(fsys, c, true)
		for _, err := range errs {
			if Unexpected(err) {
				done <- "unexpected: " + err.Error()
				return
			}
		}
		done <- map[bool]string{true: "walked with errors", false: "walked"}[len(errs) > 0]
	}()
	for end := time.Now().Add(deadline); ; {
		select {
		case what := <-done:
			if strings.Contains(what, "panic: ") || strings.Contains(what, "unexpected: ") {
				t.Errorf("variant %d: %s", run, what)
				return "wrong"
			}
			return what
		case <-time.After(20 * time.Millisecond):
			if h := heap(); h > idle+maxHeap && liveHeap() > idle+maxHeap {
				t.Fatalf("variant %d: %d MiB of memory", run, (h-idle)>>20)
			}
			if time.Now().After(end) {
				buf := make([]byte, 1<<20)
				t.Fatalf("variant %d: no end after %v\n%s", run, deadline, buf[:runtime.Stack(buf, true)])
			}
		}
	}
}

// Unexpected reports whether an error is one that wrong bytes must not lead to.
func Unexpected(err error) bool {
	for _, ok := range []error{corrupt.Err, image.ErrUnknown, image.ErrUnsupported, image.ErrEncrypted} {
		if errors.Is(err, ok) && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

func stack() []byte {
	buf := make([]byte, 8<<10)
	return buf[:runtime.Stack(buf, false)]
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// liveHeap is heap without what nobody holds any longer.
func liveHeap() uint64 {
	runtime.GC()
	return heap()
}

// Unreadable walks an image in which some pages cannot be read. Whatever is missing or
// different must have come with the error of the source; and when the pages can be read
// again, all is there again.
func Unreadable(t testing.TB, r io.ReaderAt, size int64, open OpenFunc, runs int) {
	t.Helper()
	pages := pagesOf(t, r, size, open, true)
	whole, err := open(r, size)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]seen{}
	walk(whole, r, true, func(path string, s seen) { want[path] = s })
	outcome := map[string]int{}
	for run := range runs {
		rnd := rand.New(rand.NewPCG(uint64(run), 2))
		c := &Counter{R: r, bad: map[int64]bool{}}
		for range 1 + rnd.IntN(8) {
			c.bad[pages[rnd.IntN(len(pages))]] = true
		}
		fsys, err := open(c, size)
		if err != nil {
			if !errors.Is(err, errUnreadable) {
				t.Errorf("run %d: open: %v, want the error of the source", run, err)
			}
			outcome["not opened"]++
			continue
		}
		if honest(t, fsys, c, want, run) {
			outcome["errors"]++
		} else {
			outcome["nothing missing"]++
		}
		walk(fsys, r, true, func(path string, s seen) {
			if s != want[path] {
				t.Errorf("run %d: %.200q afterwards, with all pages: %+v, want %+v", run, path, s, want[path])
			}
		})
	}
	t.Logf("%d runs: %v", runs, outcome)
}

// honest compares a walk with what should be there, and says whether it had errors.
func honest(t testing.TB, fsys image.FileSystem, r io.ReaderAt, want map[string]seen, run int) bool {
	t.Helper()
	got := map[string]seen{}
	walk(fsys, r, true, func(path string, s seen) { got[path] = s })
	failed := false
	for path, s := range got {
		for _, err := range []error{s.err, s.list} {
			if err != nil {
				failed = true
			}
			if err != nil && !errors.Is(err, errUnreadable) {
				t.Errorf("run %d: %.200q: %v, want the error of the source", run, path, err)
			}
		}
		if w, ok := want[path]; !ok || s.err == nil && s.text != w.text {
			t.Errorf("run %d: %.200q without an error: %.300s, want %.300s", run, path, s.text, w.text)
		}
	}
	for path := range want {
		if _, ok := got[path]; ok {
			continue
		}
		parent := path[:strings.LastIndexByte(path, '/')]
		if above, ok := got[parent]; ok && above.err == nil && above.list == nil {
			t.Errorf("run %d: %.200q is missing without an error", run, path)
		}
	}
	return failed
}

// ReadsLittle fails when listing the top directory with the attributes of all its names, or
// finding them one by one, takes more reads than it may.
func ReadsLittle(t testing.TB, fsys image.FileSystem, c *Counter, names int, listing, lookups int64) {
	t.Helper()
	list, err := fsys.Entries(c, fsys.Root())
	if err != nil || len(list) != names {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	for _, e := range list {
		if _, err := fsys.Inode(c, e.Number); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.Calls.Load(); n > listing {
		t.Errorf("%d reads for %d names and their attributes, want at most %d", n, names, listing)
	}
	c.Calls.Store(0)
	for _, e := range list {
		if got, err := fsys.Lookup(c, fsys.Root(), e.Name); err != nil || got != e {
			t.Fatalf("Lookup(%q) = %v, %v, want %v", e.Name, got, err, e)
		}
	}
	if n := c.Calls.Load(); n > lookups {
		t.Errorf("%d reads for %d lookups, want at most %d", n, names, lookups)
	}
}
