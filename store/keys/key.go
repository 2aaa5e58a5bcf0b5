package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

// Lengths of what an encrypted blob stores next to its ciphertext. The IV has
// 16 bytes, not the usual 12 (reference "blobs-chunks-indexes", section 1).
const (
	IVSize  = 16
	TagSize = 16
)

// How the id key is derived and what a fingerprint begins with (reference
// "encryption-keys", section 1).
const (
	idKeySalt       = "_id_key"
	idKeyIterations = 10
	fingerprintText = "Proxmox Backup Encryption Key Fingerprint"
)

// maxPooled is the largest buffer that is kept for the next call: an encoded
// chunk fits, a large blob does not.
const maxPooled = 17 << 20

// errZeroKey is what the zero Key answers.
var errZeroKey = errors.New("key was not made by keys.New")

// Key is a data key. Only [New] makes one; the zero Key opens nothing.
type Key struct {
	fingerprint Fingerprint
	// secret is a function because that is what fmt cannot look into: it
	// follows pointers when a verb does not fit, also past unexported
	// fields, where no method of Key is asked.
	secret func() *secret
}

// secret is what must never be shown.
type secret struct {
	idKey [32]byte
	aead  cipher.AEAD
}

// New derives everything from the 32 bytes of an encryption key.
func New(encKey [32]byte) (*Key, error) {
	idKey, err := pbkdf2.Key(sha256.New, string(encKey[:]), []byte(idKeySalt), idKeyIterations, 32)
	if err != nil {
		return nil, fmt.Errorf("derive id key: %w", err)
	}
	block, err := aes.NewCipher(encKey[:])
	if err != nil {
		return nil, fmt.Errorf("set up cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithNonceSize(block, IVSize)
	if err != nil {
		return nil, fmt.Errorf("set up cipher: %w", err)
	}
	text := sha256.Sum256([]byte(fingerprintText))
	s := &secret{idKey: [32]byte(idKey), aead: aead}
	return &Key{
		fingerprint: sha256.Sum256(append(text[:], idKey...)),
		secret:      func() *secret { return s },
	}, nil
}

// Fingerprint identifies the key.
func (k *Key) Fingerprint() Fingerprint { return k.fingerprint }

// Digest returns the name of an encrypted chunk that holds plain:
// SHA-256(plain ‖ id key). k must come from New.
func (k *Key) Digest(plain []byte) name.Digest {
	h := sha256.New()
	h.Write(plain)
	h.Write(k.secret().idKey[:])
	var d name.Digest
	h.Sum(d[:0])
	return d
}

// Sign returns the HMAC-SHA256 of data with the id key. k must come from New.
// Compare signatures with [hmac.Equal].
func (k *Key) Sign(data []byte) [32]byte {
	mac := hmac.New(sha256.New, k.secret().idKey[:])
	mac.Write(data)
	var sum [32]byte
	mac.Sum(sum[:0])
	return sum
}

// Open authenticates ciphertext, decrypts it and appends the plain data to
// dst, which must not overlap the other arguments. Nothing is returned unless
// all of the ciphertext is authentic.
func (k *Key) Open(dst, iv, tag, ciphertext []byte) ([]byte, error) {
	if k == nil || k.secret == nil {
		return nil, errZeroKey
	}
	if len(iv) != IVSize || len(tag) != TagSize {
		return nil, corrupt.New("encrypted data has an IV of %d and a tag of %d bytes, want %d and %d", len(iv), len(tag), IVSize, TagSize)
	}
	// Blobs store the tag in front of the ciphertext, crypto/cipher wants it
	// behind.
	sealed := pool.Get().(*[]byte)
	defer putBuffer(sealed)
	*sealed = append(append((*sealed)[:0], ciphertext...), tag...)

	plain, err := k.secret().aead.Open(dst, iv, *sealed, nil)
	if err != nil {
		return nil, corrupt.New("encrypted data does not open with key %s: altered, or of another key", k.fingerprint.Short())
	}
	return plain, nil
}

// pool keeps buffers for ciphertext; no plain data gets into them.
var pool = sync.Pool{New: func() any { return new([]byte) }}

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		pool.Put(b)
	}
}

// The methods that print have value receivers, so that they also hold for a
// Key that is not behind a pointer.

// String shows the short fingerprint.
func (k Key) String() string { return "key " + k.fingerprint.Short() }

// GoString is [Key.String].
func (k Key) GoString() string { return k.String() }

// LogValue is [Key.String] for slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Format prints [Key.String] whatever the verb is.
func (k Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) }
