package chunk

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// packed writes a chunk as clients do, compressed.
func (p *place) packed(t testing.TB, data []byte) name.Digest {
	t.Helper()
	encoded, err := blob.Encoder{Compress: true}.EncodeChunk(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	d := blob.Digest(data, nil)
	p.Write(filepath.Clean(storetest.ChunkFile(d)), encoded)
	return d
}

// Blocks of all sizes go through a cache that is too small for them: what they
// hold is right, and all memory that was mapped is given back.
func TestMappedMemoryIsGivenBack(t *testing.T) {
	p := newPlace(t)
	s := NewSource(1<<20, LocalLimits())
	for i := range 60 {
		size := minMapped - 5 + i*13_000
		data := text(i, size)
		d := p.packed(t, data)
		if i%2 == 0 {
			d = p.Chunk(data, nil)
		}
		b := mustGet(t, s, p, plain(d, size))
		if !bytes.Equal(b.Bytes(), data) {
			t.Fatalf("chunk of %d bytes is wrong", size)
		}
		b.Release()
	}
	if n := s.cache.size + s.pool.size; n > 1<<20+maxFree {
		t.Errorf("%d bytes are kept", n)
	}
	if len(s.pool.mapped) == 0 {
		t.Fatal("nothing is mapped: nothing was tested")
	}
	s.Drop()
	if n := len(s.pool.mapped); n != 0 {
		t.Errorf("%d buffers are mapped after everything was dropped", n)
	}
}

// What was used again outlives a scan of any length; one read after another of
// the same chunk by one reader is one use.
func TestScanLeavesWhatIsUsedOften(t *testing.T) {
	p := newPlace(t)
	const size = 1000
	s := NewSource(8*size, LocalLimits())
	get := func(i int, again bool) (loaded bool) {
		before := p.loads.Load()
		b, err := s.Get(t.Context(), plain(p.Chunk(text(i, size), nil), size), again, p.hold)
		if err != nil {
			t.Fatal(err)
		}
		b.Release()
		return p.loads.Load() > before
	}
	for i := range 3 {
		get(i, false)
		get(i, false) // by another reader
	}
	for i := 10; i < 40; i++ {
		get(i, false)
		get(i, true)
		get(i, true)
	}
	for i := range 3 {
		if get(i, false) {
			t.Errorf("chunk %d, which was used twice, is not there after a scan", i)
		}
	}
	if !get(10, false) {
		t.Error("the first chunk of the scan is still there")
	}
	if get(39, false) {
		t.Error("the last chunk of the scan is not there")
	}
}
