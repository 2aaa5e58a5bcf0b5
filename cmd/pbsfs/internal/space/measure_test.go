package space

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// measured measures a datastore.
func measured(t *testing.T, s *storetest.Store, opts Options) *Result {
	t.Helper()
	ref, err := store.Open(t.Context(), store.Options{Name: "tank", Path: s.Dir, Host: storetest.Host(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ref.Close(); err != nil {
			t.Error(err)
		}
	}()
	var res *Result
	err = ref.View(t.Context(), func(r *store.Reader) error {
		res, err = Measure(t.Context(), r, tree.New(ref).Root(), opts)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// random makes a datastore of snapshots that share chunks in all ways, and returns what
// each refers to, by its directory: the chunks in the order of its indexes.
func random(s *storetest.Store, rng *rand.Rand) map[string][]storetest.Piece {
	groups := []string{"host/a", "host/b", "vm/7", "ns/prod/host/a"}
	out := make(map[string][]storetest.Piece)
	for i := range 30 {
		sn := s.Snapshot(groups[rng.IntN(len(groups))], fmt.Sprintf("2023-11-14T08:00:%02dZ", i))
		for _, file := range []string{"one.stream.didx", "two.stream.didx"} {
			var pieces [][]byte
			for range 1 + rng.IntN(12) {
				n := rng.IntN(60)
				pieces = append(pieces, fmt.Appendf(nil, "piece %d %s", n, strings.Repeat("x", n)))
			}
			for k, d := range sn.Dynamic(file, pieces...) {
				out[sn.Dir] = append(out[sn.Dir], storetest.Piece{Digest: d, Size: len(pieces[k])})
			}
		}
		sn.Blob("some.conf.blob", []byte("x"))
		sn.Finish()
	}
	return out
}

// slow computes a size in the simplest way: from what is inside, and what is outside.
func slow(t *testing.T, dir string, all map[string][]storetest.Piece, inside func(string) bool) (out Size) {
	t.Helper()
	mine, others := make(map[name.Digest]int64), make(map[name.Digest]bool)
	for s, pieces := range all {
		for _, p := range pieces {
			if !inside(s) {
				others[p.Digest] = true
				continue
			}
			out.Logical += int64(p.Size)
			mine[p.Digest] = int64(p.Size)
		}
	}
	for d, size := range mine {
		out.Chunks++
		out.Data += size
		if others[d] {
			continue
		}
		out.OnlyChunks++
		out.Only += size
		st, err := os.Stat(filepath.Join(dir, storetest.ChunkFile(d)))
		if err != nil {
			t.Fatal(err)
		}
		out.OnlyStored += st.Size()
	}
	return out
}

func TestSizesAreThoseOfASlowComputation(t *testing.T) {
	for seed := range uint64(5) {
		s := storetest.New(t)
		all := random(s, rand.New(rand.NewPCG(seed, 0)))
		got := measured(t, s, Options{Stored: true})
		check := func(what string, have Size, inside func(string) bool) {
			if want := slow(t, s.Dir, all, inside); have != want {
				t.Errorf("seed %d: %s: got %+v, want %+v", seed, what, have, want)
			}
		}
		n := 0
		for _, g := range got.Groups {
			check(g.Name.String(), g.Size, func(s string) bool { return filepath.Dir(s) == g.Name.String() })
			for _, sn := range g.Snapshots {
				n++
				check(sn.Name.String(), sn.Size, func(s string) bool { return s == sn.Name.String() })
			}
		}
		check("all", got.Total, func(string) bool { return true })
		if n != len(all) || got.Missing != 0 {
			t.Errorf("seed %d: got %d snapshots, %d missing chunks, want %d and none", seed, n, got.Missing, len(all))
		}
	}
}

func TestDamagedIndexIsTold(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/a", "2023-11-14T08:00:00Z")
	sn.Dynamic("a.stream.didx", []byte("one"))
	d := sn.Dynamic("b.stream.didx", []byte("three"))[0]
	sn.Finish()
	s.Remove(storetest.ChunkFile(d))
	s.Write(sn.Dir+"/a.stream.didx", []byte("garbage"))
	got := measured(t, s, Options{Stored: true}).Groups[0].Snapshots[0]
	if !errors.Is(got.Err, store.ErrCorrupt) || got.Data != 5 {
		t.Errorf("got %v, and %d bytes, want the other index", got.Err, got.Data)
	}
}

func TestMissingChunksAreCounted(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/a", "2023-11-14T08:00:00Z")
	list := sn.Dynamic("a.stream.didx", []byte("one"), []byte("two"))
	sn.Finish()
	s.Remove(storetest.ChunkFile(list[0]))
	if got := measured(t, s, Options{Stored: true}); got.Missing != 1 || got.Total.OnlyStored != 12+3 {
		t.Errorf("got %d missing, %d bytes of files", got.Missing, got.Total.OnlyStored)
	}
}

func TestMeasureEndsEarly(t *testing.T) {
	s := storetest.New(t)
	random(s, rand.New(rand.NewPCG(1, 1)))
	ref, err := store.Open(t.Context(), store.Options{Name: "tank", Path: s.Dir, Host: storetest.Host(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	defer ref.Close()
	ctx, cancel := context.WithCancel(t.Context())
	err = ref.View(ctx, func(r *store.Reader) error {
		_, err := Measure(ctx, r, tree.New(ref).Root(), Options{Progress: func(int64, int64) { cancel() }})
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
