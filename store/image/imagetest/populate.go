package imagetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Content says what Populate makes. What is 0 has a default.
type Content struct {
	Lacks   Lack
	Entries int // in the directory "many", 1500
	Deep    int // directories in each other, 40
	Big     int // bytes of the biggest file that is not sparse, 1 MiB
}

// writer makes things below a directory; the first failure ends the test.
type writer struct {
	testing.TB
	dir string
	Content
}

// Populate fills a mounted file system with what decoders get wrong.
func Populate(t testing.TB, dir string, c Content) {
	t.Helper()
	set := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	set(&c.Entries, 1500)
	set(&c.Deep, 40)
	set(&c.Big, 1<<20)
	w := &writer{t, dir, c}
	w.unwritten() // first: old data is to lie below
	w.sizes()
	w.names()
	w.directories()
	w.holes()
	w.links()
	w.special()
	w.modes()
	w.times()
	w.xattrs()
	w.acls()
}

func (w *writer) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("populate: %v", err)
	}
}

func (w *writer) lacks(l Lack) bool { return w.Lacks&l != 0 }

func (w *writer) path(name string) string { return w.dir + "/" + name }

// file makes a file and the directories above it.
func (w *writer) file(name string, content []byte) string {
	w.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.path(name)), 0o755))
	w.must(os.WriteFile(w.path(name), content, 0o644))
	return w.path(name)
}

// create calls fn with a new file.
func (w *writer) create(name string, fn func(f *os.File) error) {
	w.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.path(name)), 0o755))
	f, err := os.Create(w.path(name))
	w.must(err)
	w.must(fn(f))
	w.must(f.Close())
}

// Noise returns n bytes that no compressor makes smaller.
func Noise(n int, seed uint64) []byte {
	var s [32]byte
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	p := make([]byte, n)
	if _, err := rand.NewChaCha8(s).Read(p); err != nil {
		panic(err) // never fails
	}
	return p
}

func (w *writer) sizes() {
	for _, n := range []int{0, 1, 59, 60, 61, 100, 156, 160, 200, 511, 512, 513, 1023, 2048, 4095, 4096, 4097, 65535, 65536, 65537, 234567} {
		w.file(fmt.Sprintf("sizes/%d", n), Noise(n, uint64(n)))
	}
	w.file("big", Noise(w.Big, 1))
}

func (w *writer) names() {
	names := []string{
		"with space.txt", "UPPER.TXT", "lower.txt", "MiXed.tXt", "ünïcödé.txt", "漢字かな.txt", "emoji-😀.txt", "-dash", ".hidden", "two..dots",
		strings.Repeat("x", 255), strings.Repeat("y", 200) + ".txt", "quote'd", "semi;colon", "[brackets]{}", "a.tar.gz", "12345678.123", "123456789.1234", "a", "~",
	}
	if !w.lacks(LackRawNames) {
		names = append(names,
			"new\nline", "tab\tname", `back\slash`, `star*?"<>|:`, " leading", "trailing ", "trailingdot.", "\x01", "...",
			strings.Repeat("漢", 85), "\xff\xfe\xfd", "latin1-\xe9t\xe9", strings.Repeat("\x80", 20))
	}
	for i, name := range names {
		w.file("names/"+name, fmt.Appendf(nil, "name %d\n", i))
	}
}

func (w *writer) directories() {
	w.must(os.MkdirAll(w.path("empty-directory"), 0o755))
	w.file(strings.Repeat("deep/", w.Deep)+"bottom", []byte("bottom"))
	for _, n := range []int{1, 3, 10, 60, 150, w.Entries} {
		for i := range n {
			var content []byte
			if i%100 == 0 {
				content = fmt.Appendf(nil, "%d", i)
			}
			w.file(fmt.Sprintf("entries/%d/file-%06d-with-a-longer-name", n, i), content)
		}
	}
	for i := range w.Entries {
		w.file(fmt.Sprintf("removed/%06d-some-name", i), nil)
	}
	for i := range w.Entries {
		if i%37 != 0 {
			w.must(os.Remove(w.path(fmt.Sprintf("removed/%06d-some-name", i))))
		}
	}
}

func (w *writer) holes() {
	if w.lacks(LackHoles) {
		return
	}
	at := func(name string, size int64, offs ...int64) {
		w.create("holes/"+name, func(f *os.File) error {
			for _, off := range offs {
				if _, err := f.WriteAt(Noise(8192, uint64(off)), off); err != nil {
					return err
				}
			}
			return f.Truncate(size)
		})
	}
	at("all", 3<<20)
	at("start", 1<<20, 1<<20-8192)
	at("end", 1<<20+17, 0)
	at("middle", 2<<20, 0, 2<<20-8192)
	at("far", 5<<30+1<<20+123, 0, 1<<20, 1<<32-4096, 5<<30)
	w.create("holes/punched", func(f *os.File) error {
		if _, err := f.Write(Noise(1<<20, 2)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil || w.lacks(LackUnwritten) {
			return err
		}
		for off := int64(4096); off < 1<<20; off += 8192 {
			if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, 4096); err != nil {
				return err
			}
		}
		return nil
	})
	files := make([]*os.File, 3)
	for i := range files {
		var err error
		files[i], err = os.Create(w.path(fmt.Sprintf("holes/taking-turns-%d", i)))
		w.must(err)
		defer files[i].Close()
	}
	for k := range 6 {
		for i, f := range files {
			_, err := f.Write(Noise(4096, uint64(k*3+i)))
			w.must(errors.Join(err, f.Sync()))
		}
	}
}

// unwritten makes extents that were allocated and never written, over old data.
func (w *writer) unwritten() {
	if w.lacks(LackUnwritten) {
		return
	}
	old := w.file("old", Noise(w.Big*3, 3))
	Sync(w, old)
	w.must(os.Remove(old))
	top, err := os.Open(w.dir)
	w.must(err)
	w.must(errors.Join(unix.Syncfs(int(top.Fd())), top.Close()))
	allocate := func(name string, mode uint32, n int64, write func(f *os.File) error) {
		w.create("unwritten/"+name, func(f *os.File) error {
			return errors.Join(unix.Fallocate(int(f.Fd()), mode, 0, n), write(f), f.Sync())
		})
	}
	allocate("all", 0, 1<<20, func(*os.File) error { return nil })
	allocate("tail", 0, 1<<20, func(f *os.File) error { _, err := f.Write(Noise(5000, 4)); return err })
	allocate("middle", 0, 1<<20, func(f *os.File) error { _, err := f.WriteAt(Noise(10000, 5), 300000); return err })
	allocate("behind-the-end", unix.FALLOC_FL_KEEP_SIZE, 1<<20, func(f *os.File) error { _, err := f.Write([]byte("keep")); return err })
}

func (w *writer) links() {
	if !w.lacks(LackHardlinks) {
		a := w.file("hard/a", []byte("hard link"))
		w.must(os.Link(a, w.path("hard/b")))
		w.must(os.Link(a, w.path("hard/c")))
	}
	if w.lacks(LackSymlinks) {
		return
	}
	w.must(os.MkdirAll(w.path("links"), 0o755))
	for _, n := range []int{1, 30, 58, 59, 60, 61, 100, 155, 156, 160, 200, 255, 500, 1000, 1023, 4000} {
		err := os.Symlink(strings.Repeat("../names/x", 400)[:n], w.path(fmt.Sprintf("links/%d", n)))
		if errors.Is(err, unix.ENAMETOOLONG) { // the format has a limit, or the block size
			w.Logf("no link of %d bytes", n)
			continue
		}
		w.must(err)
	}
	for name, target := range map[string]string{"raw": "\xff\xfe", "absolute": "/etc/passwd", "dangling": "nowhere", "loop": "loop"} {
		if name == "raw" && w.lacks(LackRawNames) {
			continue
		}
		w.must(os.Symlink(target, w.path("links/"+name)))
	}
}

func (w *writer) special() {
	if w.lacks(LackSpecial) {
		return
	}
	w.must(os.MkdirAll(w.path("special"), 0o755))
	node := func(name string, mode uint32, major, minor uint32) {
		w.must(unix.Mknod(w.path("special/"+name), mode, int(unix.Mkdev(major, minor))))
	}
	node("fifo", unix.S_IFIFO|0o644, 0, 0)
	node("socket", unix.S_IFSOCK|0o755, 0, 0)
	node("null", unix.S_IFCHR|0o666, 1, 3)
	node("sda", unix.S_IFBLK|0o660, 8, 0)
	node("big", unix.S_IFCHR|0o600, 400, 70000)
}

func (w *writer) modes() {
	if w.lacks(LackOwners) {
		return
	}
	for _, mode := range []uint32{0, 0o4755, 0o2755, 0o1777, 0o600, 0o7777} {
		w.must(unix.Chmod(w.file(fmt.Sprintf("modes/%o", mode), nil), mode))
	}
	for _, id := range []int{1000, 65535, 65536, 100000, 4_000_000_000} {
		w.must(unix.Chown(w.file(fmt.Sprintf("owners/%d", id), nil), id, id+1))
	}
}

func (w *writer) times() {
	for i, at := range []time.Time{
		time.Unix(0, 0), time.Unix(1, 999_999_999), time.Unix(-1, 5e8), time.Unix(-20*365*86400, 1), time.Unix(-1<<31, 0),
		time.Unix(1<<31-1, 5), time.Unix(1<<31, 123_456_789), time.Unix(1<<32, 7),
		time.Date(2100, 1, 1, 0, 0, 0, 987_654_321, time.UTC), time.Date(2106, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(2381, 1, 1, 0, 0, 0, 1, time.UTC),
	} {
		// A format keeps what it can: the kernel rounds and clamps.
		p := w.file(fmt.Sprintf("times/%d", i), nil)
		ts := []unix.Timespec{{Sec: at.Unix(), Nsec: int64(at.Nanosecond())}, {Sec: at.Unix(), Nsec: int64(at.Nanosecond())}}
		w.must(unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, 0))
	}
}
