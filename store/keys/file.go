package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

var (
	// ErrFile matches errors of key files that are damaged, or are none.
	ErrFile = errors.New("damaged key file")
	// ErrPassphrase matches errors of passphrases that are wrong or missing.
	ErrPassphrase = errors.New("wrong passphrase")
)

// MaxFile is the longest key file that is read.
const MaxFile = 64 << 10

// minPassphrase is the shortest passphrase the official client takes.
const minPassphrase = 5

const (
	plainLen  = 32                    // an encryption key
	sealedLen = IVSize + TagSize + 32 // one that a passphrase protects
)

// File is a key file (reference "encryption-keys", section 3). Its text may be
// secret: without a passphrase, the key is in it as it is. However a File is
// printed, only the fingerprint shows.
type File struct {
	// Created and Modified are times as the file has them.
	Created, Modified string
	// Hint is the user's hint at the passphrase.
	Hint string

	kdf            kdf           // nil: the key is not protected
	data           func() []byte // a function, as in Key: so that nothing prints it
	fingerprint    Fingerprint
	hasFingerprint bool
}

// errZeroFile is what the zero File answers.
var errZeroFile = errors.New("key file was not read by keys.ParseFile")

// fileJSON is the text of a key file.
type fileJSON struct {
	KDF         json.RawMessage `json:"kdf"`
	Created     string          `json:"created"`
	Modified    string          `json:"modified"`
	Data        string          `json:"data"`
	Fingerprint string          `json:"fingerprint"`
	Hint        string          `json:"hint"`
}

// damaged returns an error that matches ErrFile.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrFile, fmt.Errorf(format, args...))
}

// ParseFile reads the text of a key file.
func ParseFile(text []byte) (*File, error) {
	if len(text) > MaxFile {
		return nil, damaged("longer than %d bytes", MaxFile)
	}
	var j fileJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, damaged("not the JSON of a key file") // its text may be secret
	}
	f := &File{Created: j.Created, Modified: j.Modified, Hint: j.Hint}
	var err error
	if f.kdf, err = parseKDF(j.KDF); err != nil {
		return nil, err
	}
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(j.Data, "="))
	if err != nil {
		return nil, damaged("data is not base64")
	}
	f.data = func() []byte { return data }
	want := plainLen
	if f.kdf != nil {
		want = sealedLen
	}
	if len(data) != want {
		return nil, damaged("data has %d bytes, want %d", len(data), want)
	}
	if j.Fingerprint != "" {
		if f.fingerprint, err = ParseFingerprint(j.Fingerprint); err != nil {
			return nil, damaged("%w", err)
		}
		f.hasFingerprint = true
	}
	return f, nil
}

// KDF names how the passphrase protects the key: "none", "scrypt" or "pbkdf2".
func (f *File) KDF() string {
	if f.kdf == nil {
		return "none"
	}
	return f.kdf.name()
}

// Fingerprint returns the fingerprint that the file claims, and whether it has
// one.
func (f *File) Fingerprint() (Fingerprint, bool) { return f.fingerprint, f.hasFingerprint }

// NeedsPassphrase reports whether a passphrase protects the key.
func (f *File) NeedsPassphrase() bool { return f.kdf != nil }

// Open returns the encryption key, for [New]. passphrase is used if the file
// needs one. The key is compared with the fingerprint in the file.
func (f *File) Open(passphrase []byte) ([32]byte, error) {
	if f == nil || f.data == nil {
		return [32]byte{}, errZeroFile
	}
	raw := f.data()
	if f.kdf != nil {
		var err error
		if raw, err = f.unseal(passphrase); err != nil {
			return [32]byte{}, err
		}
	}
	key, err := New([32]byte(raw))
	if err != nil {
		return [32]byte{}, err
	}
	if f.hasFingerprint && key.Fingerprint() != f.fingerprint {
		return [32]byte{}, damaged("its key has the fingerprint %s, not %s as it says", key.Fingerprint().Short(), f.fingerprint.Short())
	}
	return [32]byte(raw), nil
}

// unseal decrypts the key with a passphrase.
func (f *File) unseal(passphrase []byte) ([]byte, error) {
	if len(passphrase) < minPassphrase {
		return nil, fmt.Errorf("%w: shorter than %d bytes", ErrPassphrase, minPassphrase)
	}
	derived, err := f.kdf.derive(passphrase)
	if err != nil {
		return nil, damaged("%w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithNonceSize(block, IVSize)
	if err != nil {
		return nil, err
	}
	data := f.data()
	iv, tag, ciphertext := data[:IVSize], data[IVSize:IVSize+TagSize], data[IVSize+TagSize:]
	raw, err := aead.Open(nil, iv, append(bytes.Clone(ciphertext), tag...), nil)
	if err != nil {
		if f.Hint != "" {
			return nil, fmt.Errorf("%w (hint: %q)", ErrPassphrase, f.Hint)
		}
		return nil, ErrPassphrase
	}
	return raw, nil
}

// String shows the short fingerprint, if the file has one.
func (f File) String() string {
	if !f.hasFingerprint {
		return "key file"
	}
	return "key file " + f.fingerprint.Short()
}

// GoString is [File.String].
func (f File) GoString() string { return f.String() }

// LogValue is [File.String] for slog.
func (f File) LogValue() slog.Value { return slog.StringValue(f.String()) }

// Format prints [File.String] whatever the verb is.
func (f File) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, f.String()) }
