package manifest

import (
	"strings"
	"testing"

	"golang.org/x/crypto/scrypt"

	"github.com/pbsfs/pbsfs/store/keys"
)

// vectorKey is the key of the reference's signature vector: scrypt of "test"
// with an empty salt.
func vectorKey(t *testing.T) *keys.Key {
	t.Helper()
	raw, err := scrypt.Key([]byte("test"), nil, 65536, 8, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.New([32]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// vector is the manifest of the reference ("datastore-layout", section 6), with
// %s where the tests put something in.
func vector(signature, unprotected, extra, lastMode string) string {
	return `{"unprotected":` + unprotected + `,"signature":` + signature + extra +
		`,"files":[{"size":200,"filename":"test1.img.fidx","crypt-mode":"encrypt","csum":"` + strings.Repeat("01", 32) +
		`"},{"filename":"abc.blob",` + lastMode + `"csum":"` + strings.Repeat("02", 32) +
		`","size":200}],"backup-type":"host","backup-id":"elsa","backup-time":1593179765}`
}

const vectorSignature = `"d7b446fb7db081662081d4b40fedd858a1d6307a5aff4ecff7d5bf4fd35679e9"`

func TestCheckSignature(t *testing.T) {
	key := vectorKey(t)
	other, err := keys.New([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	const none = `"crypt-mode":"none",`
	for _, c := range []struct {
		name string
		text string
		key  *keys.Key
		want SignatureState
	}{
		{"vector of the reference, members in any order", vector(vectorSignature, `{}`, "", none), key, Valid},
		{"what is not protected does not count", vector(vectorSignature, `{"notes":"x"}`, "", none), key, Valid},
		{"missing crypt-mode is none in the newer form", vector(vectorSignature, `{}`, "", ""), key, Valid},
		{"unknown member is dropped in the newer form", vector(vectorSignature, `{}`, `,"later":1`, none), key, Valid},
		{"changed file", strings.Replace(vector(vectorSignature, `{}`, "", none), "0202", "0203", 1), key, Invalid},
		{"changed mode", vector(vectorSignature, `{}`, "", `"crypt-mode":"sign-only",`), key, Invalid},
		{"another key", vector(vectorSignature, `{}`, "", none), other, Invalid},
		{"no key", vector(vectorSignature, `{}`, "", none), nil, Unverified},
		{"null", vector(`null`, `{}`, "", none), key, Unsigned},
		{"not hex", vector(`"xyz"`, `{}`, "", none), key, Invalid},
	} {
		m := mustDecode(t, c.text)
		if got := m.CheckSignature(c.key); got != c.want {
			t.Errorf("%s: signature is %s, want %s", c.name, got, c.want)
		}
	}
}

func TestCanonicalStringsEscapeOnlyWhatJSONDemands(t *testing.T) {
	for in, want := range map[string]string{
		"plain":              `"plain"`,
		"\"\\/":              `"\"\\/"`,
		"\b\f\n\r\t\x01\x1f": `"\b\f\n\r\t\u0001\u001f"`,
		"<>&\u2028\u2029é":   "\"<>&\u2028\u2029é\"",
		"\x7f":               "\"\x7f\"",
	} {
		if got := string(appendString(nil, in)); got != want {
			t.Errorf("canonical form of %q = %s, want %s", in, got, want)
		}
	}
}
