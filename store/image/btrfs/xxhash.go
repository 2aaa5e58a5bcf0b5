package btrfs

import (
	"encoding/binary"
	"math/bits"
)

// The primes of xxHash64. They are variables, as constants must not overflow.
var prime1, prime2, prime3, prime4, prime5 uint64 = 0x9e3779b185ebca87, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9, 0x85ebca77c2b2ae63, 0x27d4eb2f165667c5

// xxhash64 is xxHash64 with the seed 0.
func xxhash64(p []byte) uint64 {
	le := binary.LittleEndian
	n := uint64(len(p))
	h := prime5
	if len(p) >= 32 {
		a, b, c, d := prime1+prime2, prime2, uint64(0), -prime1
		for ; len(p) >= 32; p = p[32:] {
			a = xxround(a, le.Uint64(p))
			b = xxround(b, le.Uint64(p[8:]))
			c = xxround(c, le.Uint64(p[16:]))
			d = xxround(d, le.Uint64(p[24:]))
		}
		h = bits.RotateLeft64(a, 1) + bits.RotateLeft64(b, 7) + bits.RotateLeft64(c, 12) + bits.RotateLeft64(d, 18)
		for _, x := range []uint64{a, b, c, d} {
			h = (h^xxround(0, x))*prime1 + prime4
		}
	}
	h += n
	for ; len(p) >= 8; p = p[8:] {
		h = bits.RotateLeft64(h^xxround(0, le.Uint64(p)), 27)*prime1 + prime4
	}
	if len(p) >= 4 {
		h = bits.RotateLeft64(h^uint64(le.Uint32(p))*prime1, 23)*prime2 + prime3
		p = p[4:]
	}
	for _, x := range p {
		h = bits.RotateLeft64(h^uint64(x)*prime5, 11) * prime1
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}

func xxround(acc, x uint64) uint64 { return bits.RotateLeft64(acc+x*prime2, 31) * prime1 }
