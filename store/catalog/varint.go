package catalog

import (
	"encoding/binary"
	"math"
)

// The varints of a catalog: seven bits per byte, the low ones first, the high
// bit says that more follow (reference "catalog", section 3). Both functions
// return the number of bytes read, 0 if buf holds no complete and valid varint.

const (
	maxUnsigned = 10 // bytes of the longest unsigned varint
	maxSigned   = 11 // a negative one ends with a zero byte

	lastGroup = 9 // index of the group that has room for one bit only
	more      = 0x80
)

// group adds byte i of a varint to v; ok is false if that overflows.
func group(v uint64, i int, b byte) (sum uint64, ok bool) {
	bits := uint64(b &^ more)
	if i > lastGroup || i == lastGroup && bits > 1 {
		return 0, false
	}
	return v | bits<<(7*i), true
}

// unsigned reads an unsigned varint.
func unsigned(buf []byte) (v uint64, n int) {
	for i, b := range buf[:min(len(buf), maxUnsigned)] {
		var ok bool
		if v, ok = group(v, i, b); !ok {
			return 0, 0
		}
		if b < more {
			return v, i + 1
		}
	}
	return 0, 0
}

// signed reads a signed varint. One that ends with a zero byte is the negative
// of the groups before it.
func signed(buf []byte) (v int64, n int) {
	var magnitude uint64
	for i, b := range buf[:min(len(buf), maxSigned)] {
		if b == 0 {
			return negative(magnitude, i+1)
		}
		var ok bool
		if magnitude, ok = group(magnitude, i, b); !ok {
			return 0, 0
		}
		if b < more {
			if magnitude > math.MaxInt64 {
				return 0, 0
			}
			return int64(magnitude), i + 1
		}
	}
	return 0, 0
}

// negative returns -magnitude, which may be the smallest int64.
func negative(magnitude uint64, read int) (v int64, n int) {
	if magnitude > -math.MinInt64 {
		return 0, 0
	}
	return -int64(magnitude), read // wraps to the same value for 2^63
}

// appendUnsigned appends an unsigned varint.
func appendUnsigned(out []byte, v uint64) []byte { return binary.AppendUvarint(out, v) }

// appendSigned appends a signed varint.
func appendSigned(out []byte, v int64) []byte {
	if v >= 0 {
		return appendUnsigned(out, uint64(v))
	}
	for m := -uint64(v); m > 0; m >>= 7 {
		out = append(out, byte(m)|more)
	}
	return append(out, 0)
}
