package cdc

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// cutAt cuts data with suggestions, and returns the lengths of the chunks.
func cutAt(t *testing.T, r io.Reader, average int, offs ...int64) []int {
	t.Helper()
	c := New(r, average)
	for _, off := range offs {
		c.Suggest(off)
	}
	var out []int
	for {
		chunk, err := c.Next(nil)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, len(chunk))
	}
}

func TestSuggestedEnds(t *testing.T) {
	const average = 16 << 10
	zeros, noise := make([]byte, 300_000), random(8, 300_000)
	first := lengths(chunks(t, bytes.NewReader(noise), average, noise))[0]
	for name, c := range map[string]struct {
		data []byte
		offs []int64
		want []int // the first lengths
	}{
		"none":                  {zeros, nil, []int{65536, 65536}},
		"one":                   {zeros, []int64{20_000}, []int{20_000, 65536}},
		"two":                   {zeros, []int64{20_000, 30_000}, []int{20_000, 10_000, 65536}},
		"shortest chunk":        {zeros, []int64{4096, 8192}, []int{4096, 4096, 65536}},
		"too near":              {zeros, []int64{4095}, []int{65536}},
		"too near, next one":    {zeros, []int64{4095, 5000}, []int{5000, 65536}},
		"longest chunk":         {zeros, []int64{65536}, []int{65536, 65536}},
		"too far":               {zeros, []int64{65537}, []int{65536, 65536}},
		"in a later chunk":      {zeros, []int64{80_000}, []int{65536, 14464, 65536}},
		"at the end":            {zeros[:10_000], []int64{10_000}, []int{10_000}},
		"behind the end":        {zeros[:10_000], []int64{11_000}, []int{10_000}},
		"before the hash's end": {noise, []int64{int64(first) - 1}, []int{first - 1}},
		"at the hash's end":     {noise, []int64{int64(first)}, []int{first}},
		"behind the hash's end": {noise, []int64{int64(first) + 1}, []int{first + 1}},
	} {
		got := cutAt(t, bytes.NewReader(c.data), average, c.offs...)
		if len(got) < len(c.want) || !slices.Equal(got[:len(c.want)], c.want) {
			t.Errorf("%s: got %v, want %v first", name, got, c.want)
		}
		for what, r := range map[string]io.Reader{
			"half":  iotest.HalfReader(bytes.NewReader(c.data)),
			"bytes": iotest.OneByteReader(bytes.NewReader(c.data)),
		} {
			if again := cutAt(t, r, average, c.offs...); !slices.Equal(again, got) {
				t.Errorf("%s: read by %s: got %v, want %v", name, what, again, got)
			}
		}
	}
}

// A place that is far behind the end that the hash finds does not win.
func TestHashWinsOverFarSuggestion(t *testing.T) {
	const average = 1 << 20
	data := random(9, 8<<20)
	plain := lengths(chunks(t, bytes.NewReader(data), average, data))
	far := int64(plain[0]) + lookAhead + 1
	if far > 4*average {
		t.Fatalf("the first chunk of %d bytes is too long for this test", plain[0])
	}
	if got := cutAt(t, bytes.NewReader(data), average, far); got[0] != plain[0] {
		t.Errorf("with a suggestion at %d: first chunk of %d bytes, want %d", far, got[0], plain[0])
	}
	if got := cutAt(t, bytes.NewReader(data), average, far-1); got[0] != int(far-1) {
		t.Errorf("with a suggestion at %d: first chunk of %d bytes", far-1, got[0])
	}
}

// Writing and cutting go on side by side; the ends are the same each time.
func TestSuggestWhileCutting(t *testing.T) {
	const average = 4096
	data := random(10, 1<<20)
	run := func() []int {
		r, w := io.Pipe()
		c := New(r, average)
		go func() {
			for off := 0; off < len(data); off += 5000 {
				c.Suggest(int64(off))
				if _, err := w.Write(data[off:min(off+5000, len(data))]); err != nil {
					return
				}
			}
			_ = w.Close()
		}()
		var out []int
		for {
			chunk, err := c.Next(nil)
			if errors.Is(err, io.EOF) {
				return out
			}
			if err != nil {
				t.Error(err)
				return nil
			}
			out = append(out, len(chunk))
		}
	}
	want := run()
	for range 5 {
		if got := run(); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}
