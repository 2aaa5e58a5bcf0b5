package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// newCreated returns a place whose datastore was made by Create.
func newCreated(t testing.TB, open ...*storetest.Key) *place {
	t.Helper()
	dir := filepath.Join(memoryDir(t), "tank")
	if err := store.Create(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return placeIn(t, storetest.In(t, dir), open...)
}

// memoryDir returns a temporary directory in memory, where there is such a file
// system: to remove the 65,536 directories of a datastore can take half a minute
// elsewhere.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pbsfs-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// memory is an image in memory. Blocks of zeros in it are holes.
type memory []byte

const holeBlock = 4096

func (m memory) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(p, off) }

func (m memory) NextData(off int64) (int64, error) {
	for ; off < int64(len(m)); off += holeBlock - off%holeBlock {
		if block := m[off:min(off+holeBlock-off%holeBlock, int64(len(m)))]; !bytes.Equal(block, make([]byte, len(block))) {
			return off, nil
		}
	}
	return int64(len(m)), nil
}

// noise returns n bytes that do not compress, always the same for a seed.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	var s [32]byte
	s[0] = byte(seed)
	_, _ = rand.NewChaCha8(s).Read(p)
	return p
}

func (p *place) begin(opts store.SnapshotOptions, group string) *store.SnapshotWriter {
	p.t.Helper()
	s, err := p.tryBegin(opts, group)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *place) tryBegin(opts store.SnapshotOptions, group string) (*store.SnapshotWriter, error) {
	p.t.Helper()
	w, err := p.ref.AcquireWriter(p.t.Context())
	if err != nil {
		return nil, err
	}
	defer w.Release() // the snapshot is part of the operation until it ends
	return store.BeginSnapshot(p.t.Context(), w, p.group(group), opts)
}

func parseFile(t *testing.T, s string) name.File {
	t.Helper()
	f, err := name.ParseFile(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// writeAll writes one of everything and returns what must be read again.
func (p *place) writeAll(s *store.SnapshotWriter) map[string][]byte {
	p.t.Helper()
	t, ctx := p.t.(*testing.T), p.t.Context()
	const chunk = 4 << 20
	want := map[string][]byte{
		// data, a hole of two chunks, zeros that are no hole to NextData, a short end
		"disk.img.fidx":   slices.Concat(noise(1, chunk), make([]byte, 2*chunk), append([]byte{1}, make([]byte, chunk-1)...), noise(2, 777)),
		"data.pxar.didx":  noise(3, 5<<20),
		"guest.conf.blob": []byte(strings.Repeat("secret: hotel\n", 1000)),
		"empty.conf.blob": {},
	}
	for _, f := range []string{"data.pxar.didx", "disk.img.fidx", "guest.conf.blob", "empty.conf.blob"} {
		data, file := want[f], parseFile(t, f)
		var err error
		switch file.Format() {
		case name.Dynamic:
			var w *store.StreamWriter
			if w, err = s.Stream(ctx, file); err == nil {
				_, err = io.Copy(w, bytes.NewReader(data))
				err = errors.Join(err, w.Close())
			}
		case name.Fixed:
			_, err = s.Image(ctx, file, memory(data), int64(len(data)), nil)
		default:
			err = s.Blob(file, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Log([]byte("done\n")); err != nil {
		t.Fatal(err)
	}
	return want
}

func TestWhatWasWrittenIsRead(t *testing.T) {
	key := storetest.NewKey(t, 7)
	for _, c := range []struct {
		name      string
		place     func(t testing.TB, open ...*storetest.Key) *place
		opts      store.SnapshotOptions
		mode      manifest.CryptMode
		signature manifest.SignatureState
	}{
		{"plain, in a new datastore", newCreated, store.SnapshotOptions{Notes: "a\nb", Protected: true}, manifest.CryptModeNone, manifest.Unsigned},
		{"encrypted", newPlace, store.SnapshotOptions{Key: key.Key}, manifest.CryptModeEncrypt, manifest.Valid},
		{"signed", newPlace, store.SnapshotOptions{Key: key.Key, SignOnly: true}, manifest.CryptModeSignOnly, manifest.Valid},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.place(t, key)
			w := p.begin(c.opts, "ns/prod/ns/db/host/alpha")
			want := p.writeAll(w)
			if err := w.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := p.reader()
			s := p.load(r, w.Name().Dir())
			for file, data := range want {
				line := p.line(s, file)
				if line.Mode != c.mode {
					t.Errorf("%s: crypt mode %v, want %v", file, line.Mode, c.mode)
				}
				var got []byte
				var err error
				if line.Name.Format() == name.Blob {
					got, err = s.ReadBlob(t.Context(), r, line)
				} else {
					got = readAll(t, r, p.stream(s, file), len(data))
				}
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: read %d bytes of digest %x, %v, want %d of %x", file, len(got), sha256.Sum256(got), err, len(data), sha256.Sum256(data))
				}
			}
			if log, err := s.ReadClientLog(t.Context(), r); string(log) != "done\n" || err != nil {
				t.Errorf("log: %q, %v", log, err)
			}
			m := s.Manifest()
			if m.Notes != c.opts.Notes || s.Protected() != c.opts.Protected || s.Signature() != c.signature {
				t.Errorf("notes %q, protected %v, signature %q; want %q, %v, %q", m.Notes, s.Protected(), s.Signature(), c.opts.Notes, c.opts.Protected, c.signature)
			}
		})
	}
}

// tree returns what lies below the datastore, chunk directories left out.
func (p *place) tree() (out []string) {
	p.t.Helper()
	err := filepath.WalkDir(p.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(p.Dir, path)
		if filepath.Dir(rel) == ".chunks" {
			return nil
		}
		out = append(out, rel)
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// chunkFiles returns the chunks there are.
func (p *place) chunkFiles() []string {
	p.t.Helper()
	list, err := filepath.Glob(p.Dir + "/.chunks/*/*")
	if err != nil {
		p.t.Fatal(err)
	}
	return list
}

func TestAnUnfinishedSnapshotIsNotSeen(t *testing.T) {
	p := newPlace(t)
	p.Write(".lock", nil)
	before := p.tree()
	w := p.begin(store.SnapshotOptions{}, "ns/prod/host/alpha")
	p.writeAll(w)
	r := p.reader()
	if _, err := store.LoadSnapshot(t.Context(), r, w.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the end: %v, want %v", err, fs.ErrNotExist)
	}
	if p.ref.Operations() != (opsfile.Counts{Read: 1, Write: 1}) {
		t.Errorf("counted %+v while writing", p.ref.Operations())
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	chunks := p.chunkFiles()
	for _, c := range chunks {
		rel, _ := filepath.Rel(p.Dir, c)
		before = append(before, rel)
	}
	slices.Sort(before)
	if after := p.tree(); len(chunks) == 0 || !slices.Equal(after, before) {
		t.Errorf("after Abort there is %v, want chunks and %v", after, before)
	}
	if err := w.Finish(t.Context()); err == nil {
		t.Error("finished after Abort")
	}
}

func TestASnapshotWithAnOpenStreamIsNotFinished(t *testing.T) {
	p := newPlace(t)
	w := p.begin(store.SnapshotOptions{}, alpha)
	x, err := w.Stream(t.Context(), name.Catalog)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(t.Context()); err == nil || !strings.Contains(err.Error(), name.Catalog.String()) {
		t.Errorf("Finish: %v, want a complaint about %s", err, name.Catalog)
	}
	if got := p.tree(); slices.Contains(got, "host") {
		t.Errorf("left %v", got)
	}
}

func TestTheSameDataIsStoredOnce(t *testing.T) {
	p := newPlace(t)
	first := p.begin(store.SnapshotOptions{}, alpha)
	p.writeAll(first)
	if err := first.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	chunks := p.chunkFiles()
	old := time.Unix(1e9, 0)
	inodes := map[string]os.FileInfo{}
	for _, c := range chunks {
		if err := os.Chtimes(c, old, old); err != nil {
			t.Fatal(err)
		}
		inodes[c], _ = os.Stat(c)
	}
	began := time.Now().Add(-time.Second)
	second := p.begin(store.SnapshotOptions{}, alpha)
	p.writeAll(second)
	if w := second.Written(); w.New != 0 || w.Chunks == 0 {
		t.Errorf("the second time: %+v, want nothing new", w)
	}
	if err := second.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first.Name() == second.Name() {
		t.Errorf("both are %s", first.Name())
	}
	if now := p.chunkFiles(); !slices.Equal(now, chunks) {
		t.Errorf("%d chunks became %d", len(chunks), len(now))
	}
	for _, c := range chunks {
		now, err := os.Stat(c)
		if err != nil || !os.SameFile(now, inodes[c]) || !now.ModTime().Equal(old) {
			t.Errorf("%s was written again: %v", c, err)
			continue
		}
		if at := time.Unix(now.Sys().(*syscall.Stat_t).Atim.Unix()); at.Before(began) {
			t.Errorf("%s was used, and has access time %s: a garbage collection could remove it", c, at)
		}
	}
}

func TestAChunkThatWasCutOffIsWrittenAnew(t *testing.T) {
	p := newPlace(t)
	data := noise(1, 5000)
	write := func() *store.SnapshotWriter {
		w := p.begin(store.SnapshotOptions{}, alpha)
		if _, err := w.Image(t.Context(), parseFile(t, "d.img.fidx"), memory(data), int64(len(data)), nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		return w
	}
	write()
	chunk := p.chunkFiles()[0]
	if err := os.Truncate(chunk, 0); err != nil {
		t.Fatal(err)
	}
	w := write()
	r := p.reader()
	if got := readAll(t, r, p.stream(p.load(r, w.Name().Dir()), "d.img.fidx"), len(data)); !bytes.Equal(got, data) {
		t.Error("other data came back")
	}
	if !strings.Contains(p.log.String(), filepath.Base(chunk)) {
		t.Errorf("log %q does not name the chunk", p.log)
	}
}

func TestAnImageThatShrinksIsFilledUp(t *testing.T) {
	p := newPlace(t)
	data := noise(1, 5000)
	w := p.begin(store.SnapshotOptions{}, alpha)
	cut, err := w.Image(t.Context(), parseFile(t, "d.img.fidx"), memory(data), 6000, nil)
	if cut != 5000 || err != nil {
		t.Errorf("cut at %d, %v, want 5000", cut, err)
	}
	if err := w.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := p.reader()
	got := readAll(t, r, p.stream(p.load(r, w.Name().Dir()), "d.img.fidx"), 6000)
	if want := append(data, make([]byte, 1000)...); !bytes.Equal(got, want) {
		t.Error("other data came back")
	}
}

func TestNothingIsWrittenBesideAGarbageCollection(t *testing.T) {
	p := newPlace(t)
	p.Write(".lock", nil)
	// Another process, as POSIX locks count per process. It reports when it has
	// the lock, and has it until its input ends.
	holder := startLockHolder(t, filepath.Join(p.Dir, ".lock"))
	var told error
	_, err := p.tryBegin(store.SnapshotOptions{Wait: time.Millisecond, Waiting: func(err error) { told = err }}, alpha)
	if !errors.Is(err, store.ErrCollecting) || !errors.Is(told, store.ErrCollecting) {
		t.Errorf("begin: %v, told %v, want %v", err, told, store.ErrCollecting)
	}
	done := make(chan error, 1)
	waiting := make(chan struct{})
	go func() {
		w, err := p.tryBegin(store.SnapshotOptions{Wait: time.Minute, Waiting: func(error) { close(waiting) }}, alpha)
		if err == nil {
			err = w.Abort()
		}
		done <- err
	}()
	<-waiting
	holder.release()
	if err := <-done; err != nil {
		t.Errorf("after the garbage collection: %v", err)
	}
	// And the other way round, whatever else opens and closes that file.
	w := p.begin(store.SnapshotOptions{}, alpha)
	if f, err := os.Open(filepath.Join(p.Dir, ".lock")); err == nil {
		f.Close()
	}
	if startLockHolder(t, filepath.Join(p.Dir, ".lock")) != nil {
		t.Error("a garbage collection could begin while a snapshot is written")
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
}

func TestTwoWritersOfOneGroup(t *testing.T) {
	p := newPlace(t)
	w := p.begin(store.SnapshotOptions{}, alpha)
	if _, err := p.tryBegin(store.SnapshotOptions{Wait: time.Millisecond}, alpha); !errors.Is(err, store.ErrGroupBusy) {
		t.Errorf("the same group: %v, want %v", err, store.ErrGroupBusy)
	}
	other := p.begin(store.SnapshotOptions{}, "host/beta")
	for _, w := range []*store.SnapshotWriter{w, other} {
		if err := w.Finish(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestModesForbidWriting(t *testing.T) {
	for mode, want := range map[cfg.ModeType]error{cfg.ReadOnly: cfg.ErrReadOnly, cfg.Offline: cfg.ErrOffline} {
		p := newPlace(t)
		eventually(t, "what opening the datastore did has ended", func() bool {
			return maint.SetMode(t.Context(), p.host, testName, mode, maint.SetOptions{}) == nil
		})
		if _, err := p.tryBegin(store.SnapshotOptions{}, alpha); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", mode, err, want)
		}
	}
}

func TestGroupsKeepTheirOwner(t *testing.T) {
	p := newPlace(t)
	for i, c := range []struct {
		owner string
		want  error
	}{{"", nil}, {"root@pam", nil}, {"joe@pbs", store.ErrOwner}, {"", nil}} {
		w, err := p.tryBegin(store.SnapshotOptions{Owner: c.owner, Time: time.Unix(1e9+int64(i), 0)}, alpha)
		if !errors.Is(err, c.want) {
			t.Fatalf("owner %q: %v, want %v", c.owner, err, c.want)
		}
		if w != nil {
			if err := w.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestTimesOfAGroupAscend(t *testing.T) {
	p := newPlace(t)
	for _, c := range []struct {
		sec  int64
		want error
	}{{1e9, nil}, {1e9, fs.ErrExist}, {1e9 - 1, store.ErrTime}, {1e9 + 1, nil}, {1e9, store.ErrTime}, {253e9, nil}} {
		w, err := p.tryBegin(store.SnapshotOptions{Time: time.Unix(c.sec, 0)}, alpha)
		if !errors.Is(err, c.want) {
			t.Fatalf("time %d: %v, want %v", c.sec, err, c.want)
		}
		if w != nil {
			if err := w.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	// That last one is far ahead of any clock.
	if _, err := p.tryBegin(store.SnapshotOptions{}, alpha); !errors.Is(err, store.ErrTime) {
		t.Errorf("now: %v, want %v", err, store.ErrTime)
	}
	if w := p.begin(store.SnapshotOptions{}, "host/beta"); w.Abort() != nil {
		t.Error("another group minds, too")
	}
}

func TestCreateMakesWhatAServerWants(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := filepath.Join(memoryDir(t), "tank")
	if err := store.Create(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{"": fs.ModeDir | 0o755, ".chunks": fs.ModeDir | 0o750, ".chunks/0000": fs.ModeDir | 0o750, ".chunks/ffff": fs.ModeDir | 0o750, ".lock": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode() != want {
			t.Errorf("%q: %v, %v, want %v", path, info, err, want)
		}
	}
	if list, _ := os.ReadDir(filepath.Join(dir, ".chunks")); len(list) != 1<<16 {
		t.Errorf("%d directories for chunks, want %d", len(list), 1<<16)
	}
	if err := store.Create(t.Context(), dir); !errors.Is(err, store.ErrNotEmpty) {
		t.Errorf("a second time: %v, want %v", err, store.ErrNotEmpty)
	}
}

func TestCreateUsesWhatAnInterruptedOneLeft(t *testing.T) {
	dir := memoryDir(t)
	if err := os.MkdirAll(filepath.Join(dir, ".chunks.new/0000"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := store.Create(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".chunks/ffff")); err != nil {
		t.Error(err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Create(t.Context(), other); !errors.Is(err, store.ErrNotEmpty) || !strings.Contains(err.Error(), "letter") {
		t.Errorf("beside a letter: %v, want %v that names it", err, store.ErrNotEmpty)
	}
}
