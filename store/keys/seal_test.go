package keys

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The vector of reference "blobs-chunks-indexes", section 1, and the encrypted
// blob of its section 9.
func TestSealGivesTheReferenceValues(t *testing.T) {
	for _, tt := range []struct{ key, iv, tag, ct, plain string }{
		{countingKey, vector.iv, vector.tag, vector.ct, vector.plain},
		{
			fixtureKey, "1541b59b1be628dc9c0b92fc6451ba81", "fc6a93fc008ac450157a25befeb8b883",
			"0152a498b3ef22f45f29889400c9e228", "secret: hotel\n\n\n",
		},
	} {
		ct, tag := newKey(t, tt.key).seal([]byte("dst:"), [IVSize]byte(unhex(t, tt.iv)), []byte(tt.plain))
		if got := hex.EncodeToString(ct); got != hex.EncodeToString([]byte("dst:"))+tt.ct {
			t.Errorf("ciphertext of %q = %s, want %s appended", tt.plain, got, tt.ct)
		}
		if got := hex.EncodeToString(tag[:]); got != tt.tag {
			t.Errorf("tag of %q = %s, want %s", tt.plain, got, tt.tag)
		}
	}
}

func TestOpenUndoesSeal(t *testing.T) {
	k := newKey(t, countingKey)
	seen := make(map[[IVSize]byte]bool)
	for n := range 300 {
		plain := bytes.Repeat([]byte{byte(n)}, n*7)
		dst := append(make([]byte, 0, n*5), "head"...)
		ct, iv, tag, err := k.Seal(dst, plain)
		if err != nil || len(ct) != 4+len(plain) || string(ct[:4]) != "head" || seen[iv] {
			t.Fatalf("Seal of %d bytes: %d bytes, %v, IV seen before %v", len(plain), len(ct), err, seen[iv])
		}
		seen[iv] = true
		got, err := k.Open(nil, iv[:], tag[:], ct[4:])
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("Open of %d bytes: %d bytes, %v", len(plain), len(got), err)
		}
	}
}

func TestSealAllocatesNothingWhereThereIsRoom(t *testing.T) {
	k := newKey(t, countingKey)
	plain := make([]byte, 1000)
	dst := make([]byte, 44, 44+1000+TagSize)
	ct, _, _, err := k.Seal(dst, plain)
	if err != nil || &ct[0] != &dst[0] {
		t.Errorf("Seal did not use its buffer, %v", err)
	}
}

func TestZeroKeySealsNothing(t *testing.T) {
	for _, k := range []*Key{nil, {}} {
		if ct, _, _, err := k.Seal(nil, []byte("x")); err == nil || ct != nil || k.Usable() {
			t.Errorf("Seal = %q, %v, usable %v, want an error", ct, err, k.Usable())
		}
	}
	if !newKey(t, countingKey).Usable() {
		t.Error("key of New is not usable")
	}
}
