package integration

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// comparer is a process that compares a tree with a copy of it, at random, until its
// standard input ends.
type comparer struct {
	tree, copy string
	files      []string // regular files, below both
	moving     bool     // files come and go, and chunks of the victim
	victim     string   // files in it may be damaged

	reads, absent, damaged int64
}

// playCompare says each difference and each error that must not be, and in the end how
// much it has read. Its arguments are the tree, the copy, a file with the names of
// files, and, if the datastore moves, the victim.
func playCompare(args []string) {
	c := comparer{tree: args[0], copy: args[1], files: strings.Split(string(take(os.ReadFile(args[2]))), "\x00")}
	if len(args) > 3 {
		c.moving, c.victim = true, args[3]
	}
	var over atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		over.Store(true)
	}()
	fmt.Println("ready", os.Getpid())
	for c.reads == 0 || !over.Load() {
		file := c.files[rand.IntN(len(c.files))]
		if c.moving && rests(file) {
			continue
		}
		if err := c.once(file); err != nil {
			fmt.Printf("fault: %s: %v\n", file, err)
		}
	}
	fmt.Printf("done %d %d %d\n", c.reads, c.absent, c.damaged)
}

// rests reports whether nobody reads the group of the file for a moment: otherwise a server
// would never get the lock of any snapshot. All processes go by the same clock.
func rests(file string) bool {
	const beat = 500
	group := fnv.New32()
	_, _ = group.Write([]byte(filepath.Dir(file[:strings.Index(file, "Z/")])))
	return (int64(group.Sum32())+time.Now().UnixMilli()/beat)%3 == 0
}

// once opens a file and does with it what programs do.
func (c *comparer) once(file string) error {
	if rand.IntN(8) == 0 {
		return c.list(filepath.Dir(file))
	}
	ours, err := os.Open(filepath.Join(c.tree, file))
	if err != nil {
		return c.opening(file, err)
	}
	defer ours.Close()
	theirs := take(os.Open(filepath.Join(c.copy, file)))
	defer theirs.Close()
	size := take(theirs.Stat()).Size()
	if info, err := ours.Stat(); err != nil || info.Size() != size {
		return fmt.Errorf("stat says %v, %w, and the size is %d", info, err, size)
	}
	if rand.IntN(2) == 0 {
		_ = unix.Fadvise(int(ours.Fd()), 0, 0, unix.FADV_DONTNEED) // so that the kernel asks again
	}
	for range 1 + rand.IntN(4) {
		length := min(size, 1+rand.Int64N(256<<10))
		at := rand.Int64N(size - length + 1)
		how := c.pread
		if rand.IntN(4) == 0 && length > 0 && !c.mayBeDamaged(file) {
			how = mapped
		}
		if err := c.same(how, ours, theirs, at, length); err != nil && !c.damage(file, err) {
			return err
		}
	}
	return holes(ours, size)
}

func (c *comparer) mayBeDamaged(file string) bool {
	return c.moving && strings.HasPrefix(file, c.victim)
}

// damage reports whether the error is one of a chunk that is away, and counts it.
func (c *comparer) damage(file string, err error) bool {
	if !c.mayBeDamaged(file) || !errors.Is(err, unix.EIO) {
		return false
	}
	c.damaged++
	return true
}

// opening returns the error of an open, unless it had to be expected: a snapshot that
// is being written or removed is locked, or not there.
func (c *comparer) opening(file string, err error) error {
	if c.damage(file, err) {
		return nil
	}
	for _, e := range []error{fs.ErrNotExist, unix.EBUSY, unix.ESTALE} {
		if c.moving && errors.Is(err, e) {
			c.absent++
			return nil
		}
	}
	return err
}

type reading func(f *os.File, at, length int64) ([]byte, error)

func (c *comparer) pread(f *os.File, at, length int64) ([]byte, error) {
	buf := make([]byte, length)
	n, err := f.ReadAt(buf, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return buf[:n], err
}

// mapped reads through a mapping of the file.
func mapped(f *os.File, at, length int64) ([]byte, error) {
	start := at &^ int64(os.Getpagesize()-1)
	data, err := unix.Mmap(int(f.Fd()), start, int(at+length-start), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Munmap(data) }() // the bytes were copied
	return bytes.Clone(data[at-start:]), nil
}

func (c *comparer) same(read reading, ours, theirs *os.File, at, length int64) error {
	got, err := read(ours, at, length)
	if err != nil {
		return err
	}
	want := take(c.pread(theirs, at, length))
	c.reads++
	if !bytes.Equal(got, want) {
		return fmt.Errorf("wrong bytes in %d at %d", length, at)
	}
	return nil
}

// holes walks over the holes of a file.
func holes(f *os.File, size int64) error {
	for at := int64(0); at < size; {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil || data < at {
			return fmt.Errorf("data after %d: %d, %w", at, data, err)
		}
		if at, err = f.Seek(data, unix.SEEK_HOLE); err != nil || at <= data {
			return fmt.Errorf("a hole after %d: %d, %w", data, at, err)
		}
	}
	return nil
}

// list compares the names in a directory.
func (c *comparer) list(dir string) error {
	ours, err := os.ReadDir(filepath.Join(c.tree, dir))
	if err != nil {
		return c.opening(dir, err)
	}
	names := func(list []os.DirEntry) (out []string) {
		for _, e := range list {
			out = append(out, e.Name())
		}
		return out
	}
	if got, want := names(ours), names(take(os.ReadDir(filepath.Join(c.copy, dir)))); !slices.Equal(got, want) {
		return fmt.Errorf("in the directory: %q, want %q", got, want)
	}
	c.reads++
	return nil
}

// comparers are many of these processes.
type comparers struct {
	t   *testing.T
	all []*actor
}

// startComparers lets n processes compare a tree with a copy.
func startComparers(t *testing.T, n int, tree, copied string, files []string, victim ...string) *comparers {
	t.Helper()
	list := writeFile(t, filepath.Join(tempDir(t), "files"), []byte(strings.Join(files, "\x00")))
	c := &comparers{t: t}
	for range n {
		c.all = append(c.all, startActor(t, "compare", append([]string{tree, copied, list}, victim...)...))
	}
	return c
}

// end lets them end, and fails the test for each that found something wrong, did
// nothing, or hangs. It returns how much was equal, and how often a chunk was away.
func (c *comparers) end() (reads, damaged int64) {
	c.t.Helper()
	for _, a := range c.all {
		_ = a.stdin.Close()
	}
	var absent int64
	for _, a := range c.all {
		var own [3]int64
		for line := a.hear(); ; line = a.hear() {
			if _, err := fmt.Sscanf(line, "done %d %d %d", &own[0], &own[1], &own[2]); err == nil {
				break
			}
			c.t.Error(line)
		}
		if own[0] == 0 {
			c.t.Errorf("process %d has compared nothing", a.pid)
		}
		reads, absent, damaged = reads+own[0], absent+own[1], damaged+own[2]
	}
	c.t.Logf("%d processes: %d reads and lists were equal; %d times a file was away, %d times a chunk", len(c.all), reads, absent, damaged)
	return reads, damaged
}

// copied returns a copy of what is in snapshots' archives and images, and the names of
// its regular files.
func copied(t *testing.T, m *mount, snapshots ...string) (dir string, files []string) {
	t.Helper()
	dir = subdir(t, tempDir(t), "copy")
	for _, s := range snapshots {
		to := filepath.Join(dir, s)
		must(t, os.MkdirAll(to, 0o755))
		tool(t, "cp", "-a", "--sparse=always", m.path(s)+"/.", to)
		must(t, os.Chmod(to, 0o755))
		must(t, filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
			if d.Name() == "index.json" || d.Name() == "client.log" || strings.HasSuffix(d.Name(), ".img.d") {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil // they change
			}
			if err == nil && d.Type().IsRegular() {
				files = append(files, strings.TrimPrefix(path, dir+"/"))
			}
			return err
		}))
	}
	if len(files) < 20 {
		t.Fatalf("only %d files", len(files))
	}
	return dir, files
}
