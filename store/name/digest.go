package name

import (
	"encoding/hex"
	"fmt"
)

// Digest names a chunk: SHA-256 over its plain data, followed by the id key
// where the chunk is encrypted.
type Digest [32]byte

// String returns the 64 lower-case hex digits that are the chunk's file name.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Prefix returns the name of the chunk's directory below .chunks: the first
// two bytes as four hex digits.
func (d Digest) Prefix() string { return hex.EncodeToString(d[:2]) }

// ParseDigest reads 64 lower-case hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*len(d) {
		return d, fmt.Errorf("digest %q: want 64 hex digits", s)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: want 64 hex digits", s)
	}
	if d.String() != s {
		return Digest{}, fmt.Errorf("digest %q: want lower-case hex digits", s)
	}
	return d, nil
}
