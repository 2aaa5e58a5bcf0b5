package btrfs

import (
	"strings"
	"testing"
)

func TestKnownHashes(t *testing.T) {
	for text, want := range map[string]uint64{
		"": 0xef46db3751d8e999, "a": 0xd24ec4f1a98c6e5b, "abc": 0x44bc2cf5ad770999,
		"Nobody inspects the spammish repetition": 0xfbcea83c8a378bf1,
	} {
		if got := xxhash64([]byte(text)); got != want {
			t.Errorf("xxhash64(%q) = %x, want %x", text, got, want)
		}
	}
	if got := hashName("default"); got != 2378154706 {
		t.Errorf("hashName = %d", got)
	}
}

func TestLZOSegments(t *testing.T) {
	end := "\x11\x00\x00"
	long := strings.Repeat("0123456789", 30)
	for name, c := range map[string]struct {
		in, want string
		wrong    bool
	}{
		"literals":             {"\x15abcd" + end, "abcd", false},
		"nothing":              {end, "", false},
		"many literals":        {"\x00\x00\x1b" + long[:300] + end, long[:300], false},
		"close copy":           {"\x12a\x40\x00" + end, "aaaa", false},
		"copy and literals":    {"\x14abc\x4a\x00xy" + end, "abcabcxy", false},
		"overlapping copy":     {"\x12a\x20\x09\x00\x00" + end, "a" + strings.Repeat("a", 42), false},
		"short copy":           {"\x13ab\x04\x00" + end, "abab", false},
		"no end":               {"\x15abcd", "", true},
		"something behind":     {"\x15abcd" + end + "x", "", true},
		"before the beginning": {"\x12a\x44\x00" + end, "", true},
		"more than is left":    {"\x19abcd" + end, "", true},
		"longer than allowed":  {"\x12a\x20\x00\x00\x00\x00\xff\x00\x00" + end, "", true},
		"empty":                {"", "", true},
		"within a length":      {"\x12a\x20\x00\x00", "", true},
	} {
		got, err := lzoSegment(nil, []byte(c.in), 400)
		if (err != nil) != c.wrong || !c.wrong && string(got) != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

// What remains of a sector is padding if a length does not fit there.
func TestLZOLengthsDoNotCrossSectors(t *testing.T) {
	const sector, zeros = 4096, 15
	last := "\x15abcd\x11\x00\x00"
	for padding := range 5 {
		segment := sector - 8 - padding // it ends so much before the sector does
		literals := strings.Repeat("x", segment-5-zeros)
		stream := []byte{0, 0, 0, 0, byte(segment), byte(segment >> 8), 0, 0}
		stream = append(stream, make([]byte, 1+zeros)...)
		stream = append(stream, byte(len(literals)-18-255*zeros))
		stream = append(stream, literals+"\x11\x00\x00"...)
		if padding < 4 {
			stream = append(stream, make([]byte, padding)...)
		}
		stream = append(stream, byte(len(last)), 0, 0, 0)
		stream = append(stream, last...)
		stream[0], stream[1] = byte(len(stream)), byte(len(stream)>>8)
		got, err := unlzo(append(stream, make([]byte, 100)...), 2*sector, sector)
		if string(got) != literals+"abcd" || err != nil {
			t.Errorf("%d bytes of padding: %d bytes, %v, want %d", padding, len(got), err, len(literals)+4)
		}
	}
}
