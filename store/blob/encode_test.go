package blob

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/keys"
)

// The plain examples of reference "blobs-chunks-indexes", sections 1 and 9,
// byte for byte; the encrypted one but for what makes an IV.
func TestEncodeWritesTheReferenceExamples(t *testing.T) {
	for data, want := range map[string]string{secretText: plainExample, "hello world": helloExample} {
		for _, compress := range []bool{false, true} { // such short data does not shrink
			got, err := Encoder{Compress: compress}.Encode(nil, []byte(data))
			if err != nil || !bytes.Equal(got, unhex(t, want)) {
				t.Errorf("%q, compress %v: %x, %v, want %s", data, compress, got, err, want)
			}
		}
	}
	want := unhex(t, cryptExample)
	if got := finish(append(make([]byte, crcEnd), want[crcEnd:]...), Encrypted); !bytes.Equal(got, want) {
		t.Errorf("encrypted: %x, want %x", got, want)
	}
	got, err := Encoder{Key: newKey(t, fixtureKey), Compress: true}.Encode(nil, []byte(secretText))
	if err != nil || len(got) != len(want) || !bytes.Equal(got[:magicSize], want[:magicSize]) {
		t.Errorf("encrypted: %x, %v, want one like %x", got, err, want)
	}
}

func TestDigestGivesTheReferenceValues(t *testing.T) {
	key := newKey(t, fixtureKey)
	if got := Digest([]byte(secretText), nil).String(); got != plainDigest {
		t.Errorf("Digest = %s, want %s", got, plainDigest)
	}
	if got := Digest([]byte(secretText), key).String(); got != cryptDigest {
		t.Errorf("keyed Digest = %s, want %s", got, cryptDigest)
	}
	if got := (Encoder{Key: key}).Digest([]byte(secretText)).String(); got != cryptDigest {
		t.Errorf("Digest of an encoder = %s, want %s", got, cryptDigest)
	}
}

func TestDecodeUndoesEncode(t *testing.T) {
	key := newKey(t, fixtureKey)
	noise := make([]byte, 300_000)
	_, _ = rand.Read(noise)
	for _, tt := range []struct {
		data    []byte
		shrinks bool
	}{
		{text(1), false},
		{[]byte("hi\n"), false},
		{text(70_000), true},
		{noise, false},
		{noise[:5000], false},
		{make([]byte, 4<<20), true},
		{text(1<<20 + 3), true},
		{make([]byte, MaxChunkSize), true},
	} {
		kinds := map[bool][2]Kind{false: {Plain, Encrypted}, true: {Zstd, EncryptedZstd}}[tt.shrinks]
		checkRoundTrip(t, Encoder{}, tt.data, Plain, MustPlain)
		checkRoundTrip(t, Encoder{Key: key}, tt.data, Encrypted, MustEncrypted)
		checkRoundTrip(t, Encoder{Compress: true}, tt.data, kinds[0], MustPlain)
		checkRoundTrip(t, Encoder{Key: key, Compress: true}, tt.data, kinds[1], MustEncrypted)
	}
}

// checkRoundTrip encodes and decodes data with buffers of several sizes.
func checkRoundTrip(t *testing.T, enc Encoder, data []byte, want Kind, mode Mode) {
	t.Helper()
	original := bytes.Clone(data)
	for _, dst := range [][]byte{nil, make([]byte, 3, 20), make([]byte, 7, len(data)+10_000)} {
		out, err := enc.EncodeChunk(dst, data)
		if err != nil {
			t.Fatal(err)
		}
		if kind, err := ReadKind(out); err != nil || kind != want {
			t.Errorf("%d bytes are stored %s, %v, want %s", len(data), kind, err, want)
		}
		if len(out) > want.headerSize()+len(data) {
			t.Errorf("%d bytes became %d, %s", len(data), len(out), want)
		}
		if cap(dst) > len(data)+5000 && &out[0] != &dst[0] {
			t.Errorf("%d bytes, %s: a buffer of %d was not used", len(data), want, cap(dst))
		}
		got, err := DecodeChunk(nil, out, len(data), enc.Digest(data), mode, enc.Key)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %s: decoded to %d bytes, %v", len(data), want, len(got), err)
		}
	}
	if !bytes.Equal(data, original) {
		t.Fatal("EncodeChunk changed its input")
	}
}

// The name that QEMU and the server look for.
func TestDigestOfTheZeroChunk(t *testing.T) {
	if got := Digest(make([]byte, 4<<20), nil).String(); got != zeroChunkDigest {
		t.Errorf("zero chunk is called %s, want %s", got, zeroChunkDigest)
	}
}

func TestEncodeOfNothing(t *testing.T) {
	key := newKey(t, fixtureKey)
	for _, enc := range []Encoder{{}, {Compress: true}, {Key: key}, {Key: key, Compress: true}} {
		out, err := enc.Encode(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(nil, out, 0, AnyKind, key); err != nil || len(got) != 0 {
			t.Errorf("%+v: %x decodes to %q, %v", enc, out, got, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for what, tt := range map[string]struct {
		encode func(dst, plain []byte) ([]byte, error)
		n      int
	}{
		"empty chunk":   {Encoder{}.EncodeChunk, 0},
		"chunk too big": {Encoder{}.EncodeChunk, MaxChunkSize + 1},
		"blob too big":  {Encoder{}.Encode, MaxSize + 1},
	} {
		if out, err := tt.encode(nil, make([]byte, tt.n)); !errors.Is(err, ErrSize) || errors.Is(err, corrupt.Err) || out != nil {
			t.Errorf("%s: %d bytes, %v, want ErrSize", what, len(out), err)
		}
	}
	// A key that is not one must not give plain data.
	if out, err := (Encoder{Key: new(keys.Key)}).Encode(nil, []byte("x")); err == nil || out != nil {
		t.Errorf("zero key: %x, %v, want an error", out, err)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add([]byte(secretText), true)
	f.Add(bytes.Repeat([]byte("ab"), 500), false)
	key := newKey(f, fixtureKey)
	f.Fuzz(func(t *testing.T, data []byte, compress bool) {
		for _, k := range []*keys.Key{nil, key} {
			enc := Encoder{Key: k, Compress: compress}
			out, err := enc.Encode(nil, data)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Decode(nil, out, len(data), AnyKind, key); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%x decodes to %x, %v", out, got, err)
			}
		}
	})
}

func BenchmarkEncodeChunk(b *testing.B) {
	key := newKey(b, fixtureKey)
	data := text(4 << 20)
	noise := make([]byte, 4<<20)
	_, _ = rand.Read(noise)
	for _, bm := range []struct {
		what string
		enc  Encoder
		data []byte
	}{
		{"zstd-of-1KiB", Encoder{Compress: true}, data[:1<<10]},
		{"plain", Encoder{}, data},
		{"zstd", Encoder{Compress: true}, data},
		{"zstd-of-noise", Encoder{Compress: true}, noise},
		{"zstd-of-zeroes", Encoder{Compress: true}, make([]byte, 4<<20)},
		{"encrypted", Encoder{Key: key}, data},
		{"encrypted-zstd", Encoder{Key: key, Compress: true}, data},
	} {
		b.Run(bm.what, func(b *testing.B) {
			dst := make([]byte, 0, len(bm.data)+10_000)
			b.SetBytes(int64(len(bm.data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bm.enc.EncodeChunk(dst, bm.data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	data := text(4 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_ = Digest(data, nil)
	}
}
