package metadata

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func piece(seed uint64, from int64) *Piece {
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 100_000)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	var r Ranges
	for pos := 0; pos < len(b)-2000; pos += rnd.IntN(2000) {
		end := pos + rnd.IntN(500)
		r.Add(from+int64(pos), from+int64(end))
		pos = end
	}
	return NewPiece(from, b, r)
}

// pieceOf returns a piece of n bytes that has text at pos.
func pieceOf(from, n, pos int64, text string) *Piece {
	b := make([]byte, n)
	copy(b[pos-from:], text)
	var r Ranges
	r.Add(pos, pos+int64(len(text)))
	return NewPiece(from, b, r)
}

// same reports whether two pieces answer every question alike.
func same(a, b *Piece) bool {
	return a != nil && b != nil && bytes.Equal(a.encode(), b.encode())
}

func newCache(t testing.TB, opts Options) *Cache {
	t.Helper()
	opts.Log = slog.New(slog.DiscardHandler)
	if opts.Memory == 0 {
		opts.Memory = 1 << 20
	}
	if opts.Disk == 0 {
		opts.Disk = 1 << 30
	}
	c := New(opts)
	t.Cleanup(c.Close)
	return c
}

func TestPieceAnswersWhatItWasGiven(t *testing.T) {
	b := make([]byte, 100)
	copy(b[10:], "abcdef")
	copy(b[90:], "0123456789")
	var r Ranges
	r.Add(1010, 1013)
	r.Add(1013, 1016) // goes on: one part
	r.Add(1050, 1050)
	r.Add(1090, 1100)
	p := NewPiece(1000, b, r)
	clear(b) // it was copied
	if len(p.parts) != 2 {
		t.Errorf("%d parts, want 2", len(p.parts))
	}
	decoded, err := decode(p.encode())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pos  int64
		want string
	}{
		{1009, ""},
		{1010, "abcdef"},
		{1012, "cdef"},
		{1015, "f"},
		{1016, ""},
		{1089, ""},
		{1090, "0123456789"},
		{1099, "9"},
		{1100, ""},
		{999, ""},
		{0, ""},
		{-1, ""},
		{1 << 60, ""},
	} {
		for _, p := range []*Piece{p, decoded} {
			b := make([]byte, 20)
			if got := string(b[:p.ReadAt(b, c.pos)]); got != c.want {
				t.Errorf("at %d: %q, want %q", c.pos, got, c.want)
			}
		}
	}
}

func TestPiecesOutliveTheCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	c := newCache(t, Options{Dir: dir})
	one, two := Archive{1}, Archive{2}
	c.PutPiece(one, 0, piece(1, 0), true)
	c.PutPiece(one, 7, piece(2, 5000), true)
	c.PutPiece(one, 8, piece(9, 5000), false)
	c.PutPiece(two, 0, piece(3, 0), true)
	c.PutPiece(two, 0, piece(4, 0), true) // in place of the one before
	c.PutNote(one, []byte("note"))
	c.Close()

	c = newCache(t, Options{Dir: dir})
	c.PutPiece(one, 9, piece(5, 0), true)
	c.Close() // with those that were there

	c = newCache(t, Options{Dir: dir})
	for _, w := range []struct {
		a     Archive
		chunk int
		want  *Piece
	}{{one, 0, piece(1, 0)}, {one, 7, piece(2, 5000)}, {one, 9, piece(5, 0)}, {two, 0, piece(4, 0)}} {
		if got := c.Piece(w.a, w.chunk); !same(got, w.want) {
			t.Errorf("piece %d of archive %d is another one, or not there", w.chunk, w.a[0])
		}
	}
	if c.Piece(one, 8) != nil || c.Piece(Archive{3}, 0) != nil || c.Note(two) != nil {
		t.Error("something is there that was never written")
	}
	if got := string(c.Note(one)); got != "note" {
		t.Errorf("note %q", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%d files, %v, want 2", len(entries), err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
}

func TestWrittenAfterAWhile(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, Options{Dir: dir})
	c.PutPiece(Archive{1}, 0, piece(1, 0), true)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if other := newCache(t, Options{Dir: dir}); other.Piece(Archive{1}, 0) != nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("nothing was written")
		}
	}
}

func TestWithoutADirectory(t *testing.T) {
	c := newCache(t, Options{})
	c.PutPiece(Archive{1}, 0, piece(1, 0), true)
	c.PutNote(Archive{1}, []byte("note"))
	if !same(c.Piece(Archive{1}, 0), piece(1, 0)) || c.Note(Archive{1}) != nil {
		t.Error("memory has another piece, or there is a note from nowhere")
	}
	c.Close()
}

// A file that cannot be written, or read, is none.
func TestDirectoryThatIsNone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCache(t, Options{Dir: dir})
	c.PutPiece(Archive{1}, 0, piece(1, 0), true)
	c.Close()
	if c.Piece(Archive{1}, 1) != nil {
		t.Error("a piece from nowhere")
	}
}

// Whatever becomes of a file: what is answered is right.
func TestDamageIsNotThere(t *testing.T) {
	dir := t.TempDir()
	a := Archive{1}
	c := newCache(t, Options{Dir: dir})
	small := pieceOf(0, 1000, 10, "some metadata")
	c.PutPiece(a, 0, small, true)
	c.PutPiece(a, 1, piece(2, 0), true)
	c.Close()
	path := c.path(a)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	lost := 0
	for i := range 2000 {
		bad := bytes.Clone(good)
		switch i % 4 {
		case 0:
			bad = bad[:rnd.IntN(len(bad))]
		case 1:
			bad = append(bad, good[rnd.IntN(len(good)):]...)
		default:
			bad[rnd.IntN(min(len(bad), 200*(1+i%2*1000)))] ^= 1 << rnd.IntN(8)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		c := newCache(t, Options{Dir: dir})
		for chunk, want := range []*Piece{small, piece(2, 0)} {
			if got := c.Piece(a, chunk); got != nil && !same(got, want) {
				t.Fatalf("round %d: piece %d is another one", i, chunk)
			} else if got == nil {
				lost++
			}
		}
	}
	if lost == 0 {
		t.Error("no damage was ever found")
	}
	// A file that has the name of another archive's is none of its.
	other := Archive{2}
	if err := os.WriteFile(c.path(other), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if newCache(t, Options{Dir: dir}).Piece(other, 0) != nil {
		t.Error("a piece of another archive")
	}
}

func TestFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		c := newCache(t, Options{Dir: dir, Disk: 100_000})
		c.PutPiece(Archive{byte(i)}, 0, piece(uint64(i), 0), true)
		c.Close()
		old := time.Now().Add(time.Duration(i-20) * time.Hour)
		if err := os.Chtimes(c.path(Archive{byte(i)}), old, old); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 100_000 || len(entries) == 0 || len(entries) == 10 {
		t.Errorf("%d files of %d bytes, want at most 100000", len(entries), total)
	}
	c := newCache(t, Options{Dir: dir})
	if c.Piece(Archive{9}, 0) == nil || c.Piece(Archive{0}, 0) != nil {
		t.Error("not the oldest one went")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(piece(1, 0).encode())
	f.Add(pieceOf(5, 45, 7, "x").encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decode(b)
		if err != nil {
			return
		}
		out := make([]byte, 64)
		for pos := max(0, p.From-2); pos < min(p.To+2, p.From+1000); pos++ {
			if n := p.ReadAt(out, pos); n > 0 && (pos < p.From || pos+int64(n) > p.To) {
				t.Fatalf("%d bytes at %d of a piece from %d to %d", n, pos, p.From, p.To)
			}
		}
		if !bytes.Equal(p.encode(), b) {
			t.Fatal("encodes as something else")
		}
	})
}

func BenchmarkPiece(b *testing.B) {
	c := newCache(b, Options{})
	c.PutPiece(Archive{1}, 3, piece(1, 0), false)
	out := make([]byte, 512)
	for i := 0; b.Loop(); i++ {
		c.Piece(Archive{1}, 3).ReadAt(out, int64(i%100_000))
	}
}
