package blob

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/pbsfs/pbsfs/store/keys"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixtureKey is the key of the file key-none.json (reference
// "encryption-keys", section 1).
const fixtureKey = "3e3af5b16fdd4e7c0510ae9468fb672c7a36ee8a496bb4f27fd6ca1b999c2dbc"

func newKey(t testing.TB, encKey string) *keys.Key {
	t.Helper()
	k, err := keys.New([32]byte(unhex(t, encKey)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// encode builds a blob around a payload; for encrypted kinds the payload is
// encrypted with fixtureKey.
func encode(t testing.TB, kind Kind, payload []byte) []byte {
	t.Helper()
	m := kind.magic()
	head := append(m[:], 0, 0, 0, 0)
	if kind.IsEncrypted() {
		iv := unhex(t, "000102030405060708090a0b0c0d0e0f")
		block, err := aes.NewCipher(unhex(t, fixtureKey))
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCMWithNonceSize(block, 16)
		if err != nil {
			t.Fatal(err)
		}
		sealed := gcm.Seal(nil, iv, payload, nil)
		head = append(append(head, iv...), sealed[len(payload):]...)
		payload = sealed[:len(payload)]
	}
	return fixCRC(append(head, payload...), len(head))
}

// fixCRC makes the CRC of an encoded blob right.
func fixCRC(encoded []byte, header int) []byte {
	binary.LittleEndian.PutUint32(encoded[8:], crc32.ChecksumIEEE(encoded[header:]))
	return encoded
}

// frame returns one frame with its content size in the header.
func frame(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll(data, nil)
}

// stream returns one frame without its content size, as the streaming encoder
// of the server writes.
func stream(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 { // in pieces, so that the encoder never sees the end
		n := min(len(data), 1000)
		if _, err := w.Write(data[:n]); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// text returns n bytes that compress, but not to nothing.
func text(n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	out := make([]byte, 0, n+16)
	for len(out) < n {
		if rng.IntN(4) == 0 || len(out) < 100 {
			out = append(out, byte(rng.Uint32()), byte(rng.Uint32()))
			continue
		}
		from := rng.IntN(len(out) - 32)
		out = append(out, out[from:from+4+rng.IntN(28)]...)
	}
	return out[:n]
}
