package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

// digest returns a digest that tells entries apart.
func digest(i int) (d name.Digest) {
	binary.BigEndian.PutUint32(d[:], uint32(i)+1)
	return d
}

// fixed builds an index file with n entries.
func fixed(size, chunkSize uint64, n int) []byte {
	file := make([]byte, headerSize)
	copy(file, fixedMagic[:])
	binary.LittleEndian.PutUint64(file[fixedSizeOff:], size)
	binary.LittleEndian.PutUint64(file[fixedChunkSizeOff:], chunkSize)
	for i := range n {
		d := digest(i)
		file = append(file, d[:]...)
	}
	return file
}

// dynamic builds an index file whose entries end at ends.
func dynamic(ends ...uint64) []byte {
	file := make([]byte, headerSize)
	copy(file, dynamicMagic[:])
	for i, end := range ends {
		d := digest(i)
		file = binary.LittleEndian.AppendUint64(file, end)
		file = append(file, d[:]...)
	}
	return file
}

func mustParse(t *testing.T, format name.Format, file []byte) *Index {
	t.Helper()
	x, err := Parse(format, file)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// The dynamic index of reference "blobs-chunks-indexes", section 9: one chunk
// of 96 bytes.
func TestDynamicReferenceExample(t *testing.T) {
	d, err := name.ParseDigest("76ae141724c54e205982a83b1db958652e080508b081ba1004c3cb86cf9d6378")
	if err != nil {
		t.Fatal(err)
	}
	file := append(dynamic(), 0x60, 0, 0, 0, 0, 0, 0, 0)
	x := mustParse(t, name.Dynamic, append(file, d[:]...))
	csum := x.Csum()
	if got, want := hex.EncodeToString(csum[:]), "9fa6e10d7a8d86cd4311bd796929cb49e58c9fe88e6a7ea23cc2e2dd562f07fd"; got != want {
		t.Errorf("Csum = %s, want %s", got, want)
	}
	if x.Size() != 96 || x.Len() != 1 || x.ChunkSize() != 0 {
		t.Errorf("Size, Len, ChunkSize = %d, %d, %d, want 96, 1, 0", x.Size(), x.Len(), x.ChunkSize())
	}
	if got, want := x.Span(0), (Span{d, 0, 96}); got != want {
		t.Errorf("Span(0) = %v, want %v", got, want)
	}
}

// The fixed index of reference "blobs-chunks-indexes", section 9: the last
// chunk is short.
func TestFixedReferenceExample(t *testing.T) {
	file := fixed(0, 0, 2)
	fields, err := hex.DecodeString("64b05a00000000000000400000000000")
	if err != nil {
		t.Fatal(err)
	}
	copy(file[64:], fields)
	x := mustParse(t, name.Fixed, file)
	if x.Size() != 5943396 || x.ChunkSize() != 4194304 || x.Len() != 2 {
		t.Errorf("Size, ChunkSize, Len = %d, %d, %d", x.Size(), x.ChunkSize(), x.Len())
	}
	last := x.Span(1)
	if last.End-last.Off != 1749092 || last.End != x.Size() {
		t.Errorf("Span(1) = %v, want 1749092 bytes up to the end", last)
	}
	if got, want := x.Csum(), sha256.Sum256(file[4096:]); got != want {
		t.Errorf("Csum = %x, want %x", got, want)
	}
}

// walkSpans checks that Span and Find agree for every entry.
func walkSpans(t *testing.T, x *Index) {
	t.Helper()
	var end int64
	for i := range x.Len() {
		s := x.Span(i)
		if s.Off != end || s.End <= s.Off || s.End-s.Off > maxChunk {
			t.Fatalf("Span(%d) = %v behind %d", i, s, end)
		}
		for _, off := range []int64{s.Off, s.Off + (s.End-s.Off)/2, s.End - 1} {
			if got, ok := x.Find(off); !ok || got != i {
				t.Fatalf("Find(%d) = %d, %v, want %d", off, got, ok, i)
			}
		}
		end = s.End
	}
	if end != x.Size() {
		t.Fatalf("entries end at %d, Size = %d", end, x.Size())
	}
	for _, off := range []int64{-1, math.MinInt64, end, end + 1, math.MaxInt64} {
		if got, ok := x.Find(off); ok {
			t.Fatalf("Find(%d) = %d, want none: size is %d", off, got, end)
		}
	}
}

func TestFindAndSpanAgree(t *testing.T) {
	tests := []struct {
		what   string
		format name.Format
		file   []byte
		size   int64
		n      int
	}{
		{"fixed, one byte", name.Fixed, fixed(1, 4<<20, 1), 1, 1},
		{"fixed, one chunk", name.Fixed, fixed(4<<20, 4<<20, 1), 4 << 20, 1},
		{"fixed, one byte more", name.Fixed, fixed(4<<20+1, 4<<20, 2), 4<<20 + 1, 2},
		{"fixed, one byte less", name.Fixed, fixed(8<<20-1, 4<<20, 2), 8<<20 - 1, 2},
		{"fixed, small chunks", name.Fixed, fixed(1000*65536, 65536, 1000), 65536000, 1000},
		{"fixed, largest chunks", name.Fixed, fixed(16<<20+5, 16<<20, 2), 16<<20 + 5, 2},
		{"dynamic, one byte", name.Dynamic, dynamic(1), 1, 1},
		{"dynamic, largest chunk", name.Dynamic, dynamic(16<<20, 32<<20), 32 << 20, 2},
		{"dynamic, mixed", name.Dynamic, dynamic(1, 2, 1000, 1001, 16<<20), 16 << 20, 5},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			x := mustParse(t, tt.format, tt.file)
			if x.Size() != tt.size || x.Len() != tt.n {
				t.Errorf("Size, Len = %d, %d, want %d, %d", x.Size(), x.Len(), tt.size, tt.n)
			}
			if entries := int64(len(tt.file) - headerSize); x.MemSize() < entries {
				t.Errorf("MemSize = %d, the entries have %d", x.MemSize(), entries)
			}
			walkSpans(t, x)
			for i := range x.Len() {
				if got := x.Span(i).Digest; got != digest(i) {
					t.Errorf("Span(%d).Digest = %s, want %s", i, got, digest(i))
				}
			}
		})
	}
}

// Reference "blobs-chunks-indexes", sections 4, 5 and 8.
func TestParseRefuses(t *testing.T) {
	other := dynamic(5)
	copy(other, "notmagic")
	tests := []struct {
		what   string
		format name.Format
		file   []byte
	}{
		{"empty file", name.Fixed, nil},
		{"empty file", name.Dynamic, nil},
		{"shorter than the header", name.Fixed, fixed(1, 4096, 1)[:4095]},
		{"shorter than the header", name.Dynamic, dynamic(1)[:4095]},
		{"wrong magic", name.Dynamic, other},
		{"other format", name.Fixed, dynamic(1, 2, 3, 4)},
		{"other format", name.Dynamic, fixed(5<<12, 1<<12, 5)},
		{"no entries", name.Fixed, fixed(0, 4<<20, 0)},
		{"no entries", name.Dynamic, dynamic()},
		{"size without entries", name.Fixed, fixed(1, 4<<20, 0)},
		{"partial entry", name.Fixed, append(fixed(1, 4<<20, 1), 0)},
		{"partial entry", name.Dynamic, append(dynamic(1), make([]byte, 32)...)},
		{"size 0", name.Fixed, fixed(0, 4<<20, 1)},
		{"entry missing", name.Fixed, fixed(4<<20+1, 4<<20, 1)},
		{"entry too many", name.Fixed, fixed(4<<20, 4<<20, 2)},
		{"chunk size 0", name.Fixed, fixed(1, 0, 1)},
		{"chunk size no power of two", name.Fixed, fixed(1, 3<<20, 1)},
		{"chunk size 32 MiB", name.Fixed, fixed(1, 32<<20, 1)},
		{"chunk size 2^63", name.Fixed, fixed(1, 1<<63, 1)},
		{"size 2^64-1", name.Fixed, fixed(math.MaxUint64, 4<<20, 1)},
		{"size 2^62+1", name.Fixed, fixed(1<<62+1, 16<<20, 1)},
		{"size 2^62 and one entry", name.Fixed, fixed(1<<62, 16<<20, 1)},
		{"first entry empty", name.Dynamic, dynamic(0)},
		{"equal ends", name.Dynamic, dynamic(5, 5)},
		{"decreasing ends", name.Dynamic, dynamic(5, 4, 6)},
		{"chunk above 16 MiB", name.Dynamic, dynamic(1, 16<<20+2)},
		{"first chunk above 16 MiB", name.Dynamic, dynamic(16<<20 + 1)},
		{"end 2^64-1", name.Dynamic, dynamic(math.MaxUint64)},
		{"end wraps", name.Dynamic, dynamic(16<<20, math.MaxUint64, 5)},
	}
	for _, tt := range tests {
		if x, err := Parse(tt.format, tt.file); !errors.Is(err, corrupt.Err) || x != nil {
			t.Errorf("%s, %s: Parse = %v, %v, want a corrupt error", tt.format, tt.what, x, err)
		}
	}
}

func TestParseRefusesFormatsThatAreNoIndex(t *testing.T) {
	for _, format := range []name.Format{name.Blob, 0, 99} {
		if _, err := Parse(format, dynamic(1)); err == nil || errors.Is(err, corrupt.Err) {
			t.Errorf("Parse(%d) = %v, want an error that is not about bytes", format, err)
		}
	}
}

// An image of 16 TiB, of which some chunks are not zero, takes little memory and
// reads as it is.
func TestHolesTakeLittleMemory(t *testing.T) {
	const chunks, size = 4 << 20, 4 << 20
	data := map[int]name.Digest{0: digest(0), 127: digest(1), 128: digest(2), chunks / 2: digest(3), chunks - 1: digest(4)}
	w, err := NewFixedWriter(NewHeader(time.Unix(0, 0)), chunks*size, size)
	if err != nil {
		t.Fatal(err)
	}
	zero := digest(100)
	for i := range chunks {
		d, ok := data[i]
		if !ok {
			d = zero
		}
		if err := w.Set(i, d); err != nil {
			t.Fatal(err)
		}
	}
	file, csum, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	x := mustParse(t, name.Fixed, file)
	if x.MemSize() > 2<<20 {
		t.Errorf("MemSize = %d, want at most 2 MiB", x.MemSize())
	}
	if x.Csum() != csum {
		t.Error("wrong checksum")
	}
	for i := range chunks {
		want, ok := data[i]
		if !ok {
			want = zero
		}
		if got := x.Span(i).Digest; got != want {
			t.Fatalf("Span(%d).Digest = %s, want %s", i, got, want)
		}
	}
}

func TestShortReadIsAnError(t *testing.T) {
	file := fixed(8<<20, 4<<20, 2)
	for _, n := range []int{0, headerSize - 1, headerSize, headerSize + 40} {
		if _, err := Read(name.Fixed, bytes.NewReader(file[:n]), int64(len(file))); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d of %d bytes: got %v, want the end of the file", n, len(file), err)
		}
	}
}

func TestHeaderChecksumIsIgnored(t *testing.T) {
	a, b := dynamic(7), dynamic(7)
	copy(b[8:64], bytes.Repeat([]byte{0xff}, 56)) // uuid, ctime, index_csum
	if mustParse(t, name.Dynamic, a).Csum() != mustParse(t, name.Dynamic, b).Csum() {
		t.Error("Csum depends on the header")
	}
}

func FuzzFixed(f *testing.F) {
	f.Add(uint64(5943396), uint64(4<<20), make([]byte, 64))
	f.Add(uint64(math.MaxUint64), uint64(1), make([]byte, 32))
	f.Add(uint64(70000), uint64(65536), make([]byte, 64))
	f.Add(uint64(3), uint64(1), make([]byte, 96))
	f.Add(uint64(0), uint64(0), []byte{1})
	f.Fuzz(func(t *testing.T, size, chunkSize uint64, entries []byte) {
		fuzzParse(t, name.Fixed, append(fixed(size, chunkSize, 0), entries...))
	})
}

func FuzzDynamic(f *testing.F) {
	f.Add(dynamic(96)[headerSize:])
	f.Add(dynamic(1, 2, 16<<20)[headerSize:])
	f.Add(dynamic(5, 4)[headerSize:])
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, entries []byte) {
		fuzzParse(t, name.Dynamic, append(dynamic(), entries...))
	})
}

func fuzzParse(t *testing.T, format name.Format, file []byte) {
	x, err := Parse(format, file)
	if err != nil {
		if !errors.Is(err, corrupt.Err) {
			t.Fatalf("error is not corrupt: %v", err)
		}
		return
	}
	walkSpans(t, x)
	if x.Csum() != sha256.Sum256(file[headerSize:]) {
		t.Fatal("wrong checksum")
	}
}

func BenchmarkFind(b *testing.B) {
	const chunks, size = 1 << 20, 4 << 20
	w := NewDynamicWriter(NewHeader(time.Unix(0, 0)))
	for i := range int64(chunks) {
		if err := w.Add((i+1)*size, name.Digest{byte(i), byte(i >> 8)}); err != nil {
			b.Fatal(err)
		}
	}
	file, _, err := w.Finish()
	if err != nil {
		b.Fatal(err)
	}
	x, err := ParseDynamic(file)
	if err != nil {
		b.Fatal(err)
	}
	for i := int64(0); b.Loop(); i++ {
		if _, ok := x.Find(i * 12345677 % x.Size()); !ok {
			b.Fatal("an offset is nowhere")
		}
	}
}
