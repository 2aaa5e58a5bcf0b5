package chunk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestAheadLoadsForWhoAsksLater(t *testing.T) {
	p := newPlace(t)
	data := text(1, 1000)
	d := p.Chunk(data, nil)
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(1<<20, LocalLimits())
		s.Ahead(plain(d, len(data)), p.hold)
		synctest.Wait()
		if n := p.holds.Load(); n != 0 {
			t.Errorf("%d rights are held after loading ahead", n)
		}
		must(os.Remove(filepath.Join(p.Dir, storetest.ChunkFile(d))))
		b := mustGet(t, s, p, plain(d, len(data))) // the file is gone: only memory has it
		defer b.Release()
		if !bytes.Equal(b.Bytes(), data) {
			t.Error("other bytes than the chunk's")
		}
		if n := p.loads.Load(); n != 1 {
			t.Errorf("%d loads, want 1", n)
		}
		s.Ahead(plain(d, len(data)), p.hold)
		if n := p.loads.Load(); n != 1 {
			t.Error("a chunk that is there was loaded ahead again")
		}
	})
}

func TestAheadJoinsWhoIsWaiting(t *testing.T) {
	p := newPlace(t)
	data := text(1, 1000)
	d := p.Chunk(data, nil)
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(1<<20, LocalLimits())
		p.gate = make(chan struct{})
		s.Ahead(plain(d, len(data)), p.hold)
		got := make(chan *Block)
		go func() { got <- mustGet(t, s, p, plain(d, len(data))) }()
		synctest.Wait()
		close(p.gate)
		(<-got).Release()
		if n := p.loads.Load(); n != 1 {
			t.Errorf("%d loads, want 1", n)
		}
	})
}

func TestAheadKeepsToItsShare(t *testing.T) {
	p := newPlace(t)
	data := text(1, 1000)
	d := p.Chunk(data, nil)
	NewSource(int64(len(data)), LocalLimits()).Ahead(plain(d, len(data)), p.hold)
	if n := p.loads.Load(); n != 0 {
		t.Errorf("%d loads into a cache that holds one chunk, want 0", n)
	}
}

func TestDamageFoundAheadIsSaidToWhoAsks(t *testing.T) {
	p := newPlace(t)
	data := text(1, 1000)
	d := p.Chunk(data, nil)
	must(os.Truncate(filepath.Join(p.Dir, storetest.ChunkFile(d)), 20))
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(1<<20, LocalLimits())
		s.Ahead(plain(d, len(data)), p.hold)
		synctest.Wait()
		if b, err := s.Get(t.Context(), plain(d, len(data)), false, p.hold); err == nil {
			b.Release()
			t.Error("a truncated chunk was served")
		}
	})
}
