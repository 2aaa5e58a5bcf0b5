package blob

import (
	"bytes"
	"errors"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

func FuzzDecode(f *testing.F) {
	for _, s := range []string{plainExample, cryptExample, archiveExample, helloExample} {
		f.Add(unhex(f, s), 96)
	}
	for _, encoded := range payloads(f, text(500)) {
		f.Add(encoded, 500)
	}
	key := newKey(f, fixtureKey)
	f.Fuzz(func(t *testing.T, encoded []byte, limit int) {
		limit = min(max(limit, 0), 1<<20)
		// A right CRC lets the fuzzer get past it.
		if kind, err := ReadKind(encoded); err == nil && len(encoded) >= kind.headerSize() {
			fixCRC(encoded, kind.headerSize())
		}
		data, err := Decode(nil, encoded, limit, AnyKind, key)
		if err != nil {
			if !errors.Is(err, corrupt.Err) {
				t.Fatalf("error is not corrupt: %v", err)
			}
			return
		}
		if len(data) > limit {
			t.Fatalf("%d bytes with limit %d", len(data), limit)
		}
		again, err := Decode(make([]byte, 0, len(data)), encoded, len(data), AnyKind, key)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("with the exact limit: %d bytes, %v, want %d", len(again), err, len(data))
		}
	})
}

func BenchmarkDecodeChunk(b *testing.B) {
	key := newKey(b, fixtureKey)
	data := text(4 << 20)
	for _, bm := range []struct {
		what    string
		kind    Kind
		payload []byte
	}{
		{"plain", Plain, data},
		{"zstd", Zstd, stream(b, data)},
		{"encrypted", Encrypted, data},
		{"encrypted-zstd", EncryptedZstd, frame(b, data)},
	} {
		b.Run(bm.what, func(b *testing.B) {
			encoded := encode(b, bm.kind, bm.payload)
			digest := chunkDigest(data, bm.kind, key)
			dst := make([]byte, 0, len(data))
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeChunk(dst, encoded, len(data), digest, AnyKind, key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
