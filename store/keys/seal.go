package keys

import (
	"crypto/rand"
	"slices"
)

// Seal encrypts plain under a fresh random IV and appends the ciphertext, which
// is as long as plain, to dst. plain must not overlap dst, its spare capacity
// included. What Open needs to undo it is returned with it. With room for
// TagSize bytes behind the ciphertext nothing is allocated.
//
// The IV is never the caller's: one that is used twice gives the key away.
func (k *Key) Seal(dst, plain []byte) (ciphertext []byte, iv [IVSize]byte, tag [TagSize]byte, err error) {
	if k == nil || k.secret == nil {
		return nil, iv, tag, errZeroKey
	}
	_, _ = rand.Read(iv[:]) // never fails
	ciphertext, tag = k.seal(dst, iv, plain)
	return ciphertext, iv, tag, nil
}

// seal is Seal with the caller's IV.
func (k *Key) seal(dst []byte, iv [IVSize]byte, plain []byte) (ciphertext []byte, tag [TagSize]byte) {
	end := len(dst) + len(plain)
	dst = slices.Grow(dst, len(plain)+TagSize)
	sealed := k.secret().aead.Seal(dst, iv[:], plain, nil)
	copy(tag[:], sealed[end:])
	return sealed[:end], tag
}

// Usable reports whether k was made by [New] and can seal.
func (k *Key) Usable() bool { return k != nil && k.secret != nil }
