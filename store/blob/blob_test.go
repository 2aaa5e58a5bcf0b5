package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

// The two blobs of reference "blobs-chunks-indexes", section 9, and the CRC
// vector of section 1.
const (
	secretText      = "secret: hotel\n\n\n"
	plainExample    = "42ab3807be8370a1 c1825e9b 7365637265743a20686f74656c0a0a0a"
	plainFileSum    = "8098c96dabdb712740f5aab57e15b30af20c1f79f3377cc40314f19ccfeade00"
	cryptExample    = "7b6785be222d4cf0 f344d38d 1541b59b1be628dc9c0b92fc6451ba81 fc6a93fc008ac450157a25befeb8b883 0152a498b3ef22f45f29889400c9e228"
	cryptFileSum    = "78a8fcb8502316d584a39744f6a146cfc0e52536d3254d084897b8a1af1ddf67"
	plainDigest     = "bb5fbfd6f50a2fa8a6c8a9d46ebc26b96dec917bbf33f348b242a013650faaa5"
	cryptDigest     = "e36a507dc6f6e2273cfb38d7fb586ddef7a42aa6644d3f2398f734dfcee75e3d"
	helloExample    = "42ab3807be8370a1 85114a0d 68656c6c6f20776f726c64"
	archiveExample  = "31b958426fb6a37f 091f3bb6 28b52ffd00482502009403efac88e5746495d53800ed410042d6e45f000000009e831c1e000000001d73d542a64fec2f280055153e755bed5eef3800280000000000000004100003398cef862e"
	archiveDigest   = "76ae141724c54e205982a83b1db958652e080508b081ba1004c3cb86cf9d6378"
	zeroChunkDigest = "bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8"
)

func parseDigest(t testing.TB, s string) name.Digest {
	t.Helper()
	d, err := name.ParseDigest(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDecodeReferenceExamples(t *testing.T) {
	key := newKey(t, fixtureKey)
	tests := []struct {
		what, encoded, fileSum string
		mode                   Mode
		digest                 string
		data                   string
		size                   int
	}{
		{"plain", plainExample, plainFileSum, MustPlain, plainDigest, secretText, 16},
		{"encrypted", cryptExample, cryptFileSum, MustEncrypted, cryptDigest, secretText, 16},
		{"archive as a streaming zstd frame", archiveExample, "", MustPlain, archiveDigest, "", 96},
		{"CRC vector", helloExample, "", AnyKind, "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9", "hello world", 11},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			encoded := unhex(t, tt.encoded)
			if sum := sha256.Sum256(encoded); tt.fileSum != "" && hex.EncodeToString(sum[:]) != tt.fileSum {
				t.Fatalf("example has checksum %x, want %s", sum, tt.fileSum)
			}
			data, err := Decode(nil, encoded, tt.size, tt.mode, key)
			if err != nil || len(data) != tt.size || tt.data != "" && string(data) != tt.data {
				t.Errorf("Decode = %q, %v, want %q", data, err, tt.data)
			}
			if _, err := DecodeChunk(nil, encoded, tt.size, parseDigest(t, tt.digest), tt.mode, key); err != nil {
				t.Errorf("DecodeChunk: %v", err)
			}
		})
	}
}

func TestZeroChunk(t *testing.T) {
	encoded := encode(t, Zstd, stream(t, make([]byte, 4<<20)))
	if _, err := DecodeChunk(nil, encoded, 4<<20, parseDigest(t, zeroChunkDigest), MustPlain, nil); err != nil {
		t.Error(err)
	}
}

// payloads are all ways to store the data.
func payloads(t testing.TB, data []byte) map[string][]byte {
	half := len(data) / 2
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0}, "abc"...)
	all := map[string][]byte{
		"plain":            encode(t, Plain, data),
		"zstd":             encode(t, Zstd, frame(t, data)),
		"zstd stream":      encode(t, Zstd, stream(t, data)),
		"zstd two frames":  encode(t, Zstd, append(frame(t, data[:half]), frame(t, data[half:])...)),
		"zstd two streams": encode(t, Zstd, append(stream(t, data[:half]), stream(t, data[half:])...)),
		"zstd mixed":       encode(t, Zstd, append(frame(t, data[:half]), stream(t, data[half:])...)),
		"zstd skippable":   encode(t, Zstd, append(append(bytes.Clone(skippable), frame(t, data)...), skippable...)),
		"zstd empty frame": encode(t, Zstd, append(stream(t, data), frame(t, nil)...)),
		"encrypted":        encode(t, Encrypted, data),
		"encrypted zstd":   encode(t, EncryptedZstd, frame(t, data)),
		"encrypted stream": encode(t, EncryptedZstd, stream(t, data)),
	}
	return all
}

// Buffers of all sorts must make no difference, and room for exactly the data
// must be enough.
func TestDecodeRoundTrips(t *testing.T) {
	key := newKey(t, fixtureKey)
	zeroes := make([]byte, 300_000)
	for _, data := range [][]byte{text(1), text(100), text(70_000), text(200_000), zeroes, text(1<<20 + 3)} {
		for what, encoded := range payloads(t, data) {
			original := bytes.Clone(encoded)
			for _, dst := range [][]byte{nil, make([]byte, 5, 10), make([]byte, 0, len(data)), make([]byte, 3, len(data)+200_000)} {
				for _, limit := range []int{len(data), len(data) + 1, MaxSize} {
					got, err := Decode(dst, encoded, limit, AnyKind, key)
					if err != nil || !bytes.Equal(got, data) {
						t.Fatalf("%s of %d bytes, limit %d, cap %d: %d bytes, %v", what, len(data), limit, cap(dst), len(got), err)
					}
				}
				kind, err := ReadKind(encoded)
				if err != nil {
					t.Fatal(err)
				}
				got, err := DecodeChunk(dst, encoded, len(data), chunkDigest(data, kind, key), AnyKind, key)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%s of %d bytes, cap %d: DecodeChunk = %d bytes, %v", what, len(data), cap(dst), len(got), err)
				}
				if cap(dst) >= len(data) && &got[0] != &dst[:1][0] {
					t.Errorf("%s of %d bytes: DecodeChunk did not use a buffer of %d", what, len(data), cap(dst))
				}
			}
			if !bytes.Equal(encoded, original) {
				t.Fatalf("%s: Decode changed its input", what)
			}
		}
	}
}

func TestDecodeKeepsTheLimit(t *testing.T) {
	key := newKey(t, fixtureKey)
	for _, n := range []int{2, 70_000, 400_000} {
		for what, encoded := range payloads(t, text(n)) {
			for _, limit := range []int{-1, 0, 1, n / 2, n - 1} {
				got, err := Decode(nil, encoded, limit, AnyKind, key)
				if !errors.Is(err, corrupt.Err) || got != nil {
					t.Errorf("%s of %d bytes, limit %d: %d bytes, %v, want a corrupt error", what, n, limit, len(got), err)
				}
			}
		}
	}
}

// A frame of a few bytes that claims to be, or really is, far larger must cost
// no more memory than the limit.
func TestDecodeBombs(t *testing.T) {
	rle := unhex(t, "28b52ffd 00 58") // no content size, window 2 MiB
	for range 10_000 {
		rle = append(rle, 0x02, 0x00, 0x10, 0) // 128 KiB of zeroes, not the last block
	}
	huge := unhex(t, "28b52ffd c0 58 ffffffffffffff7f 010000") // content size 2^63-1, then nothing
	window := unhex(t, "28b52ffd 00 ff 010000")                // window of 3.75 TiB
	for what, payload := range map[string][]byte{"zeroes": rle, "content size": huge, "window": window} {
		for _, kind := range []Kind{Zstd, EncryptedZstd} {
			encoded := encode(t, kind, payload)
			key := newKey(t, fixtureKey)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Decode(nil, encoded, 1<<20, AnyKind, key)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, corrupt.Err) || !strings.Contains(err.Error(), "1048576") {
				t.Errorf("%s, %s: %v, want a corrupt error that names the limit", what, kind, err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
				t.Errorf("%s, %s: %d bytes allocated with a limit of 1 MiB", what, kind, used)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	key := newKey(t, fixtureKey)
	good := frame(t, text(1000))
	plain, crypt := encode(t, Plain, []byte("abc")), encode(t, Encrypted, []byte("abc"))
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	tests := []struct {
		what    string
		encoded []byte
		mode    Mode
	}{
		{"empty file", nil, AnyKind},
		{"short magic", plain[:7], AnyKind},
		{"magic only", plain[:8], AnyKind},
		{"short header", plain[:11], AnyKind},
		{"short encrypted header", crypt[:43], AnyKind},
		{"unknown magic", flip(plain, 0), AnyKind},
		{"wrong CRC", flip(plain, 8), AnyKind},
		{"altered payload", flip(plain, 12), AnyKind},
		{"altered IV", flip(crypt, 12), AnyKind}, // not in the CRC
		{"altered tag", flip(crypt, 28), AnyKind},
		{"altered ciphertext with a fitting CRC", fixCRC(flip(crypt, 44), 44), AnyKind},
		{"truncated ciphertext", fixCRC(bytes.Clone(crypt[:46]), 44), AnyKind},
		{"no ciphertext", fixCRC(bytes.Clone(crypt[:44]), 44), AnyKind},
		{"plain for encrypted", plain, MustEncrypted},
		{"zstd for encrypted", encode(t, Zstd, good), MustEncrypted},
		{"encrypted for plain", crypt, MustPlain},
		{"encrypted zstd for plain", encode(t, EncryptedZstd, good), MustPlain},
		{"zero mode", plain, 0},
		{"empty zstd", encode(t, Zstd, nil), AnyKind},
		{"no zstd", encode(t, Zstd, []byte("this is no zstd")), AnyKind},
		{"truncated zstd", encode(t, Zstd, good[:len(good)-1]), AnyKind},
		{"altered zstd checksum", encode(t, Zstd, flip(good, len(good)-1)), AnyKind},
		{"garbage of 1 byte behind zstd", encode(t, Zstd, append(bytes.Clone(good), 0)), AnyKind},
		{"garbage of 3 bytes behind zstd", encode(t, Zstd, append(bytes.Clone(good), good[:3]...)), AnyKind},
		{"garbage of 4 bytes behind zstd", encode(t, Zstd, append(bytes.Clone(good), 0, 0, 0, 0)), AnyKind},
		{"truncated second frame", encode(t, Zstd, append(bytes.Clone(good), good[:20]...)), AnyKind},
		{"zstd that needs a dictionary", encode(t, Zstd, unhex(t, "28b52ffd 21 07 03 190000 616263")), AnyKind},
		{"encrypted, but no zstd", encode(t, EncryptedZstd, []byte("no zstd")), AnyKind},
	}
	for _, tt := range tests {
		got, err := Decode(nil, tt.encoded, 1<<20, tt.mode, key)
		if !errors.Is(err, corrupt.Err) || got != nil {
			t.Errorf("%s: Decode = %d bytes, %v, want a corrupt error", tt.what, len(got), err)
		}
	}
}

func TestEmptyDataIsABlobButNoChunk(t *testing.T) {
	key := newKey(t, fixtureKey)
	for _, kind := range []Kind{Plain, Encrypted} {
		encoded := encode(t, kind, nil)
		if got, err := Decode(nil, encoded, 0, AnyKind, key); err != nil || len(got) != 0 {
			t.Errorf("%s: Decode = %q, %v", kind, got, err)
		}
		if _, err := DecodeChunk(nil, encoded, 0, chunkDigest(nil, kind, key), AnyKind, key); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: DecodeChunk = %v, want a corrupt error", kind, err)
		}
	}
}

func TestEncryptedNeedsKey(t *testing.T) {
	encoded := unhex(t, cryptExample)
	_, err := Decode(nil, encoded, 100, MustEncrypted, nil)
	if !errors.Is(err, ErrKeyNeeded) || errors.Is(err, corrupt.Err) {
		t.Errorf("without a key: %v, want ErrKeyNeeded", err)
	}
	_, err = Decode(nil, encoded, 100, MustEncrypted, newKey(t, strings.Repeat("00", 32)))
	if !errors.Is(err, corrupt.Err) {
		t.Errorf("with another key: %v, want a corrupt error", err)
	}
	encoded[len(encoded)-1] ^= 1
	if _, err = Decode(nil, encoded, 100, MustEncrypted, nil); !errors.Is(err, corrupt.Err) {
		t.Errorf("rotten and without a key: %v, want a corrupt error", err)
	}
}

func TestDecodeChunkRefuses(t *testing.T) {
	key := newKey(t, fixtureKey)
	data := text(5000)
	sum := name.Digest(sha256.Sum256(data))
	keyed := key.Digest(data)
	long := append(encode(t, Plain, data), make([]byte, MaxEncodedChunk)...)
	tests := []struct {
		what    string
		encoded []byte
		want    int
		digest  name.Digest
	}{
		{"digest of other data", encode(t, Plain, data), 5000, name.Digest{}},
		{"keyed digest for plain data", encode(t, Plain, data), 5000, keyed},
		{"keyed digest for zstd data", encode(t, Zstd, frame(t, data)), 5000, keyed},
		{"plain digest for encrypted data", encode(t, Encrypted, data), 5000, sum},
		{"plain digest for encrypted zstd", encode(t, EncryptedZstd, frame(t, data)), 5000, sum},
		{"shorter plain", encode(t, Plain, data), 5001, sum},
		{"longer plain", encode(t, Plain, data), 4999, sum},
		{"shorter zstd", encode(t, Zstd, frame(t, data)), 5001, sum},
		{"longer zstd", encode(t, Zstd, frame(t, data)), 4999, sum},
		{"longer zstd stream", encode(t, Zstd, stream(t, data)), 4999, sum},
		{"longer encrypted", encode(t, Encrypted, data), 4999, keyed},
		{"want 0", encode(t, Plain, data), 0, sum},
		{"want -1", encode(t, Plain, data), -1, sum},
		{"want above 16 MiB", encode(t, Plain, data), MaxChunkSize + 1, sum},
		{"file above 16 MiB", long, 5000, sum},
	}
	for _, tt := range tests {
		got, err := DecodeChunk(nil, tt.encoded, tt.want, tt.digest, AnyKind, key)
		if !errors.Is(err, corrupt.Err) || got != nil {
			t.Errorf("%s: DecodeChunk = %d bytes, %v, want a corrupt error", tt.what, len(got), err)
		}
	}
}

func TestLargestChunk(t *testing.T) {
	key := newKey(t, fixtureKey)
	data := text(MaxChunkSize)
	encoded := encode(t, Encrypted, data)
	if len(encoded) != MaxEncodedChunk {
		t.Fatalf("encoded chunk has %d bytes, want %d", len(encoded), MaxEncodedChunk)
	}
	if _, err := DecodeChunk(nil, encoded, MaxChunkSize, key.Digest(data), MustEncrypted, key); err != nil {
		t.Error(err)
	}
}

func TestReadKindNeedsEightBytesOnly(t *testing.T) {
	for magic, want := range magics {
		if got, err := ReadKind(magic[:]); err != nil || got != want {
			t.Errorf("ReadKind(%x) = %v, %v, want %v", magic, got, err, want)
		}
	}
}
