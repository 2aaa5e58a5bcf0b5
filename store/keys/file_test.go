package keys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The key files of these vectors hold the bytes 00 01 … 1f. What a passphrase
// protects was made with Python's hashlib and cryptography.
const (
	countingData        = `"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="`
	countingFingerprint = "0e:ab:d4:46:0b:6e:b9:ca:34:50:23:de:e2:b7:78:c7:90:e5:4a:16:83:b9:65:9c:0a:57:ae:19:90:90:15:9b"

	smallPassphrase = "small pass"
	smallScrypt     = `{"Scrypt":{"n":16,"r":2,"p":3,"salt":"c2FsdCBvZiBzY3J5cHQ="}}`
	smallScryptData = `"8PHy8/T19vf4+fr7/P3+/5Nq/WRd3Jw5ry+732U30tHt+xSpy1gaFUieNppQgxY2+M8Y24HDcsidtMFcctovyg=="`
	smallPBKDF2     = `{"PBKDF2":{"iter":7,"salt":"c2FsdCBvZiBwYmtkZjI="}}`
	smallPBKDF2Data = `"8PHy8/T19vf4+fr7/P3+/5h3sp3nxNRqvur7iuaxacs3WOp1BokZLxwRyELKWwrxxQoETtTjnu2pSa59/EyiXQ=="`
)

// keyFile writes the text of a key file. more are further members.
func keyFile(kdf, data, more string) string {
	return `{"kdf":` + kdf + `,"created":"2024-06-05T16:24:36+02:00","modified":"2024-06-06T16:24:36Z","data":` + data + more + `}`
}

func fingerprintMember(fp string) string { return `,"fingerprint":"` + fp + `"` }

func parseFile(t testing.TB, text string) *File {
	t.Helper()
	f, err := ParseFile([]byte(text))
	if err != nil {
		t.Fatalf("ParseFile(%s): %v", text, err)
	}
	return f
}

func TestKDFVectors(t *testing.T) {
	for _, c := range []struct{ kdf, want string }{
		{smallScrypt, "995f66c81891d220f12de33993684d478c7a820e210d8bf26dc994cc0e0f4964"},
		{smallPBKDF2, "7ba619504a457a3e708a03c7e83f58aae3b596ed6d3cb3151ad31d4559dcd1b1"},
		// The scrypt key of the reference's signature vector.
		{`{"Scrypt":{"n":65536,"r":8,"p":1,"salt":""}}`, "28cdb1a3bef39396c3860e00d448fe7a0efd8244486ab6feb30457681d31597e"},
	} {
		k, err := parseKDF([]byte(c.kdf))
		if err != nil {
			t.Fatalf("%s: %v", c.kdf, err)
		}
		passphrase := smallPassphrase
		if strings.Contains(c.kdf, `"salt":""`) {
			passphrase = "test"
		}
		got, err := k.derive([]byte(passphrase))
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("%s: derived %x, %v, want %s", c.kdf, got, err, c.want)
		}
	}
}

func TestKeyFilesOpen(t *testing.T) {
	for _, c := range []struct {
		name, text, passphrase, kdf string
		fingerprint                 bool
	}{
		{"plain", keyFile(`null`, countingData, fingerprintMember(countingFingerprint)), "", "none", true},
		{"plain, with a passphrase that nobody needs", keyFile(`null`, countingData, ""), "unused", "none", false},
		{"kdf absent", `{"data":` + countingData + `}`, "", "none", false},
		{"without padding", keyFile(`null`, strings.ReplaceAll(countingData, "=", ""), ""), "", "none", false},
		{"members that are not known", keyFile(`null`, countingData, `,"later":{"a":[1]}`), "", "none", false},
		{"no fingerprint but null", keyFile(`null`, countingData, `,"fingerprint":null,"hint":null`), "", "none", false},
		{"fingerprint of upper case", keyFile(`null`, countingData, fingerprintMember(strings.ToUpper(countingFingerprint))), "", "none", true},
		{"scrypt", keyFile(smallScrypt, smallScryptData, fingerprintMember(countingFingerprint)), smallPassphrase, "scrypt", true},
		{"scrypt, no fingerprint", keyFile(smallScrypt, smallScryptData, `,"hint":"small"`), smallPassphrase, "scrypt", false},
		{"PBKDF2", keyFile(smallPBKDF2, smallPBKDF2Data, fingerprintMember(countingFingerprint)), smallPassphrase, "pbkdf2", true},
		{"PBKDF2 without padding", keyFile(strings.Replace(smallPBKDF2, `I="`, `I"`, 1), strings.ReplaceAll(smallPBKDF2Data, "=", ""), ""), smallPassphrase, "pbkdf2", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := parseFile(t, c.text)
			if f.KDF() != c.kdf || f.NeedsPassphrase() != (c.kdf != "none") {
				t.Errorf("kdf %s, needs passphrase %v, want %s", f.KDF(), f.NeedsPassphrase(), c.kdf)
			}
			if fp, ok := f.Fingerprint(); ok != c.fingerprint || ok && fp.String() != countingFingerprint {
				t.Errorf("fingerprint %s, %v, want one: %v", fp, ok, c.fingerprint)
			}
			raw, err := f.Open([]byte(c.passphrase))
			if err != nil || hex.EncodeToString(raw[:]) != countingKey {
				t.Errorf("Open = %x, %v, want %s", raw, err, countingKey)
			}
		})
	}
	f := parseFile(t, keyFile(smallScrypt, smallScryptData, `,"hint":"small"`))
	if f.Created != "2024-06-05T16:24:36+02:00" || f.Modified != "2024-06-06T16:24:36Z" || f.Hint != "small" {
		t.Errorf("created %q, modified %q, hint %q are not the file's", f.Created, f.Modified, f.Hint)
	}
}

func TestKeyFilesOfARealClientOpen(t *testing.T) {
	dir := os.Getenv("PBSFS_FIXTURES")
	if dir == "" {
		t.Skip("PBSFS_FIXTURES is not set: not tested on key files of a real client")
	}
	dir = filepath.Join(dir, "keys")
	passwords := map[string]string{}
	text, err := os.ReadFile(filepath.Join(dir, "passwords.json"))
	if err == nil {
		err = json.Unmarshal(text, &passwords)
	}
	if err != nil {
		t.Fatal(err)
	}
	for file, kdf := range map[string]string{"key-none.json": "none", "key-scrypt.json": "scrypt", "key-pbkdf2.json": "pbkdf2"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		f := parseFile(t, string(text))
		want, ok := f.Fingerprint()
		if !ok || f.KDF() != kdf {
			t.Errorf("%s: kdf %s, fingerprint %v, want %s and one", file, f.KDF(), ok, kdf)
		}
		raw, err := f.Open([]byte(passwords[file]))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if k, err := New(raw); err != nil || k.Fingerprint() != want {
			t.Errorf("%s: got key %v, %v, want fingerprint %s", file, k, err, want)
		}
		if f.NeedsPassphrase() {
			_, err = f.Open([]byte(passwords[file] + "x"))
			if !errors.Is(err, ErrPassphrase) {
				t.Errorf("%s with another passphrase: %v, want ErrPassphrase", file, err)
			}
		}
	}
}

func TestDamagedKeyFiles(t *testing.T) {
	scrypt := func(params string) string { return keyFile(`{"Scrypt":{`+params+`}}`, smallScryptData, "") }
	rounds := func(n string) string { return keyFile(`{"PBKDF2":{"iter":`+n+`,"salt":""}}`, smallPBKDF2Data, "") }
	salt := func(s string) string { return keyFile(`{"PBKDF2":{"iter":1,"salt":"`+s+`"}}`, smallPBKDF2Data, "") }
	plain := func(data string) string { return keyFile(`null`, data, "") }
	for name, text := range map[string]string{
		"empty":                    ``,
		"garbage":                  "\x00\x01garbage",
		"cut off":                  keyFile(`null`, countingData, "")[:60],
		"two":                      plain(countingData) + plain(countingData),
		"an array":                 `[]`,
		"null":                     `null`,
		"a number":                 `1`,
		"no data":                  `{"kdf":null}`,
		"data of another type":     plain(`5`),
		"too long":                 strings.Repeat(" ", MaxFile) + plain(countingData),
		"no base64":                plain(`"!!!!"`),
		"URL's base64":             plain(`"` + strings.Repeat("-_", 21) + `_"`),
		"31 bytes":                 plain(`"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="`),
		"33 bytes":                 plain(`"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"`),
		"sealed, but no kdf":       plain(smallScryptData),
		"plain, but a kdf":         keyFile(smallScrypt, countingData, ""),
		"kdf a string":             keyFile(`"Scrypt"`, smallScryptData, ""),
		"kdf false":                keyFile(`false`, countingData, ""),
		"kdf empty":                keyFile(`{}`, countingData, ""),
		"kdf of two":               keyFile(`{"Scrypt":{"n":16,"r":2,"p":3,"salt":""},"PBKDF2":{"iter":1,"salt":""}}`, smallScryptData, ""),
		"kdf not known":            keyFile(`{"Argon2":{}}`, smallScryptData, ""),
		"kdf as lists name it":     keyFile(`{"scrypt":{"n":16,"r":2,"p":3,"salt":""}}`, smallScryptData, ""),
		"kdf in another form":      keyFile(`{"type":"Scrypt"}`, smallScryptData, ""),
		"kdf parameters null":      keyFile(`{"Scrypt":null}`, smallScryptData, ""),
		"kdf parameters a list":    keyFile(`{"PBKDF2":[]}`, smallPBKDF2Data, ""),
		"scrypt n absent":          scrypt(`"r":2,"p":3,"salt":""`),
		"scrypt n 0":               scrypt(`"n":0,"r":2,"p":3,"salt":""`),
		"scrypt n 1":               scrypt(`"n":1,"r":2,"p":3,"salt":""`),
		"scrypt n no power of two": scrypt(`"n":65535,"r":8,"p":1,"salt":""`),
		"scrypt n negative":        scrypt(`"n":-16,"r":8,"p":1,"salt":""`),
		"scrypt n a fraction":      scrypt(`"n":16.5,"r":8,"p":1,"salt":""`),
		"scrypt n beyond 64 bits":  scrypt(`"n":18446744073709551616,"r":8,"p":1,"salt":""`),
		"scrypt r 0":               scrypt(`"n":16,"r":0,"p":3,"salt":""`),
		"scrypt p 0":               scrypt(`"n":16,"r":2,"p":0,"salt":""`),
		"scrypt of 2 GiB":          scrypt(`"n":2097152,"r":8,"p":1,"salt":""`),
		"scrypt, n huge":           scrypt(`"n":9223372036854775808,"r":1,"p":1,"salt":""`),
		"scrypt, product wraps":    scrypt(`"n":4294967296,"r":4294967296,"p":1,"salt":""`),
		"scrypt, product wraps 2":  scrypt(`"n":2,"r":9223372036854775808,"p":2,"salt":""`),
		"scrypt, all at the limit": scrypt(`"n":1073741824,"r":1073741824,"p":1073741824,"salt":""`),
		"scrypt, many times":       scrypt(`"n":16,"r":1,"p":1000000000,"salt":""`),
		"no rounds":                rounds(`0`),
		"rounds negative":          rounds(`-1`),
		"a round too many":         rounds(`10000001`),
		"rounds beyond all":        rounds(`18446744073709551615`),
		"salt no base64":           salt(`%`),
		"salt too long":            salt(strings.Repeat("AAAA", 342)),
		"salt of another type":     keyFile(`{"PBKDF2":{"iter":1,"salt":1}}`, smallPBKDF2Data, ""),
		"fingerprint too short":    keyFile(`null`, countingData, fingerprintMember(countingFingerprint[3:])),
		"fingerprint no hex":       keyFile(`null`, countingData, fingerprintMember("x"+countingFingerprint[1:])),
	} {
		start := time.Now()
		f, err := ParseFile([]byte(text))
		took := time.Since(start)
		if !errors.Is(err, ErrFile) || f != nil {
			t.Errorf("%s: got %v, %v, want ErrFile", name, f, err)
			continue
		}
		// Computing any of these would take minutes.
		if took > 5*time.Second {
			t.Errorf("%s: refused after %s, want at once", name, took)
		}
		if strings.Contains(err.Error(), "AAEC") || len(err.Error()) > 300 {
			t.Errorf("%s: the error repeats the file: %v", name, err)
		}
	}
}

func TestFingerprintOfFileMustBeItsKeys(t *testing.T) {
	other := "ba" + countingFingerprint[2:]
	for _, text := range []string{
		keyFile(`null`, countingData, fingerprintMember(other)),
		keyFile(smallScrypt, smallScryptData, fingerprintMember(other)),
	} {
		raw, err := parseFile(t, text).Open([]byte(smallPassphrase))
		if !errors.Is(err, ErrFile) || errors.Is(err, ErrPassphrase) || raw != [32]byte{} {
			t.Errorf("%s: opened as %x, %v, want ErrFile", text, raw, err)
		}
	}
}

func TestWrongPassphrases(t *testing.T) {
	hinted := parseFile(t, keyFile(smallScrypt, smallScryptData, `,"hint":"it is\u001b[2J small"`))
	for passphrase, hint := range map[string]bool{
		"": false, "a": false, "four": false, // shorter than any can be
		"five!": true, "small pas": true, "small pass ": true, "SMALL PASS": true,
	} {
		raw, err := hinted.Open([]byte(passphrase))
		if !errors.Is(err, ErrPassphrase) || errors.Is(err, ErrFile) || raw != [32]byte{} {
			t.Errorf("passphrase %q: opened as %x, %v, want ErrPassphrase", passphrase, raw, err)
			continue
		}
		if got := strings.Contains(err.Error(), `hint: "it is\x1b[2J small"`); got != hint {
			t.Errorf("passphrase %q: error %q, want the hint, as it can be printed: %v", passphrase, err, hint)
		}
		if passphrase != "" && passphrase != "a" && strings.Contains(err.Error(), passphrase) {
			t.Errorf("the error repeats the passphrase %q: %v", passphrase, err)
		}
	}
	// What was sealed is authenticated, all of it.
	text := keyFile(smallPBKDF2, smallPBKDF2Data, "")
	for i := range sealedLen {
		f := parseFile(t, text)
		data := bytes.Clone(f.data())
		data[i] ^= 1
		f.data = func() []byte { return data }
		if _, err := f.Open([]byte(smallPassphrase)); !errors.Is(err, ErrPassphrase) {
			t.Errorf("byte %d altered: %v, want ErrPassphrase", i, err)
		}
	}
}

func TestZeroFileFails(t *testing.T) {
	for _, f := range []*File{nil, {}} {
		if raw, err := f.Open([]byte(smallPassphrase)); err == nil {
			t.Errorf("zero File opened as %x", raw)
		}
	}
}

// printed returns v in every way that it may come to be printed.
func printed(t *testing.T, values ...any) (out []string) {
	t.Helper()
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%e", "%10.3v"} {
			out = append(out, fmt.Sprintf(verb, v))
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%T: %v", v, err)
		}
		out = append(out, fmt.Sprint(v), fmt.Errorf("x: %v", v).Error(), string(text))
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		out = append(out, log.String())
	}
	return out
}

// wantHidden fails the test when secret shows in what was printed, in any
// encoding.
func wantHidden(t *testing.T, what string, out []string, secret []byte) {
	t.Helper()
	part := secret[:min(len(secret), 6)] // in a row, no accident
	for _, encoding := range []string{"%x", "%X", "% x", "%d", "%#v", "%o", "%b", "%U", "%s", "%q"} {
		needle := strings.TrimPrefix(fmt.Sprintf(encoding, part), "[]byte{")
		needle = strings.Trim(needle, "[]{}")
		for _, s := range out {
			if strings.Contains(s, needle) {
				t.Errorf("%s shows in %q", what, s)
			}
		}
	}
}

func TestPrintingAFileShowsNoSecret(t *testing.T) {
	for _, text := range []string{
		keyFile(`null`, `"PkQ8NTE5RlpQUUFNZ2Rha3dxenB4Y3ZibmdodHlyZXc="`, ""), // printable, all of it
		keyFile(smallScrypt, smallScryptData, fingerprintMember(countingFingerprint)),
	} {
		f := parseFile(t, text)
		type holder struct {
			Public File
			hidden File
			ptr    *File
		}
		out := printed(t, f, *f, holder{*f, *f, f}, &holder{*f, *f, f}, []*File{f}, map[string]File{"x": *f})
		wantHidden(t, "data of the file", out, f.data())
		wantHidden(t, "data of the file", out, []byte(text[strings.Index(text, `"data":"`)+8:]))
		if got := fmt.Sprint(f); !strings.HasPrefix(got, "key file") {
			t.Errorf("printed as %q", got)
		}
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(keyFile(`null`, countingData, fingerprintMember(countingFingerprint))))
	f.Add([]byte(keyFile(smallScrypt, smallScryptData, `,"hint":"small"`)))
	f.Add([]byte(keyFile(smallPBKDF2, smallPBKDF2Data, "")))
	f.Add([]byte(keyFile(`{"Scrypt":{"n":1073741824,"r":1073741824,"p":1073741824,"salt":""}}`, smallScryptData, "")))
	f.Add([]byte(`{"kdf":{},"data":""}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := ParseFile(text)
		if err != nil {
			if !errors.Is(err, ErrFile) {
				t.Errorf("%q: %v is not ErrFile", text, err)
			}
			return
		}
		if cost(file) > 1<<20 {
			return // allowed, but not thousands of times
		}
		raw, err := file.Open([]byte(smallPassphrase))
		switch {
		case err != nil && !errors.Is(err, ErrFile) && !errors.Is(err, ErrPassphrase):
			t.Errorf("%q: %v is neither ErrFile nor ErrPassphrase", text, err)
		case err == nil:
			want, ok := file.Fingerprint()
			if k, err := New(raw); err != nil || ok && k.Fingerprint() != want {
				t.Errorf("%q: opened as %v, %v, the file says %s", text, k, err, want)
			}
		}
	})
}

// cost says about how much a file asks to be computed.
func cost(f *File) uint64 {
	switch k := f.kdf.(type) {
	case *scryptKDF:
		return k.N * k.R * k.P * scryptBlockBytes
	case *pbkdf2KDF:
		return k.rounds * 100
	}
	return 0
}
