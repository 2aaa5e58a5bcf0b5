package keys

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Master is the private half of an RSA master key, which recovers data keys
// that clients have wrapped with its public half (reference "encryption-keys",
// section 4).
type Master struct {
	// A function, as in Key: so that nothing prints it.
	private func() *rsa.PrivateKey
}

// Kinds of PEM blocks that hold a private key.
const (
	pemPKCS8     = "PRIVATE KEY"
	pemEncrypted = "ENCRYPTED PRIVATE KEY"
	pemPKCS1     = "RSA PRIVATE KEY"
)

// maxDER bounds an encoded private key: one of 16384 bits fits. To check the
// numbers of longer ones takes longer than anybody waits.
const maxDER = 10 << 10

// MasterNeedsPassphrase reports whether the PEM text of a private key is
// protected by a passphrase.
func MasterNeedsPassphrase(text []byte) bool {
	block, _ := pem.Decode(text)
	return block != nil && block.Type == pemEncrypted
}

// ParseMaster reads the private key from its PEM text. passphrase is used if
// the key is protected by one.
func ParseMaster(text, passphrase []byte) (*Master, error) {
	if len(text) > MaxFile {
		return nil, damaged("master key longer than %d bytes", MaxFile)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, damaged("master key: no PEM text")
	}
	switch block.Type {
	case pemPKCS1:
		return parsePKCS1(block)
	case pemPKCS8:
		return ParseMasterDER(block.Bytes)
	case pemEncrypted:
		der, err := openPBES2(block.Bytes, passphrase)
		if err != nil {
			return nil, fmt.Errorf("master key: %w", err)
		}
		return ParseMasterDER(der)
	}
	return nil, damaged("master key: PEM text of a %s, want a private key", shortType(block.Type))
}

// shortType cuts off what is too long for an error.
func shortType(s string) string { return s[:min(len(s), maxShownText)] }

func parsePKCS1(block *pem.Block) (*Master, error) {
	if block.Headers["DEK-Info"] != "" {
		return nil, damaged("master key: encrypted in the way from before PKCS#8; 'openssl pkcs8 -topk8' converts it")
	}
	if len(block.Bytes) > maxDER {
		return nil, damaged("master key: longer than %d bytes", maxDER)
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, damaged("master key: %w", err)
	}
	return newMaster(key), nil
}

// ParseMasterDER reads the private key from PKCS#8 that is not encrypted, as
// [Master.DER] writes it.
func ParseMasterDER(der []byte) (*Master, error) {
	if len(der) > maxDER {
		return nil, damaged("master key: longer than %d bytes", maxDER)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, damaged("master key: %w", err)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, damaged("master key: not an RSA key")
	}
	return newMaster(rsaKey), nil
}

func newMaster(key *rsa.PrivateKey) *Master {
	return &Master{private: func() *rsa.PrivateKey { return key }}
}

// DER returns the private key as PKCS#8, for a process that is to have it. It
// is secret.
func (m *Master) DER() ([]byte, error) {
	if m == nil || m.private == nil {
		return nil, errZeroKey
	}
	return x509.MarshalPKCS8PrivateKey(m.private())
}

// ErrUnwrap matches the error of a wrapped key that another master key opens,
// or that is damaged.
var ErrUnwrap = errors.New("master key does not open the wrapped key")

// Unwrap returns the text of the key file in a decoded rsa-encrypted.key. It is
// secret.
func (m *Master) Unwrap(wrapped []byte) ([]byte, error) {
	if m == nil || m.private == nil {
		return nil, errZeroKey
	}
	//lint:ignore SA1019 what clients have written is PKCS#1 v1.5, and nobody can ask us to decrypt over and over
	text, err := rsa.DecryptPKCS1v15(nil, m.private(), wrapped) //nolint:staticcheck // SA1019: what clients have written is PKCS#1 v1.5
	if err != nil {
		return nil, ErrUnwrap
	}
	return text, nil
}

// String shows nothing of the key.
func (m Master) String() string { return "master key" }

// GoString is [Master.String].
func (m Master) GoString() string { return m.String() }

// LogValue is [Master.String] for slog.
func (m Master) LogValue() slog.Value { return slog.StringValue(m.String()) }

// Format prints [Master.String] whatever the verb is.
func (m Master) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, m.String()) }
