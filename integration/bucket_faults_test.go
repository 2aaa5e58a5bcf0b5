package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// readers read pieces of one file over and over, past the kernel's cache.
type readers struct {
	good, failed atomic.Int64
	mu           sync.Mutex
	wrong        error
	stop         chan struct{}
	done         sync.WaitGroup
}

// piece is how much a reader reads at once.
const piece = 64 << 10

// startReaders starts readers of the file at path, which has this content.
func startReaders(t *testing.T, n int, path string, content []byte) *readers {
	t.Helper()
	r := &readers{stop: make(chan struct{})}
	for i := range n {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		r.done.Go(func() { r.read(rng, path, content) })
	}
	t.Cleanup(r.end)
	return r
}

func (r *readers) read(rng *rand.Rand, path string, content []byte) {
	buf := make([]byte, piece)
	for {
		select {
		case <-r.stop:
			return
		default:
		}
		off := rng.Int64N(int64(len(content)-piece)/piece) * piece
		switch err := readPast(path, buf, off); {
		case errors.Is(err, unix.EIO):
			r.failed.Add(1)
		case err != nil:
			r.complain(err)
		case !bytes.Equal(buf, content[off:off+piece]):
			r.complain(fmt.Errorf("wrong bytes at %d", off))
		default:
			r.good.Add(1)
		}
	}
}

// readPast reads from a file what the kernel does not remember.
func readPast(path string, buf []byte, off int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	_, err = f.ReadAt(buf, off)
	return err
}

func (r *readers) complain(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = errors.Join(r.wrong, err)
}

// failure returns what must not have happened.
func (r *readers) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wrong
}

func (r *readers) end() {
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	r.done.Wait()
}

// more waits until n more reads have succeeded, or failed.
func (r *readers) more(t *testing.T, what string, counter *atomic.Int64, n int64) {
	t.Helper()
	from := counter.Load()
	eventually(t, what, func() error {
		if err := r.failure(); err != nil {
			t.Fatal(err)
		}
		if got := counter.Load() - from; got < n {
			return fmt.Errorf("%d reads of %d", got, n)
		}
		return nil
	})
}

// wholeImage returns the content of an image in the fixture's bucket.
func wholeImage(t *testing.T, m *mount) (path string, content []byte) {
	t.Helper()
	path = m.path("vm/300/2025-11-02T12:31:40Z/drive-scsi0.img")
	content, err := os.ReadFile(path)
	must(t, err)
	return path, content
}

// Whatever becomes of the server: a read gets the right bytes, or fails after a while, and
// everything goes on when the server does.
func TestBucketServerFails(t *testing.T) {
	s := startVersity(t, false)
	b := startBetween(t, s)
	m := bucketHost(t).mount(cloud, joined(b.flags(), []string{"--timeout", "1s", "--cache-size", "1M", "--refresh", "500ms"})...)
	path, content := wholeImage(t, m)
	r := startReaders(t, 50, path, content)
	r.more(t, "reads before anything fails", &r.good, 100)

	failing := func(code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			return true
		}
	}
	spoil := func(f func(http.ResponseWriter, *http.Request) bool) func() {
		return func() { b.spoil.Store(&f) }
	}
	tests := []struct {
		name       string
		begin, end func()
		fails      bool
	}{
		{"killed", s.stop, s.start, true},
		{"stopped", func() { must(t, s.server.Process.Signal(syscall.SIGSTOP)) }, func() { must(t, s.server.Process.Signal(syscall.SIGCONT)) }, true},
		{"overloaded", spoil(failing(503)), func() { b.spoil.Store(nil) }, true},
		{"failing", spoil(failing(500)), func() { b.spoil.Store(nil) }, true},
		{"slow", func() { b.delay.Store(int64(100 * time.Millisecond)) }, func() { b.delay.Store(0) }, false},
		{"every other request refused", spoil(everyOther(failing(429))), func() { b.spoil.Store(nil) }, false},
		{"every other answer broken off", spoil(everyOther(brokenOff(t, s))), func() { b.spoil.Store(nil) }, false},
		{"rubbish", spoil(func(w http.ResponseWriter, _ *http.Request) bool {
			_, err := w.Write([]byte("<html>not a chunk</html>"))
			return err == nil
		}), func() { b.spoil.Store(nil) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.begin()
			if tt.fails {
				r.more(t, "reads that fail", &r.failed, 20)
				if got := m.host.run("status"); got.code != 0 {
					t.Errorf("status: %+v", got)
				}
			} else {
				r.more(t, "reads meanwhile", &r.good, 50)
			}
			tt.end()
			r.more(t, "reads afterwards", &r.good, 100)
		})
	}
	r.end()
	must(t, r.failure())
	if _, err := os.ReadDir(m.path("host/atlas/latest")); err != nil {
		t.Errorf("after everything: %v", err)
	}
	t.Logf("%d reads, %d of them failed", r.good.Load()+r.failed.Load(), r.failed.Load())
}

// everyOther spoils every other request.
func everyOther(spoil func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) bool {
		return n.Add(1)%2 == 0 && spoil(w, r)
	}
}

// brokenOff answers with a part of what was asked for.
func brokenOff(t *testing.T, s *objectStore) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		data, err := os.ReadFile(filepath.Join(s.dir, r.URL.Path))
		if err != nil || r.Header.Get("Range") != "" {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		_, _ = w.Write(data[:len(data)/2])
		panic(http.ErrAbortHandler)
	}
}

// Copies on this machine make a bucket faster, and are never needed: wrong, gone, or
// impossible, the bytes are right.
func TestBucketCopies(t *testing.T) {
	s := startVersity(t, false)
	b := startBetween(t, s)
	h := bucketHost(t)
	dir := filepath.Join(tempDir(t), "copies")
	mountOn := func(more ...string) *mount {
		return h.mount(cloud, joined(b.flags(), []string{"--disk-cache", dir}, cloudKey(t), more)...)
	}
	check := func(what string, m *mount, few bool) {
		t.Helper()
		b.counted()
		checkTruth(t, m.dir, truth(t, "ds-s3"))
		n, lists := b.counted()
		if t.Logf("%s: %d objects, %d listings", what, n-lists, lists); few != (n-lists < 60) {
			t.Errorf("%s: %d objects were asked for", what, n-lists)
		}
	}
	m := mountOn()
	check("empty", m, false)
	m.unmount()
	m = mountOn()
	check("filled", m, true)
	m.unmount()
	spoiled := 0
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && len(e.Name()) == 64 {
			spoiled++
			return spoilFile(path, spoiled)
		}
		return err
	}))
	if spoiled < 30 {
		t.Fatalf("%d copies", spoiled)
	}
	m = mountOn()
	check("spoiled", m, false)
	m.unmount()
	m = mountOn()
	check("mended", m, true)
	must(t, os.RemoveAll(dir))
	tool(t, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches")
	checkTruth(t, m.dir, truth(t, "ds-s3"))
	m.unmount()

	must(t, os.RemoveAll(dir))
	must(t, os.Mkdir(dir, 0o700))
	must(t, unix.Mount("none", dir, "tmpfs", unix.MS_RDONLY, ""))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	m = mountOn()
	check("read-only", m, false)
	m.unmount()
	must(t, unix.Mount("none", dir, "", unix.MS_REMOUNT, "size=256k"))
	m = mountOn()
	check("full", m, false)
	m.unmount()
}

// spoilFile damages a file in one of several ways.
func spoilFile(path string, how int) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	switch how % 3 {
	case 0:
		data[len(data)/2] ^= 1
	case 1:
		data = data[:len(data)/2]
	case 2:
		data = []byte("not a chunk at all")
	}
	return os.WriteFile(path, data, 0o600)
}

// The copies of a server of this machine are looked at first; what was evicted there, and
// what is wrong, comes from the bucket.
func TestBucketBesideTheServersCopies(t *testing.T) {
	b := startBetween(t, startVersity(t, false))
	from := filepath.Join(fixtureDir(t), "ds-s3/cache")
	for store, known := range map[string]string{"cloud": "ds-s3", "cloud2": "ds-s3-near"} {
		m := bucketHost(t).mount("s3://pbsbucket/"+store, joined(b.flags(), []string{"--pbs-cache", filepath.Join(from, store)}, cloudKey(t))...)
		b.counted()
		checkTruth(t, m.dir, truth(t, known))
		n, lists := b.counted()
		t.Logf("%s: %d objects", store, n-lists)
		m.unmount()
	}
}
