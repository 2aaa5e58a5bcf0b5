package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store/name"
)

// at is the time of the headers in these tests.
var at = time.Unix(1700005000, 999)

// The dynamic index of reference "blobs-chunks-indexes", section 9.
func TestDynamicWriterWritesTheReferenceExample(t *testing.T) {
	d, err := name.ParseDigest("76ae141724c54e205982a83b1db958652e080508b081ba1004c3cb86cf9d6378")
	if err != nil {
		t.Fatal(err)
	}
	w := NewDynamicWriter(Header{UUID: [16]byte{1, 15: 16}, Time: at})
	if err := w.Add(96, d); err != nil {
		t.Fatal(err)
	}
	file, csum, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	const sum = "9fa6e10d7a8d86cd4311bd796929cb49e58c9fe88e6a7ea23cc2e2dd562f07fd"
	want := "1c914ea519bab3cd" + "01" + strings.Repeat("00", 14) + "10" + "8804546500000000" + sum +
		strings.Repeat("00", 4032) + "6000000000000000" + d.String()
	if got := hex.EncodeToString(file); got != want {
		t.Errorf("file is %.160s…, want %.160s…", got, want)
	}
	if hex.EncodeToString(csum[:]) != sum {
		t.Errorf("csum = %x, want %s", csum, sum)
	}
}

// The fixed index of reference "blobs-chunks-indexes", section 9.
func TestFixedWriterWritesTheReferenceExample(t *testing.T) {
	w, err := NewFixedWriter(NewHeader(at), 5943396, 4194304)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{1, 0, 1} {
		if err := w.Set(i, digest(i)); err != nil {
			t.Fatal(err)
		}
	}
	file, csum, err := w.Finish()
	if err != nil || len(file) != 4160 || hex.EncodeToString(file[64:80]) != "64b05a00000000000000400000000000" {
		t.Fatalf("%d bytes, %v", len(file), err)
	}
	x := mustParse(t, name.Fixed, file)
	if x.Csum() != csum || !bytes.Equal(file[csumOff:csumOff+32], csum[:]) || binary.LittleEndian.Uint64(file[timeOff:]) != 1700005000 {
		t.Errorf("csum %x, header %x, want %x", csum, file[:80], x.Csum())
	}
	if s := x.Span(1); s.Digest != digest(1) || s.End != 5943396 {
		t.Errorf("Span(1) = %v", s)
	}
}

func TestHeadersDiffer(t *testing.T) {
	a, b := NewHeader(at), NewHeader(at)
	if a.UUID == b.UUID || a.UUID[6]>>4 != 4 || a.UUID[8]>>6 != 2 {
		t.Errorf("UUIDs %x and %x, want different ones of version 4", a.UUID, b.UUID)
	}
}

// What is written is what is read, for entries of all sorts.
func TestParseUndoesTheWriters(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for range 50 {
		dyn := NewDynamicWriter(NewHeader(at))
		var spans []Span
		end := int64(0)
		for i := range 1 + rng.IntN(200) {
			s := Span{digest(i), end, end + 1 + rng.Int64N(maxChunk)}
			if err := dyn.Add(s.End, s.Digest); err != nil {
				t.Fatal(err)
			}
			spans, end = append(spans, s), s.End
		}
		if dyn.Len() != len(spans) || dyn.Size() != end {
			t.Fatalf("Len, Size = %d, %d, want %d, %d", dyn.Len(), dyn.Size(), len(spans), end)
		}
		checkWritten(t, name.Dynamic, dyn.Finish, spans)

		size, chunkSize := 1+rng.Int64N(1<<24), int64(1)<<(16+rng.IntN(9))
		fix, err := NewFixedWriter(NewHeader(at), size, chunkSize)
		if err != nil {
			t.Fatal(err)
		}
		spans = make([]Span, fix.Len())
		for _, i := range rng.Perm(fix.Len()) {
			spans[i] = Span{digest(i), int64(i) * chunkSize, min(int64(i+1)*chunkSize, size)}
			if err := fix.Set(i, digest(i)); err != nil {
				t.Fatal(err)
			}
		}
		checkWritten(t, name.Fixed, fix.Finish, spans)
	}
}

func checkWritten(t *testing.T, format name.Format, finish func() ([]byte, [32]byte, error), want []Span) {
	t.Helper()
	file, csum, err := finish()
	if err != nil {
		t.Fatal(err)
	}
	x := mustParse(t, format, file)
	if x.Len() != len(want) || x.Csum() != csum {
		t.Fatalf("%d entries, csum %x, want %d, %x", x.Len(), x.Csum(), len(want), csum)
	}
	for i, s := range want {
		if got := x.Span(i); got != s {
			t.Errorf("Span(%d) = %v, want %v", i, got, s)
		}
	}
	if _, _, err := finish(); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Finish a second time: %v, want ErrIncomplete", err)
	}
}

func TestDynamicWriterRefuses(t *testing.T) {
	w := NewDynamicWriter(NewHeader(at))
	if _, _, err := w.Finish(); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Finish of an empty index: %v, want ErrIncomplete", err)
	}
	if err := w.Add(100, digest(0)); err != nil {
		t.Fatal(err)
	}
	for _, end := range []int64{100, 99, 0, -1, math.MinInt64, 101 + maxChunk, math.MaxInt64} {
		if err := w.Add(end, digest(1)); !errors.Is(err, ErrEntry) || w.Len() != 1 {
			t.Errorf("Add(%d) = %v, want ErrEntry", end, err)
		}
	}
	if err := w.Add(100+maxChunk, digest(1)); err != nil {
		t.Errorf("largest chunk: %v", err)
	}
	if err := new(DynamicWriter).Add(1, digest(1)); !errors.Is(err, ErrEntry) {
		t.Errorf("Add to the zero writer: %v, want ErrEntry", err)
	}
	w.end = maxSize
	if err := w.Add(maxSize+1, digest(1)); !errors.Is(err, ErrEntry) {
		t.Errorf("chunk behind the largest size: %v, want ErrEntry", err)
	}
}

func TestFixedWriterRefuses(t *testing.T) {
	for _, tt := range []struct{ size, chunkSize int64 }{
		{0, 4 << 20},
		{-1, 4 << 20},
		{1, 0},
		{1, -1},
		{1, 3 << 20},
		{1, 32 << 20},
		{1, math.MinInt64},
		{math.MaxInt64, 1},
		{maxFixedEntries<<16 + 1, 1 << 16},
	} {
		if _, err := NewFixedWriter(NewHeader(at), tt.size, tt.chunkSize); err == nil {
			t.Errorf("NewFixedWriter(%d, %d) gave no error", tt.size, tt.chunkSize)
		}
	}
	w, err := NewFixedWriter(NewHeader(at), 4<<20+1, 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{-1, 2, math.MaxInt} {
		if err := w.Set(i, digest(0)); !errors.Is(err, ErrEntry) {
			t.Errorf("Set(%d) = %v, want ErrEntry", i, err)
		}
	}
	if err := new(FixedWriter).Set(0, digest(0)); !errors.Is(err, ErrEntry) {
		t.Errorf("Set of the zero writer: %v, want ErrEntry", err)
	}
	_ = w.Set(1, digest(1))
	_ = w.Set(1, digest(1))
	if _, _, err := w.Finish(); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Finish with one of two entries: %v, want ErrIncomplete", err)
	}
}

// Every index of real datastores, written again from what was parsed.
func TestRealIndexesWrittenAgain(t *testing.T) {
	dir := os.Getenv("PBSFS_FIXTURES")
	if dir == "" {
		t.Skip("PBSFS_FIXTURES names no directory with real datastores")
	}
	count := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.Name() == ".chunks":
			return fs.SkipDir
		case e.Type().IsRegular() && (filepath.Ext(path) == ".didx" || filepath.Ext(path) == ".fidx"):
			count++
			writeAgain(t, path)
		}
		return nil
	})
	if err != nil || count < 50 {
		t.Errorf("%d indexes, %v, want more", count, err)
	}
	t.Logf("%d indexes", count)
}

func writeAgain(t *testing.T, path string) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := name.ParseFile(filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	x, err := Parse(stored.Format(), file)
	if err != nil {
		t.Logf("%s: %v", path, err) // damaged on purpose
		return
	}
	h := Header{UUID: [16]byte(file[uuidOff:]), Time: time.Unix(int64(binary.LittleEndian.Uint64(file[timeOff:])), 0)}
	dyn := NewDynamicWriter(h)
	finish := dyn.Finish
	fix, err := NewFixedWriter(h, x.Size(), max(x.ChunkSize(), 1<<16))
	if err != nil {
		t.Fatal(err)
	}
	if stored.Format() == name.Fixed {
		finish = fix.Finish
	}
	for i := range x.Len() {
		s := x.Span(i)
		err := dyn.Add(s.End, s.Digest)
		if stored.Format() == name.Fixed {
			err = fix.Set(i, s.Digest)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	again, csum, err := finish()
	if err != nil || csum != x.Csum() || !bytes.Equal(again, file) {
		t.Errorf("%s: csum %x, %v, want %x; same file: %v", path, csum, err, x.Csum(), bytes.Equal(again, file))
	}
	if sha256.Sum256(file[headerSize:]) != csum {
		t.Errorf("%s: csum is not that of the entries", path)
	}
}

func BenchmarkDynamicWriter(b *testing.B) {
	for b.Loop() {
		w := NewDynamicWriter(NewHeader(at))
		for i := range 100_000 {
			if err := w.Add(int64(i+1)<<22, digest(i)); err != nil {
				b.Fatal(err)
			}
		}
		if _, _, err := w.Finish(); err != nil {
			b.Fatal(err)
		}
	}
}
