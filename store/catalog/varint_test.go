package catalog

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

// Reference "catalog", section 3.
func TestVarints(t *testing.T) {
	unsignedTests := []struct {
		hex string
		v   uint64
	}{
		{"00", 0},
		{"01", 1},
		{"7f", 127},
		{"8001", 128},
		{"ac02", 300},
		{strings.Repeat("ff", 9) + "01", math.MaxUint64},
		{"8000", 0}, // longer than needed
	}
	for _, tt := range unsignedTests {
		b := unhex(t, tt.hex)
		if v, n := unsigned(append(b, 0xaa)); v != tt.v || n != len(b) {
			t.Errorf("unsigned(%s) = %d, %d bytes, want %d, %d", tt.hex, v, n, tt.v, len(b))
		}
	}
	signedTests := []struct {
		hex string
		v   int64
	}{
		{"00", 0},
		{"01", 1},
		{"8100", -1},
		{"7f", 127},
		{"8001", 128},
		{"808100", -128},
		{"ac8200", -300},
		{"f5fcd7f705", 1593179765},
		{"8000", 0},
		{strings.Repeat("ff", 8) + "7f", math.MaxInt64},
		{strings.Repeat("80", 9) + "8100", math.MinInt64},
	}
	for _, tt := range signedTests {
		b := unhex(t, tt.hex)
		if v, n := signed(append(b, 0xaa)); v != tt.v || n != len(b) {
			t.Errorf("signed(%s) = %d, %d bytes, want %d, %d", tt.hex, v, n, tt.v, len(b))
		}
	}
}

func TestVarintsRefuse(t *testing.T) {
	for _, s := range []string{
		"", "80", "ff", strings.Repeat("80", 10), strings.Repeat("80", 11) + "01",
		strings.Repeat("ff", 9) + "02", strings.Repeat("ff", 9) + "7f", strings.Repeat("80", 9) + "8101",
	} {
		if v, n := unsigned(unhex(t, s)); n != 0 {
			t.Errorf("unsigned(%s) = %d, %d bytes, want none", s, v, n)
		}
	}
	for _, s := range []string{
		"", "80", "ff", strings.Repeat("80", 10), strings.Repeat("80", 11) + "00",
		strings.Repeat("80", 9) + "01",   // 2^63
		strings.Repeat("ff", 9) + "8100", // -(2^64-1)
		"81" + strings.Repeat("80", 8) + "8100",
		strings.Repeat("80", 9) + "8200",
		strings.Repeat("80", 9) + "8101",
	} {
		if v, n := signed(unhex(t, s)); n != 0 {
			t.Errorf("signed(%s) = %d, %d bytes, want none", s, v, n)
		}
	}
}

func TestSignedRoundTrips(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 63, 64, -64, 127, 128, -127, -128, -300, math.MaxInt64, math.MinInt64, math.MinInt64 + 1, 1 << 62} {
		b := appendSigned(nil, v)
		if got, n := signed(b); got != v || n != len(b) {
			t.Errorf("%d is %x, read as %d, %d bytes", v, b, got, n)
		}
	}
}

func FuzzVarints(f *testing.F) {
	for _, s := range []string{"00", "8100", "ac8200", "f5fcd7f705", "ffffffffffffffffff01"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, n := unsigned(b); n > 0 {
			again, m := unsigned(appendUnsigned(nil, v))
			if again != v || m > n {
				t.Errorf("unsigned(%x) = %d, again %d of %d bytes", b[:n], v, again, m)
			}
		}
		if v, n := signed(b); n > 0 {
			short := appendSigned(nil, v)
			if again, m := signed(short); again != v || m > n || n == m && !bytes.Equal(short, b[:n]) {
				t.Errorf("signed(%x) = %d, again %d of %d bytes", b[:n], v, again, m)
			}
		}
	})
}
