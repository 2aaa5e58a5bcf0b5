package chunk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/disk"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// place is a datastore with what its loaders did.
type place struct {
	*storetest.Store
	root *disk.Root
	// gate, unless nil, is what each loader waits for before it may read.
	gate  chan struct{}
	holds atomic.Int64 // held now
	loads atomic.Int64 // begun ever
}

func newPlace(t testing.TB) *place {
	t.Helper()
	p := &place{Store: storetest.New(t)}
	var err error
	if p.root, err = disk.Open(p.Dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.root.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
		if n := p.holds.Load(); n != 0 {
			t.Errorf("%d rights are still held", n)
		}
	})
	return p
}

// hold is a right of the place that is given back once.
type hold struct {
	p        *place
	released atomic.Bool
}

func (p *place) hold() (Hold, error) {
	p.holds.Add(1)
	p.loads.Add(1)
	return &hold{p: p}, nil
}

func (h *hold) Chunks() (Backend, error) {
	if h.p.gate != nil {
		<-h.p.gate
	}
	return h.p.root, nil
}

func (h *hold) Release() {
	if h.released.Swap(true) {
		panic("right released twice")
	}
	h.p.holds.Add(-1)
}

func plain(d name.Digest, size int) Want { return Want{Digest: d, Size: size, Mode: blob.MustPlain} }

func mustGet(t testing.TB, s *Source, p *place, w Want) *Block {
	t.Helper()
	b, err := s.Get(context.Background(), w, false, p.hold)
	if err != nil {
		t.Fatalf("Get(%s): %v", w.Digest, err)
	}
	return b
}

// text returns n bytes that differ with seed.
func text(seed, n int) []byte {
	line := fmt.Sprintf("chunk %d. ", seed)
	return []byte(strings.Repeat(line, n/len(line)+1)[:n])
}

func TestManyWaitersOneLoad(t *testing.T) {
	p := newPlace(t)
	data := text(1, 1000)
	d := p.Chunk(data, nil)
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(1<<20, LocalLimits())
		p.gate = make(chan struct{})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				b := mustGet(t, s, p, plain(d, len(data)))
				defer b.Release()
				if !bytes.Equal(b.Bytes(), data) {
					t.Errorf("data of %d bytes is wrong", len(b.Bytes()))
				}
			})
		}
		synctest.Wait() // all wait for the one loader, which waits for us
		if n := p.loads.Load(); n != 1 {
			t.Errorf("%d loads are under way, want 1", n)
		}
		close(p.gate)
		wg.Wait()
		mustGet(t, s, p, plain(d, len(data))).Release()
		if n := p.loads.Load(); n != 1 {
			t.Errorf("%d loads, want 1: the cache has it", n)
		}
	})
}

func TestWaiterLeavesWithItsContextAndTheLoadGoesOn(t *testing.T) {
	p := newPlace(t)
	data := text(1, 1000)
	d := p.Chunk(data, nil)
	reason := errors.New("reader gave up")
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(1<<20, LocalLimits())
		p.gate = make(chan struct{})
		ctx, cancel := context.WithCancelCause(t.Context())
		left, stayed := make(chan error, 1), make(chan *Block, 1)
		go func() { // the one who begins the load
			b, err := s.Get(ctx, plain(d, len(data)), false, p.hold)
			if b != nil {
				b.Release()
			}
			left <- err
		}()
		synctest.Wait()
		go func() { stayed <- mustGet(t, s, p, plain(d, len(data))) }()
		synctest.Wait()
		cancel(reason)
		if err := <-left; !errors.Is(err, reason) {
			t.Errorf("Get of who left: %v, want %v", err, reason)
		}
		if n := p.holds.Load(); n != 1 {
			t.Errorf("%d rights held while the load goes on, want 1", n)
		}
		close(p.gate)
		b := <-stayed
		if !bytes.Equal(b.Bytes(), data) {
			t.Error("data of who stayed is wrong")
		}
		b.Release()
		if n := p.loads.Load(); n != 1 {
			t.Errorf("%d loads, want 1", n)
		}
	})
}

// What everybody has given up on is loaded all the same, enters the cache, and
// holds its own right while it is read.
func TestLoadOutlivesAllWaiters(t *testing.T) {
	for _, limit := range []int64{1 << 20, 0} {
		p := newPlace(t)
		data := text(1, 1000)
		d := p.Chunk(data, nil)
		synctest.Test(t, func(t *testing.T) {
			s := NewSource(limit, LocalLimits())
			p.gate = make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := s.Get(ctx, plain(d, len(data)), false, p.hold); !errors.Is(err, context.Canceled) {
				t.Errorf("Get: %v, want Canceled", err)
			}
			if n := p.holds.Load(); n != 1 {
				t.Errorf("%d rights held while the load goes on, want 1", n)
			}
			close(p.gate)
			synctest.Wait()
			mustGet(t, s, p, plain(d, len(data))).Release()
			want := int64(1)
			if limit == 0 {
				want = 2
			}
			if n := p.loads.Load(); n != want {
				t.Errorf("limit %d: %d loads, want %d", limit, n, want)
			}
		})
	}
}

// Two indexes name one chunk with different lengths, and only one is right. Who
// has the right one is not to suffer from the other.
func TestWrongLengthConcernsOnlyWhoAskedForIt(t *testing.T) {
	p := newPlace(t)
	data := text(1, 1000)
	d := p.Chunk(data, nil)
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(1<<20, LocalLimits())
		p.gate = make(chan struct{})
		wrong, right := make(chan error, 1), make(chan error, 1)
		get := func(size int, result chan error) {
			b, err := s.Get(t.Context(), plain(d, size), false, p.hold)
			if err == nil {
				b.Release()
			}
			result <- err
		}
		go get(999, wrong)
		synctest.Wait()
		go get(1000, right)
		synctest.Wait()
		close(p.gate)
		if err := <-wrong; !errors.Is(err, corrupt.Err) {
			t.Errorf("wrong length: %v, want corrupt data", err)
		}
		if err := <-right; err != nil {
			t.Errorf("right length: %v", err)
		}
		go get(1001, wrong) // now the cache has it
		if err := <-wrong; !errors.Is(err, corrupt.Err) {
			t.Errorf("wrong length from the cache: %v, want corrupt data", err)
		}
	})
}

func TestHoldThatFails(t *testing.T) {
	p := newPlace(t)
	d := p.Chunk(text(1, 100), nil)
	s := NewSource(1<<20, LocalLimits())
	no := errors.New("no right")
	if _, err := s.Get(t.Context(), plain(d, 100), false, func() (Hold, error) { return nil, no }); !errors.Is(err, no) {
		t.Errorf("Get: %v, want %v", err, no)
	}
	mustGet(t, s, p, plain(d, 100)).Release() // and nothing is stuck
}

// The bytes of a block never change while somebody has it, whatever the cache
// does meanwhile; what nobody has is used again.
func TestHeldBlocksNeverChange(t *testing.T) {
	p := newPlace(t)
	const size = 5000
	s := NewSource(2*size, LocalLimits())
	held := mustGet(t, s, p, plain(p.Chunk(text(0, size), nil), size))
	again := mustGet(t, s, p, plain(p.Chunk(text(0, size), nil), size))
	if held != again {
		t.Error("one chunk has two blocks in a cache that holds it")
	}
	again.Release()
	for i := 1; i < 20; i++ {
		b := mustGet(t, s, p, plain(p.Chunk(text(i, size), nil), size))
		if !bytes.Equal(b.Bytes(), text(i, size)) {
			t.Fatalf("chunk %d is wrong", i)
		}
		b.Release()
		if !bytes.Equal(held.Bytes(), text(0, size)) {
			t.Fatalf("held block changed when chunk %d was loaded", i)
		}
	}
	s.Drop()
	if !bytes.Equal(held.Bytes(), text(0, size)) {
		t.Fatal("held block changed by Drop")
	}
	buf := held.Bytes()
	held.Release()
	if len(held.Bytes()) != 0 {
		t.Error("a released block still shows its data")
	}
	// Poison what the pool has: nobody may show it any more.
	for _, b := range s.pool.free {
		b = b[:cap(b)]
		for i := range b {
			b[i] = 0xdb
		}
	}
	if buf[0] != 0xdb {
		t.Error("the memory of a block that nobody has is not in the pool")
	}
	b := mustGet(t, s, p, plain(p.Chunk(text(1, size), nil), size))
	defer b.Release()
	if !bytes.Equal(b.Bytes(), text(1, size)) {
		t.Error("block from the pool is wrong")
	}
	if &b.Bytes()[0] != &buf[0] {
		t.Error("the memory in the pool was not used again")
	}
}

func TestReleaseTooOftenPanics(t *testing.T) {
	p := newPlace(t)
	s := NewSource(0, LocalLimits()) // so that the caller's reference is the only one
	b := mustGet(t, s, p, plain(p.Chunk(text(0, 10), nil), 10))
	b.Release()
	defer func() {
		if recover() == nil {
			t.Error("the second Release of one reference went unnoticed")
		}
	}()
	b.Release()
}

func TestCacheIsBoundedInBytes(t *testing.T) {
	p := newPlace(t)
	const size, limit = 1000, 4500
	s := NewSource(limit, LocalLimits())
	var digests []name.Digest
	for i := range 10 {
		d := p.Chunk(text(i, size), nil)
		digests = append(digests, d)
		mustGet(t, s, p, plain(d, size)).Release()
		kept := int64(0)
		for _, e := range s.cache.blocks {
			kept += e.bytes()
		}
		if kept > limit || kept != s.cache.size {
			t.Fatalf("after %d chunks: %d bytes are kept, counted as %d, limit %d", i+1, kept, s.cache.size, limit)
		}
	}
	before := p.loads.Load()
	mustGet(t, s, p, plain(digests[9], size)).Release()
	if n := p.loads.Load() - before; n != 0 {
		t.Errorf("the newest chunk was loaded again")
	}
	mustGet(t, s, p, plain(digests[0], size)).Release()
	if n := p.loads.Load() - before; n != 1 {
		t.Errorf("the oldest chunk is still there")
	}
	s.Drop()
	if s.cache.size != 0 || len(s.cache.blocks) != 0 {
		t.Errorf("after Drop: %d bytes, %d blocks", s.cache.size, len(s.cache.blocks))
	}
}

// A hit never skips the check of the mode: who is told that a chunk is plain
// does not get one that was decrypted, nor the other way round, and no key
// opens what another one has opened.
func TestModeAndKeyAreInTheCacheKey(t *testing.T) {
	p := newPlace(t)
	key, other := storetest.NewKey(t, 1), storetest.NewKey(t, 2)
	data := text(1, 300)
	sealed, open := p.Chunk(data, key), p.Chunk(data, nil)
	s := NewSource(1<<20, LocalLimits())
	want := func(d name.Digest, m blob.Mode, k *storetest.Key) Want {
		w := Want{Digest: d, Size: len(data), Mode: m}
		if k != nil {
			w.Key = k.Key
		}
		return w
	}
	mustGet(t, s, p, want(sealed, blob.MustEncrypted, key)).Release()
	mustGet(t, s, p, want(open, blob.MustPlain, nil)).Release()
	for what, w := range map[string]Want{
		"encrypted chunk as a plain one":       want(sealed, blob.MustPlain, nil),
		"plain chunk as an encrypted one":      want(open, blob.MustEncrypted, key),
		"encrypted chunk with another key":     want(sealed, blob.MustEncrypted, other),
		"encrypted chunk without a key":        want(sealed, blob.MustEncrypted, nil),
		"a mode that accepts nothing":          want(open, 0, nil),
		"plain chunk as encrypted, no key yet": want(open, blob.MustEncrypted, nil),
	} {
		if b, err := s.Get(t.Context(), w, false, p.hold); err == nil {
			t.Errorf("%s: got %d bytes, want an error", what, len(b.Bytes()))
			b.Release()
		}
	}
}

// Every fault of a chunk file is wrong bytes, and none is "no such file", which
// would tell a user that a file of theirs does not exist.
func TestFaults(t *testing.T) {
	data := text(7, 3000)
	file := storetest.Blob(data, nil)
	for what, spoil := range map[string]func(p *place, path string){
		"missing":   func(p *place, path string) { p.Remove(path) },
		"directory": func(p *place, path string) { p.Remove(path); p.Mkdir(path) },
		"fifo":      func(p *place, path string) { p.Remove(path); must(unix.Mkfifo(filepath.Join(p.Dir, path), 0o644)) },
		"socket": func(p *place, path string) {
			p.Remove(path)
			must(unix.Mknod(filepath.Join(p.Dir, path), unix.S_IFSOCK, 0))
		},
		"empty":        func(p *place, path string) { p.Write(path, nil) },
		"cut header":   func(p *place, path string) { p.Write(path, file[:9]) },
		"cut data":     func(p *place, path string) { p.Write(path, file[:len(file)-1]) },
		"one byte on":  func(p *place, path string) { p.Write(path, append(bytes.Clone(file), 0)) },
		"other data":   func(p *place, path string) { p.Write(path, storetest.Blob(text(8, 3000), nil)) },
		"shorter data": func(p *place, path string) { p.Write(path, storetest.Blob(data[:2999], nil)) },
		"longer data":  func(p *place, path string) { p.Write(path, storetest.Blob(append(bytes.Clone(data), 0), nil)) },
		"huge":         func(p *place, path string) { must(os.Truncate(filepath.Join(p.Dir, path), blob.MaxEncodedChunk+1)) },
		"renamed to .bad": func(p *place, path string) {
			must(os.Rename(filepath.Join(p.Dir, path), filepath.Join(p.Dir, path+".0.bad")))
		},
		"link to the data": func(p *place, path string) {
			must(os.Rename(filepath.Join(p.Dir, path), filepath.Join(p.Dir, "elsewhere")))
			must(os.Symlink("../../elsewhere", filepath.Join(p.Dir, path)))
		},
		"prefix is a file": func(p *place, path string) { p.Remove(filepath.Dir(path)); p.Write(filepath.Dir(path), nil) },
		"prefix is a link": func(p *place, path string) {
			dir := filepath.Join(p.Dir, filepath.Dir(path))
			must(os.Rename(dir, filepath.Join(p.Dir, "elsewhere")))
			must(os.Symlink("../elsewhere", dir))
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			d := p.Chunk(data, nil)
			spoil(p, storetest.ChunkFile(d))
			s := NewSource(1<<20, LocalLimits())
			b, err := s.Get(t.Context(), plain(d, len(data)), false, p.hold)
			if err == nil {
				t.Fatalf("got %d bytes, want an error", len(b.Bytes()))
			}
			var own *Error
			if !errors.As(err, &own) || own.Digest != d || !strings.Contains(err.Error(), d.String()) {
				t.Errorf("error %v does not name the chunk %s", err, d)
			}
			if !errors.Is(err, corrupt.Err) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("error %v: corrupt %v, want it, not exist %v", err, errors.Is(err, corrupt.Err), errors.Is(err, fs.ErrNotExist))
			}
			if bad := strings.Contains(err.Error(), "marked corrupt"); bad != strings.Contains(what, ".bad") {
				t.Errorf("error %v, says marked corrupt: %v", err, bad)
			}
			if len(s.cache.blocks) != 0 || s.cache.size != 0 {
				t.Error("something entered the cache")
			}
			// Nothing of it is remembered either.
			must(os.RemoveAll(filepath.Join(p.Dir, ".chunks")))
			p.Chunk(data, nil)
			mustGet(t, s, p, plain(d, len(data))).Release()
		})
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	p := newPlace(t)
	data := text(3, 40)
	d := p.Chunk(data, nil)
	file := storetest.Blob(data, nil)
	s := NewSource(0, LocalLimits())
	for i := range len(file) * 8 {
		bad := bytes.Clone(file)
		bad[i/8] ^= 1 << (i % 8)
		p.Write(storetest.ChunkFile(d), bad)
		if b, err := s.Get(t.Context(), plain(d, len(data)), false, p.hold); !errors.Is(err, corrupt.Err) {
			t.Fatalf("bit %d flipped: %v, %v, want corrupt data", i, b, err)
		}
	}
}

// Readers that come, leave and hold, over a cache that is too small, with
// faults in between: whoever gets data gets the right data, and every right is
// given back.
func TestConcurrentUse(t *testing.T) {
	p := newPlace(t)
	const chunks, size = 12, 2000
	wants := make([]Want, chunks)
	for i := range wants {
		wants[i] = plain(p.Chunk(text(i, size), nil), size)
	}
	p.Remove(storetest.ChunkFile(wants[0].Digest))
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
		s := NewSource(4*size, LocalLimits())
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(g), 3))
				for range 300 {
					i := rnd.IntN(chunks)
					ctx, cancel := context.WithCancel(t.Context())
					if rnd.IntN(4) == 0 {
						cancel()
					}
					b, err := s.Get(ctx, wants[i], false, p.hold)
					cancel()
					switch {
					case err == nil:
						if !bytes.Equal(b.Bytes(), text(i, size)) {
							t.Errorf("chunk %d is wrong", i)
						}
						b.Release()
					case errors.Is(err, context.Canceled):
					case i == 0 && errors.Is(err, corrupt.Err):
					default:
						t.Errorf("chunk %d: %v", i, err)
					}
					if rnd.IntN(100) == 0 {
						s.Drop()
					}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if len(s.loading) != 0 || s.cache.size > s.cache.limit || s.busy != 0 || s.running != 0 || s.queued != 0 {
			t.Errorf("%d loads are left, %d bytes kept of %d, %d and %d bytes of loads", len(s.loading), s.cache.size, s.cache.limit, s.busy, s.queued)
		}
		for _, e := range s.cache.blocks {
			if n := e.block.refs.Load(); n != 1 {
				t.Errorf("a block in the cache has %d references, want the cache's", n)
			}
		}
	})
}

func BenchmarkHit(b *testing.B) {
	p := newPlace(b)
	const size = 4 << 20
	w := plain(p.Chunk(text(0, size), nil), size)
	s := NewSource(2*size, LocalLimits())
	mustGet(b, s, p, w).Release()
	for b.Loop() {
		mustGet(b, s, p, w).Release()
	}
}

func BenchmarkMiss(b *testing.B) {
	p := newPlace(b)
	const size = 4 << 20
	w := plain(p.Chunk(text(0, size), nil), size)
	s := NewSource(0, LocalLimits())
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		mustGet(b, s, p, w).Release()
	}
}
