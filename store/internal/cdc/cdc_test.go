package cdc

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
)

func random(seed byte, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// chunks cuts what r delivers, and checks that nothing is lost and that all
// lengths are within limits.
func chunks(t *testing.T, r io.Reader, average int, want []byte) [][]byte {
	t.Helper()
	c := New(r, average)
	var out [][]byte
	buf := make([]byte, 0, c.Max())
	for {
		chunk, err := c.Next(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if &chunk[0] != &buf[:1][0] {
			t.Error("a chunk is not in the buffer, which has room for it")
		}
		out = append(out, bytes.Clone(chunk))
	}
	for i, chunk := range out {
		if last := i == len(out)-1; len(chunk) > c.Max() || len(chunk) < average/4 && !last {
			t.Errorf("chunk %d of %d has %d bytes with average %d", i, len(out), len(chunk), average)
		}
	}
	if got := bytes.Join(out, nil); !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, want the same %d", len(got), len(want))
	}
	return out
}

func lengths(chunks [][]byte) []int {
	out := make([]int, 0, len(chunks))
	for _, c := range chunks {
		out = append(out, len(c))
	}
	return out
}

// What is stored is only found again if the ends are the same for ever: these
// are fixed values.
func TestEndsNeverChange(t *testing.T) {
	data := random(1, 300_000)
	want := []int{32713, 11524, 8650, 31179, 19164, 8728, 55929, 21401, 10739, 8982, 12891, 76684, 1416}
	if got := lengths(chunks(t, bytes.NewReader(data), 32<<10, data)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// How the reader delivers makes no difference.
func TestEndsDoNotDependOnReads(t *testing.T) {
	data := random(2, 1<<20)
	want := lengths(chunks(t, bytes.NewReader(data), 16<<10, data))
	for name, r := range map[string]io.Reader{
		"half":    iotest.HalfReader(bytes.NewReader(data)),
		"bytes":   iotest.OneByteReader(bytes.NewReader(data)),
		"eof":     iotest.DataErrReader(bytes.NewReader(data)),
		"in two":  io.MultiReader(bytes.NewReader(data[:readSize+1]), bytes.NewReader(data[readSize+1:])),
		"buffers": io.MultiReader(bytes.NewReader(data[:readSize]), bytes.NewReader(data[readSize:])),
	} {
		if got := lengths(chunks(t, r, 16<<10, data)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestMeanIsNearTheAverage(t *testing.T) {
	data := random(3, 16<<20)
	for _, average := range []int{1024, 16 << 10, 64 << 10} {
		got := len(data) / len(chunks(t, bytes.NewReader(data), average, data))
		if got < average*8/10 || got > average*11/10 {
			t.Errorf("mean of %d bytes with average %d", got, average)
		}
	}
}

// What is inserted, removed or changed costs a few chunks; all others are the
// same ones.
func TestChangeStaysLocal(t *testing.T) {
	const average = 16 << 10
	data := random(4, 8<<20)
	at := len(data) / 2
	old := make(map[string]bool)
	for _, c := range chunks(t, bytes.NewReader(data), average, data) {
		old[string(c)] = true
	}
	for name, changed := range map[string][]byte{
		"inserted":       slices.Concat(data[:at], []byte("something new"), data[at:]),
		"much inserted":  slices.Concat(data[:at], random(5, 3*average), data[at:]),
		"removed":        slices.Concat(data[:at], data[at+1000:]),
		"changed":        slices.Concat(data[:at], []byte{data[at] ^ 1}, data[at+1:]),
		"in the front":   slices.Concat([]byte{1}, data),
		"behind the end": slices.Concat(data, []byte{1}),
	} {
		fresh := 0
		for _, c := range chunks(t, bytes.NewReader(changed), average, changed) {
			if !old[string(c)] {
				fresh++
			}
		}
		if fresh == 0 || fresh > 12 {
			t.Errorf("%s: %d of about %d chunks are new", name, fresh, len(old))
		}
	}
}

// Holes in images and sparse files become one chunk, stored once.
func TestZerosAreLongestChunks(t *testing.T) {
	data := make([]byte, 1<<20)
	for i, n := range lengths(chunks(t, bytes.NewReader(data), 16<<10, data)) {
		if n != 64<<10 {
			t.Errorf("chunk %d of zeros has %d bytes, want %d", i, n, 64<<10)
		}
	}
}

func TestEmptyStreamHasNoChunk(t *testing.T) {
	if got, err := New(bytes.NewReader(nil), 4096).Next(nil); !errors.Is(err, io.EOF) || got != nil {
		t.Errorf("got %d bytes and %v, want io.EOF", len(got), err)
	}
}

// The end of a stream that breaks off is no chunk.
func TestErrorOfTheReader(t *testing.T) {
	broken := errors.New("broken")
	for _, n := range []int{0, 1, 10, 5000} {
		c := New(io.MultiReader(bytes.NewReader(make([]byte, n)), iotest.ErrReader(broken)), 4096)
		got, err := c.Next(nil)
		if !errors.Is(err, broken) || got != nil {
			t.Errorf("behind %d bytes: got %d bytes and %v, want the reader's error", n, len(got), err)
		}
	}
}

func TestSmallBufferIsReplaced(t *testing.T) {
	data := random(6, 10_000)
	small := make([]byte, 10)
	got, err := New(bytes.NewReader(data), 1<<20).Next(small)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes and %v, want %d", len(got), err, len(data))
	}
}

func BenchmarkNext(b *testing.B) {
	data := random(7, 128<<20)
	buf := make([]byte, 16<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		c := New(bytes.NewReader(data), 4<<20)
		for {
			if _, err := c.Next(buf); errors.Is(err, io.EOF) {
				break
			}
		}
	}
}
