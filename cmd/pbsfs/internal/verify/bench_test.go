package verify

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

const (
	benchChunks = 64
	benchSize   = 4 << 20
)

// BenchmarkVerify measures a verification beside its work alone: reading the same chunk
// files, and decoding and digesting what is in them, on all processors. x-alone is the
// rate of the former in proportion to that of the latter, the median of all rounds.
func BenchmarkVerify(b *testing.B) {
	for _, kind := range []string{"compressed", "plain", "encrypted"} {
		b.Run(kind, func(b *testing.B) { benchVerify(b, kind) })
	}
}

func benchVerify(b *testing.B, kind string) {
	key := storetest.NewKey(b, 1)
	p := newPlace(b, key)
	sn := p.Snapshot("vm/100", noon)
	if kind == "encrypted" {
		sn.Key = key
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var pieces []storetest.Piece
	for range benchChunks {
		data := make([]byte, benchSize)
		for i := range data {
			if data[i] = byte(rng.Uint32()); kind == "compressed" && i%64 > 24 {
				data[i] = data[i-1]
			}
		}
		enc := blob.Encoder{Compress: kind == "compressed"}
		if sn.Key != nil {
			enc.Key = key.Key
		}
		d := enc.Digest(data)
		if got := p.store(enc, d, data); (got == blob.Zstd) != enc.Compress {
			b.Fatalf("chunk is stored as %s", got)
		}
		pieces = append(pieces, storetest.Piece{Digest: d, Size: benchSize})
	}
	sn.DynamicOf("drive.stream.didx", pieces...)
	sn.Finish()
	verified := func(ref *store.Lookup, r *store.Reader) time.Duration {
		var f found
		begin := time.Now()
		if err := Run(b.Context(), ref, r, []name.Snapshot{snapshotName(b, sn.Dir)}, Options{}, &f.Counts, &f); err != nil || len(f.damage) > 0 || f.Chunks.Load() != benchChunks {
			b.Fatal(err, f.damage)
		}
		return time.Since(begin)
	}
	decoded := func() time.Duration {
		begin := time.Now()
		p.decodeAlone(b, pieces, sn.Key)
		return time.Since(begin)
	}
	var rates, ratios []float64
	p.with(func(ref *store.Lookup, r *store.Reader) {
		for b.Loop() {
			// One run between two of the other kind: what else goes on concerns both.
			before := decoded()
			whole := verified(ref, r)
			alone := (before + decoded()) / 2
			rates = append(rates, float64(benchChunks*benchSize>>20)/whole.Seconds())
			ratios = append(ratios, alone.Seconds()/whole.Seconds())
		}
	})
	b.ReportMetric(median(rates), "MiB/s")
	b.ReportMetric(median(ratios), "x-alone")
	b.ReportMetric(0, "ns/op")
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// decodeAlone reads and decodes chunk files on all processors.
func (p *place) decodeAlone(b *testing.B, pieces []storetest.Piece, key *storetest.Key) {
	b.Helper()
	todo := make(chan storetest.Piece, len(pieces))
	for _, piece := range pieces {
		todo <- piece
	}
	close(todo)
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			raw, buf := make([]byte, blob.MaxEncodedChunk), make([]byte, 0, benchSize)
			for piece := range todo {
				f, err := os.Open(filepath.Join(p.Dir, storetest.ChunkFile(piece.Digest)))
				if err != nil {
					b.Error(err)
					return
				}
				st, err := f.Stat()
				if err == nil {
					_, err = io.ReadFull(f, raw[:st.Size()])
				}
				f.Close()
				mode := blob.MustPlain
				opened := (&storetest.Key{}).Key
				if key != nil {
					mode, opened = blob.MustEncrypted, key.Key
				}
				if err == nil {
					_, err = blob.DecodeChunk(buf, raw[:st.Size()], piece.Size, piece.Digest, mode, opened)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
}
