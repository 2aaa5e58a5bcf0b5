package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// Data larger than what tests have elsewhere, written by our own writer, and
// what serving it may take.

// newStore writes a datastore.
func newStore(t *testing.T, fill func(ctx context.Context, store string, w *store.Writer) error) string {
	t.Helper()
	h, dir := newHost(t), memoryDir(t)
	must(t, os.Mkdir(filepath.Join(dir, ".chunks"), 0o750))
	host, err := hosts.NewHost(hosts.HostOptions{
		ConfigDir: filepath.Join(h.dir, "config"), RunDir: h.runDir(), UID: os.Geteuid(), Getenv: func(string) string { return "" },
	})
	must(t, err)
	ref, err := store.Open(t.Context(), store.Options{Name: "scale", Path: dir, Host: host})
	must(t, err)
	w, err := ref.AcquireWriter(t.Context())
	must(t, err)
	err = fill(t.Context(), dir, w)
	w.Release()
	must(t, errors.Join(err, ref.Close()))
	return dir
}

// writeSnapshot writes one snapshot of a group that has no other.
func writeSnapshot(ctx context.Context, w *store.Writer, typ name.Type, id string, fill func(*store.SnapshotWriter) error) error {
	group, err := name.NewGroup(name.Namespace{}, typ, id)
	if err != nil {
		return err
	}
	s, err := store.BeginSnapshot(ctx, w, group, store.SnapshotOptions{})
	if err != nil {
		return err
	}
	if err := fill(s); err != nil {
		return errors.Join(err, s.Abort())
	}
	return s.Finish(ctx)
}

// writeImage writes an image as the only file of a snapshot.
func writeImage(ctx context.Context, w *store.Writer, id string, src store.Image, size int64) error {
	return writeSnapshot(ctx, w, name.VM, id, func(s *store.SnapshotWriter) error {
		f, err := name.ParseFile("disk.img.fidx")
		if err != nil {
			return err
		}
		_, err = s.Image(ctx, f, src, size, nil)
		return err
	})
}

// writeArchive writes a split archive of n empty files, in directories of 1,000,
// as the only one of a snapshot.
func writeArchive(ctx context.Context, w *store.Writer, id string, n int) error {
	return writeSnapshot(ctx, w, name.Host, id, func(s *store.SnapshotWriter) error {
		var streams [2]*store.StreamWriter
		for i, file := range []string{"tree.mpxar.didx", "tree.ppxar.didx"} {
			f, err := name.ParseFile(file)
			if err != nil {
				return err
			}
			if streams[i], err = s.Stream(ctx, f); err != nil {
				return err
			}
		}
		dir := &pxar.Metadata{Mode: unix.S_IFDIR | 0o755}
		e, err := pxar.NewSplitEncoder(streams[0], streams[1], nil, dir)
		if err != nil {
			return err
		}
		file := &pxar.Metadata{Mode: unix.S_IFREG | 0o644, UID: 1000}
		for i := range n {
			if i%1000 == 0 {
				err = errors.Join(err, e.StartDir(fmt.Sprintf("dir-%04d", i/1000), dir))
			}
			_, ferr := e.AddFile(fmt.Sprintf("file-%03d", i%1000), file, 0, bytes.NewReader(nil))
			if err = errors.Join(err, ferr); i%1000 == 999 || i == n-1 {
				err = errors.Join(err, e.EndDir())
			}
			if err != nil {
				return err
			}
		}
		return errors.Join(e.Close(), streams[0].Close(), streams[1].Close())
	})
}

// status returns a number that /proc/PID/status has.
func (p process) status(t *testing.T, field string) int64 {
	t.Helper()
	text, err := os.ReadFile(p.proc("status"))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			must(t, err)
			return n
		}
	}
	t.Fatalf("%s has no %s", p.proc("status"), field)
	return 0
}

// wantMemory checks the most memory that the serving process ever had: what it
// was allowed for chunks, 1 KiB for each object that the kernel may know, and
// 100 MiB.
func (m *mount) wantMemory(cacheMiB, maxInodes int64) {
	m.t.Helper()
	got, want := m.process.status(m.t, "VmHWM"), (cacheMiB+100)<<10+maxInodes
	m.t.Logf("resident memory at its highest: %d MiB of %d", got>>10, want>>10)
	if got > want {
		m.t.Errorf("resident memory at its highest: got %d KiB, want at most %d", got, want)
	}
}

// ticks returns the processor time that the process has used.
func (p process) ticks(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(p.proc("stat"))
	must(t, err)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	sum := int64(0)
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		must(t, err)
		sum += n
	}
	return sum
}

// wantIdle waits until the serving process uses no processor: at most one tick
// in each of two windows of a second.
func (m *mount) wantIdle() {
	m.t.Helper()
	calm := 0
	eventually(m.t, "the serving process using no processor", func() error {
		before := m.process.ticks(m.t)
		time.Sleep(time.Second) // the window that is looked at
		used := m.process.ticks(m.t) - before
		if calm++; used > 1 {
			calm = 0
		}
		if calm < 2 {
			return fmt.Errorf("%d ticks in a second", used)
		}
		return nil
	})
}

// pattern is an image whose bytes follow from where they are.
type pattern struct{ id byte }

func (n pattern) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		at := off + int64(i)
		p[i] = byte(at) ^ byte(at>>8) ^ byte(at>>16)*31 ^ byte(at>>22)*7 ^ n.id
	}
	return len(p), nil
}

func (pattern) NextData(off int64) (int64, error) { return off, nil }

func TestTwoHundredReadersInLittleMemory(t *testing.T) {
	const images, size, readers, cacheMiB, maxInodes = 4, 24 << 20, 200, 32, 1000
	dir := newStore(t, func(ctx context.Context, _ string, w *store.Writer) error {
		for i := range images {
			if err := writeImage(ctx, w, fmt.Sprint(100+i), pattern{byte(i)}, size); err != nil {
				return err
			}
		}
		return nil
	})
	var contents [images][]byte
	for i := range contents {
		contents[i] = make([]byte, size)
		_, _ = pattern{byte(i)}.ReadAt(contents[i], 0)
	}
	m := mountAt(t, dir, "--cache-size", fmt.Sprintf("%dMiB", cacheMiB), "--max-inodes", fmt.Sprint(maxInodes))
	var ready, all sync.WaitGroup
	ready.Add(readers)
	for i := range readers {
		all.Go(func() {
			if err := readParts(m.path("vm", fmt.Sprint(100+i%images), "latest/disk.img"), contents[i%images], i, &ready); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	m.wantMemory(cacheMiB, maxInodes)
	m.wantIdle()
}

// readParts reads parts of an image, as soon as all others have it open: from
// somewhere on, and here and there.
func readParts(path string, want []byte, seed int, ready *sync.WaitGroup) error {
	f, err := os.Open(path)
	ready.Done()
	if err != nil {
		return err
	}
	defer f.Close()
	ready.Wait()
	random := rand.New(rand.NewPCG(1, uint64(seed)))
	got, size := make([]byte, 256<<10), int64(len(want))
	at := random.Int64N(size - 4<<20)
	for n := range 12 {
		if n >= 8 {
			at = random.Int64N(size - int64(len(got)))
		}
		if _, err := f.ReadAt(got, at); err != nil {
			return err
		}
		if !bytes.Equal(got, want[at:at+int64(len(got))]) {
			return fmt.Errorf("%s: wrong bytes at %d", path, at)
		}
		at += int64(len(got))
	}
	return nil
}

// sparseImage is an image with data in its first and last chunk, and one in the
// middle.
type sparseImage struct{ size int64 }

const imageChunk = 4 << 20

func (s sparseImage) data() []int64 { return []int64{0, s.size / 2, s.size - imageChunk} }

func (s sparseImage) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for _, at := range s.data() {
		if at == off {
			copy(p, fmt.Sprint("data at ", at))
		}
	}
	return len(p), nil
}

func (s sparseImage) NextData(off int64) (int64, error) {
	for _, at := range s.data() {
		if off < at+imageChunk {
			return max(off, at), nil
		}
	}
	return s.size, nil
}

func TestImageOf16TiBInLittleMemory(t *testing.T) {
	const size, cacheMiB, maxInodes = 16 << 40, 16, 1000
	src := sparseImage{size}
	dir := newStore(t, func(ctx context.Context, _ string, w *store.Writer) error {
		return writeImage(ctx, w, "100", src, size)
	})
	m := mountAt(t, dir, "--cache-size", fmt.Sprintf("%dMiB", cacheMiB), "--max-inodes", fmt.Sprint(maxInodes))
	f, err := os.Open(m.path("vm/100/latest/disk.img"))
	must(t, err)
	defer f.Close()
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Size != size || st.Blocks*512 != 3*imageChunk {
		t.Errorf("stat: got %d bytes, %d of them allocated, want %d, %d", st.Size, st.Blocks*512, int64(size), 3*imageChunk)
	}
	for _, at := range []int64{0, 1 << 40, size / 2, size - imageChunk, size - 4096} {
		got, want := make([]byte, 4096), make([]byte, 4096)
		_, err := f.ReadAt(got, at)
		must(t, err)
		if _, _ = src.ReadAt(want, at); !bytes.Equal(got, want) {
			t.Errorf("wrong bytes at %d: %q", at, bytes.TrimRight(got, "\x00"))
		}
	}
	for _, seek := range []struct {
		from, want int64
		whence     int
	}{
		{0, imageChunk, unix.SEEK_HOLE},
		{imageChunk, size / 2, unix.SEEK_DATA},
		{size / 2, size/2 + imageChunk, unix.SEEK_HOLE},
		{size/2 + imageChunk, size - imageChunk, unix.SEEK_DATA},
		{size - imageChunk, size, unix.SEEK_HOLE},
	} {
		if got, err := unix.Seek(int(f.Fd()), seek.from, seek.whence); err != nil || got != seek.want {
			t.Errorf("lseek from %d, whence %d: got %d, %v, want %d", seek.from, seek.whence, got, err, seek.want)
		}
	}
	must(t, f.Close())
	m.wantMemory(cacheMiB, maxInodes)
	m.wantIdle()
}

// writeManifests makes n snapshots that have nothing but a manifest, as a server
// has them on disk.
func writeManifests(dir string, group name.Group, n int) error {
	var all errgroup.Group
	all.SetLimit(4)
	for i := range n {
		all.Go(func() error {
			at, err := name.NewTime(time.Unix(1_600_000_000+int64(i)*3600, 0))
			if err != nil {
				return err
			}
			s, err := name.NewSnapshot(group, at)
			if err != nil {
				return err
			}
			text, err := (&manifest.Draft{Snapshot: s}).Encode()
			if err != nil {
				return err
			}
			to := filepath.Join(dir, s.Dir())
			return errors.Join(os.MkdirAll(to, 0o755), os.WriteFile(filepath.Join(to, name.Manifest.String()), text, 0o644))
		})
	}
	return all.Wait()
}

func TestGroupOfManySnapshotsInLittleMemory(t *testing.T) {
	const snapshots, cacheMiB, maxInodes = 20_000, 16, 2000
	group, err := name.NewGroup(name.Namespace{}, name.CT, "100")
	must(t, err)
	dir := newStore(t, func(_ context.Context, dir string, _ *store.Writer) error {
		return writeManifests(dir, group, snapshots)
	})
	m := mountAt(t, dir, "--cache-size", fmt.Sprintf("%dMiB", cacheMiB), "--max-inodes", fmt.Sprint(maxInodes))
	for range 2 {
		names, err := os.ReadDir(m.path("ct/100"))
		if err != nil || len(names) != snapshots+1 { // and latest
			t.Fatalf("listing the group: got %d entries, %v, want %d", len(names), err, snapshots+1)
		}
		for i := 0; i < snapshots; i += snapshots / (3 * maxInodes / 2) {
			_, err := os.Lstat(m.path("ct/100", names[i].Name()))
			must(t, err)
		}
	}
	m.wantMemory(cacheMiB, maxInodes)
	m.wantIdle()
}

func TestWalkOfManyFilesInLittleMemory(t *testing.T) {
	const files, cacheMiB, maxInodes = 300_000, 32, 20_000
	dir := newStore(t, func(ctx context.Context, _ string, w *store.Writer) error {
		return writeArchive(ctx, w, "many", files)
	})
	m := mountAt(t, dir, "--cache-size", fmt.Sprintf("%dMiB", cacheMiB), "--max-inodes", fmt.Sprint(maxInodes))
	got := 0
	must(t, filepath.WalkDir(m.path("host/many/latest/tree.pxar"), func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			got++
			_, err = os.Lstat(p)
		}
		return err
	}))
	if got != files {
		t.Errorf("walk: got %d files, want %d", got, files)
	}
	m.wantMemory(cacheMiB, maxInodes)
	m.wantIdle()
}
