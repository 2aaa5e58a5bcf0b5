package blob

import (
	"bytes"
	"errors"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

func TestCheckSealed(t *testing.T) {
	data := bytes.Repeat([]byte("abcd"), 250)
	key := newKey(t, "0101010101010101010101010101010101010101010101010101010101010101")
	sealed, err := Encoder{Key: key, Compress: true}.EncodeChunk(nil, noiseOf(1000))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := Encoder{Key: key, Compress: true}.EncodeChunk(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Encoder{}.EncodeChunk(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	if k, _ := ReadKind(sealed); k != Encrypted {
		t.Fatalf("noise is %s", k)
	}
	if k, _ := ReadKind(packed); k != EncryptedZstd {
		t.Fatalf("text is %s", k)
	}
	flipped := append([]byte(nil), sealed...)
	flipped[len(flipped)-1] ^= 1
	for _, test := range []struct {
		name    string
		encoded []byte
		want    int
		ok      bool
	}{
		{"sealed", sealed, 1000, true},
		{"sealed, of another length", sealed, 999, false},
		{"compressed, whose length is not known", packed, 999, true},
		{"not encrypted", plain, 1000, false},
		{"a bit flipped", flipped, 1000, false},
		{"cut off", sealed[:20], 1000, false},
		{"empty", nil, 1000, false},
		{"no length", sealed, 0, false},
		{"too long for a chunk", sealed, MaxChunkSize + 1, false},
	} {
		if err := CheckSealed(test.encoded, test.want); (err == nil) != test.ok || err != nil && !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
}

// noiseOf returns n bytes that do not compress.
func noiseOf(n int) []byte {
	out := make([]byte, n)
	x := uint32(1)
	for i := range out {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		out[i] = byte(x)
	}
	return out
}
