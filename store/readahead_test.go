package store_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestReadingOnLoadsTheNextChunkAhead(t *testing.T) {
	pieces := [][]byte{bytes.Repeat([]byte("a"), 100), bytes.Repeat([]byte("b"), 100), bytes.Repeat([]byte("c"), 100), bytes.Repeat([]byte("d"), 100)}
	for _, c := range []struct {
		name  string
		reads []int64 // offsets of reads of one byte
		ahead int     // the chunk that is in memory then
	}{
		{"from the beginning", []int64{0}, 1},
		{"on and on", []int64{0, 50, 100, 110, 200}, 3},
		{"not after a jump", []int64{200}, -1},
		{"again after a jump", []int64{100, 200}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			sn := p.Snapshot(alpha, noon)
			digests := sn.Dynamic("d.didx", pieces...)
			sn.Finish()
			r := p.reader()
			x := p.stream(p.load(r, sn.Dir), "d.didx")
			for _, off := range c.reads {
				if _, err := x.ReadAt(t.Context(), r, make([]byte, 1), off); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			store.WaitForLoads(p.ref)
			last := int(c.reads[len(c.reads)-1] / 100)
			next := (last + 1) % len(pieces)
			p.Remove(storetest.ChunkFile(digests[next]))
			_, err := x.ReadAt(t.Context(), r, make([]byte, 1), int64(next)*100)
			if inMemory := err == nil; inMemory != (c.ahead == next) {
				t.Errorf("after reads at %v, chunk %d is in memory: %v, want %v", c.reads, next, inMemory, c.ahead == next)
			}
		})
	}
}

// Who reads many files has let go of one when the chunks ahead get their turn.
func TestLoadingAheadGoesOnBetweenHandles(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	pieces := make([][]byte, 16)
	for i := range pieces {
		pieces[i] = bytes.Repeat([]byte{byte(i)}, 64<<10)
	}
	digests := sn.Dynamic("d.didx", pieces...)
	sn.Finish()
	var x *store.Stream
	// Windows of 1, 2, 4 and 8 chunks: more than are loaded at a time.
	if err := p.ref.View(t.Context(), func(r *store.Reader) error {
		x = p.stream(p.load(r, sn.Dir), "d.didx")
		_, err := x.ReadAt(t.Context(), r, make([]byte, 4*64<<10), 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	store.WaitForLoads(p.ref)
	const last = 3 + 8
	p.Remove(storetest.ChunkFile(digests[last]))
	if _, err := x.ReadAt(t.Context(), p.reader(), make([]byte, 1), last*64<<10); err != nil {
		t.Errorf("chunk %d was not loaded ahead: %v", last, err)
	}
}
