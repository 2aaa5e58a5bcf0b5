package keys

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrFingerprint matches the errors of [ParseFingerprint].
var ErrFingerprint = errors.New("invalid key fingerprint")

// Fingerprint identifies a key without giving it away. Fingerprints are
// compared as values, never as text.
type Fingerprint [32]byte

// shortLen is how many bytes are enough to tell keys apart for people.
const shortLen = 8

// maxShownText limits how much of a wrong fingerprint an error repeats.
const maxShownText = 100

// String returns all bytes as "aa:bb:…", as manifests and key files store it.
func (f Fingerprint) String() string { return colons(f[:]) }

// Short returns the first eight bytes as "aa:bb:…", for people.
func (f Fingerprint) Short() string { return colons(f[:shortLen]) }

func colons(b []byte) string {
	pairs := make([]string, len(b))
	for i := range b {
		pairs[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(pairs, ":")
}

// ParseFingerprint reads 64 hex digits of either case. Colons are ignored
// wherever they stand.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	digits := strings.ReplaceAll(s, ":", "")
	if len(digits) != 2*len(f) {
		return Fingerprint{}, fingerprintError(s)
	}
	if _, err := hex.Decode(f[:], []byte(digits)); err != nil {
		return Fingerprint{}, fingerprintError(s)
	}
	return f, nil
}

func fingerprintError(s string) error {
	return fmt.Errorf("%w: %.*q: want 64 hex digits", ErrFingerprint, maxShownText, s)
}
