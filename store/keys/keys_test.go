package keys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB, encKey string) *Key {
	t.Helper()
	k, err := New([32]byte(unhex(t, encKey)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const (
	// countingKey is the bytes 00 01 … 1f of the reference's vectors.
	countingKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	// fixtureKey is the key of the file key-none.json.
	fixtureKey = "3e3af5b16fdd4e7c0510ae9468fb672c7a36ee8a496bb4f27fd6ca1b999c2dbc"
)

// The values of reference "encryption-keys", section 1.
func TestKeyDerivesTheReferenceValues(t *testing.T) {
	tests := []struct {
		encKey, idKey, fingerprint, hello, zeroes string
	}{
		{
			encKey:      countingKey,
			idKey:       "7c2c013efd07f3b25717a485263343cd4d292a4b65c200bb3b18ea227abe225c",
			fingerprint: "0eabd4460b6eb9ca345023dee2b778c790e54a1683b9659c0a57ae199090159b",
			hello:       "29d6770e718a93cf4a7663ddc167cf40c128b67cc20d36bd49adec140981f9d5",
			zeroes:      "348571e12bbbedb529def1f1394316e338a01945d871df9ef792617ceb13d636",
		},
		{
			encKey:      fixtureKey,
			idKey:       "4c6231b580fe7a3b0a55a202c761f3090bcd5f6871affafb96c789ef939410a9",
			fingerprint: "ba:e3:ef:e4:bd:25:9f:f6:eb:b5:db:26:35:c7:73:9f:ca:c6:77:b5:7d:25:bb:a7:cc:ea:7b:7e:41:e0:f4:90",
			hello:       "c7e3f4b5283df8f39053891cbcf5b719742df75609bde4e0471daa133697f18d",
			zeroes:      "cd9e28a5eb5c71176232f3c32453309f48c8f01f25f64f64e8ba9024975dc263",
		},
	}
	for _, tt := range tests {
		k := newKey(t, tt.encKey)
		if got := hex.EncodeToString(k.secret().idKey[:]); got != tt.idKey {
			t.Errorf("id key of %s = %s, want %s", tt.encKey, got, tt.idKey)
		}
		want, err := ParseFingerprint(tt.fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Fingerprint(); got != want {
			t.Errorf("fingerprint of %s = %s, want %s", tt.encKey, got, want)
		}
		if got := k.Digest([]byte("hello world")).String(); got != tt.hello {
			t.Errorf("digest with %s = %s, want %s", tt.encKey, got, tt.hello)
		}
		if got := k.Digest(make([]byte, 4<<20)).String(); got != tt.zeroes {
			t.Errorf("digest of zeroes with %s = %s, want %s", tt.encKey, got, tt.zeroes)
		}
	}
}

// The manifest of reference "datastore-layout", section 6, in canonical form,
// and its signature.
func TestSignMatchesTheReferenceManifest(t *testing.T) {
	// scrypt("test", empty salt, n=65536, r=8, p=1, 32 bytes)
	k := newKey(t, "28cdb1a3bef39396c3860e00d448fe7a0efd8244486ab6feb30457681d31597e")
	object := `{"backup-id":"elsa","backup-time":1593179765,"backup-type":"host","files":[` +
		`{"crypt-mode":"encrypt","csum":"` + strings.Repeat("01", 32) + `","filename":"test1.img.fidx","size":200},` +
		`{"crypt-mode":"none","csum":"` + strings.Repeat("02", 32) + `","filename":"abc.blob","size":200}]}`
	want := "d7b446fb7db081662081d4b40fedd858a1d6307a5aff4ecff7d5bf4fd35679e9"
	if got := k.Sign([]byte(object)); hex.EncodeToString(got[:]) != want {
		t.Errorf("Sign = %x, want %s", got, want)
	}
}

// vector is the AES-256-GCM vector of reference "blobs-chunks-indexes",
// section 1, for countingKey: the IV has 16 bytes.
var vector = struct{ iv, tag, ct, plain string }{
	iv:    "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
	tag:   "fcb5097699590083e46cf15be1f16b99",
	ct:    "d0047043fea099a8da8937",
	plain: "hello world",
}

func TestOpenTheReferenceVector(t *testing.T) {
	k := newKey(t, countingKey)
	got, err := k.Open([]byte("dst:"), unhex(t, vector.iv), unhex(t, vector.tag), unhex(t, vector.ct))
	if err != nil || string(got) != "dst:"+vector.plain {
		t.Fatalf("Open = %q, %v, want %q appended", got, err, vector.plain)
	}
}

func TestOpenRefuses(t *testing.T) {
	k := newKey(t, countingKey)
	iv, tag, ct := unhex(t, vector.iv), unhex(t, vector.tag), unhex(t, vector.ct)
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[0] ^= 1
		return b
	}
	tests := []struct {
		what        string
		key         *Key
		iv, tag, ct []byte
		corrupt     bool
	}{
		{"another key", newKey(t, fixtureKey), iv, tag, ct, true},
		{"altered IV", k, flip(iv), tag, ct, true},
		{"altered tag", k, iv, flip(tag), ct, true},
		{"altered ciphertext", k, iv, tag, flip(ct), true},
		{"short ciphertext", k, iv, tag, ct[1:], true},
		{"no ciphertext", k, iv, tag, nil, true},
		{"IV of 12 bytes", k, iv[:12], tag, ct, true},
		{"short tag", k, iv, tag[:12], ct, true},
		{"zero key", new(Key), iv, tag, ct, false},
		{"nil key", nil, iv, tag, ct, false},
	}
	for _, tt := range tests {
		got, err := tt.key.Open(nil, tt.iv, tt.tag, tt.ct)
		if err == nil || got != nil || errors.Is(err, corrupt.Err) != tt.corrupt {
			t.Errorf("%s: Open = %q, %v, want an error, corrupt %v", tt.what, got, err, tt.corrupt)
		}
	}
}

func TestPrintingAKeyShowsNoSecret(t *testing.T) {
	k := newKey(t, fixtureKey)
	type holder struct {
		Public Key
		hidden Key
		ptr    *Key
	}
	h := holder{*k, *k, k}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", k, "value", *k, "holder", h)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k, "value", *k, "holder", h)
	out := []string{log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		out = append(out, fmt.Sprintf(verb, k), fmt.Sprintf(verb, *k), fmt.Sprintf(verb, h))
	}
	//lint:ignore SA9005 that it has nothing to marshal is the point
	text, err := json.Marshal(k) //nolint:staticcheck // SA9005: that it has nothing to marshal is the point
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, string(text))
	for _, encoding := range []string{"%x", "%X", "%d"} {
		for _, secret := range [][]byte{k.secret().idKey[:4], unhex(t, fixtureKey)[:4]} {
			needle := strings.Trim(fmt.Sprintf(encoding, secret), "[]")
			for _, s := range out {
				if strings.Contains(s, needle) {
					t.Errorf("secret shows in %q", s)
				}
			}
		}
	}
	if got, want := fmt.Sprintf("%v", k), "key ba:e3:ef:e4:bd:25:9f:f6"; got != want {
		t.Errorf("printed key = %q, want %q", got, want)
	}
}

func TestParseFingerprint(t *testing.T) {
	full := "ba:e3:ef:e4:bd:25:9f:f6:eb:b5:db:26:35:c7:73:9f:ca:c6:77:b5:7d:25:bb:a7:cc:ea:7b:7e:41:e0:f4:90"
	bare := strings.ReplaceAll(full, ":", "")
	for _, s := range []string{full, bare, strings.ToUpper(full), "::" + bare + ":", bare[:1] + ":" + bare[1:]} {
		f, err := ParseFingerprint(s)
		if err != nil || f.String() != full {
			t.Errorf("ParseFingerprint(%q) = %s, %v", s, f, err)
		}
		if f.Short() != "ba:e3:ef:e4:bd:25:9f:f6" {
			t.Errorf("Short of %q = %s", s, f.Short())
		}
	}
	for _, s := range []string{"", ":", full[3:], full + ":00", bare[1:] + "g", strings.Repeat("ab ", 32), strings.Repeat("x", 1<<20)} {
		f, err := ParseFingerprint(s)
		if !errors.Is(err, ErrFingerprint) || f != (Fingerprint{}) {
			t.Errorf("ParseFingerprint(%.80q) = %s, %v, want ErrFingerprint", s, f, err)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Errorf("error has %d bytes", len(err.Error()))
		}
	}
}

func FuzzFingerprint(f *testing.F) {
	f.Add("ba:e3:ef:e4:bd:25:9f:f6:eb:b5:db:26:35:c7:73:9f:ca:c6:77:b5:7d:25:bb:a7:cc:ea:7b:7e:41:e0:f4:90")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		fp, err := ParseFingerprint(s)
		if err != nil {
			return
		}
		if again, err := ParseFingerprint(fp.String()); err != nil || again != fp {
			t.Errorf("%q: %s parses as %s, %v", s, fp, again, err)
		}
	})
}
