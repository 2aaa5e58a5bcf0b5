package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The files in testdata were written by OpenSSL: one RSA key of 3072 bits in
// all forms, and what the key file of the counting key gives when it is wrapped
// with it.
const testdataPassphrase = "small"

func testdata(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func testMaster(t testing.TB) *Master {
	t.Helper()
	m, err := ParseMaster(testdata(t, "pkcs8.pem"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMasterKeysOpen(t *testing.T) {
	wrapped := testdata(t, "wrapped")
	for file, needs := range map[string]bool{
		"pkcs1.pem": false, "pkcs8.pem": false,
		"pbkdf2-sha256.pem": true, "pbkdf2-sha1.pem": true, "pbkdf2-sha512.pem": true, "scrypt.pem": true,
	} {
		text := testdata(t, file)
		if got := MasterNeedsPassphrase(text); got != needs {
			t.Errorf("%s: needs a passphrase: %v, want %v", file, got, needs)
		}
		for _, text := range [][]byte{text, append([]byte("a comment\n"), text...), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))} {
			m, err := ParseMaster(text, []byte(testdataPassphrase))
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			checkUnwraps(t, file, m, wrapped)
			der, err := m.DER()
			if err != nil {
				t.Errorf("%s: DER: %v", file, err)
				continue
			}
			again, err := ParseMasterDER(der)
			if err != nil {
				t.Errorf("%s: what DER gave: %v", file, err)
				continue
			}
			checkUnwraps(t, file+", handed over", again, wrapped)
		}
	}
}

func checkUnwraps(t *testing.T, what string, m *Master, wrapped []byte) {
	t.Helper()
	text, err := m.Unwrap(wrapped)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	f, err := ParseFile(text)
	if err != nil {
		t.Errorf("%s: unwrapped: %v", what, err)
		return
	}
	raw, err := f.Open(nil)
	if err != nil || !bytes.Equal(raw[:], unhex(t, countingKey)) || f.KDF() != "none" {
		t.Errorf("%s: unwrapped key %x, %v, kdf %s, want %s", what, raw, err, f.KDF(), countingKey)
	}
}

func TestWrongPassphraseOfMaster(t *testing.T) {
	for _, file := range []string{"pbkdf2-sha256.pem", "pbkdf2-sha1.pem", "pbkdf2-sha512.pem", "scrypt.pem"} {
		for _, passphrase := range []string{"", "Small", "small ", "smal"} {
			m, err := ParseMaster(testdata(t, file), []byte(passphrase))
			if !errors.Is(err, ErrPassphrase) || errors.Is(err, ErrFile) || m != nil {
				t.Errorf("%s, passphrase %q: %v, %v, want ErrPassphrase", file, passphrase, m, err)
			}
		}
	}
}

// block makes PEM text.
func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// encrypted is an encrypted private key of OpenSSL's, to be altered.
type encrypted struct {
	scheme, kdfMethod, cipher asn1.ObjectIdentifier
	iv                        []byte
	kdf                       any
	data                      []byte
}

// alter returns the PEM text of an encrypted key after a change.
func alter(t testing.TB, file string, change func(*encrypted)) string {
	t.Helper()
	b, _ := pem.Decode(testdata(t, file))
	var info encryptedKeyInfo
	var params pbes2Params
	var iv []byte
	mustDecode(t, b.Bytes, &info)
	mustDecode(t, info.Algorithm.Parameters.FullBytes, &params)
	mustDecode(t, params.Scheme.Parameters.FullBytes, &iv)
	e := &encrypted{
		scheme: info.Algorithm.Algorithm, kdfMethod: params.KDF.Algorithm, cipher: params.Scheme.Algorithm,
		iv: iv, data: info.Data,
	}
	if e.kdfMethod.String() == oidScrypt {
		var p scryptParams
		mustDecode(t, params.KDF.Parameters.FullBytes, &p)
		e.kdf = p
	} else {
		var p pbkdf2Params
		mustDecode(t, params.KDF.Parameters.FullBytes, &p)
		e.kdf = p
	}
	change(e)
	algorithm := func(id asn1.ObjectIdentifier, v any) pkix.AlgorithmIdentifier {
		return pkix.AlgorithmIdentifier{Algorithm: id, Parameters: asn1.RawValue{FullBytes: encode(t, v)}}
	}
	params = pbes2Params{KDF: algorithm(e.kdfMethod, e.kdf), Scheme: algorithm(e.cipher, e.iv)}
	return block(pemEncrypted, encode(t, encryptedKeyInfo{Algorithm: algorithm(e.scheme, params), Data: e.data}))
}

func mustDecode(t testing.TB, der []byte, v any) {
	t.Helper()
	if err := unmarshalAll(der, v); err != nil {
		t.Fatal(err)
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// rounds returns an encrypted key with another number of rounds.
func rounds(t testing.TB, n int64) string {
	t.Helper()
	return alter(t, "pbkdf2-sha256.pem", func(e *encrypted) {
		p := e.kdf.(pbkdf2Params)
		p.Rounds = n
		e.kdf = p
	})
}

// costs returns an encrypted key with other parameters of scrypt.
func costs(t testing.TB, n, r, p int64) string {
	t.Helper()
	return alter(t, "scrypt.pem", func(e *encrypted) {
		s := e.kdf.(scryptParams)
		s.N, s.R, s.P = n, r, p
		e.kdf = s
	})
}

// A file that was put together again opens, so that what is refused below is so
// for what was altered.
func TestAlterKeepsTheRest(t *testing.T) {
	for _, file := range []string{"pbkdf2-sha256.pem", "pbkdf2-sha1.pem", "pbkdf2-sha512.pem", "scrypt.pem"} {
		text := alter(t, file, func(*encrypted) {})
		m, err := ParseMaster([]byte(text), []byte(testdataPassphrase))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		checkUnwraps(t, file, m, testdata(t, "wrapped"))
	}
}

func TestDamagedMasterKeys(t *testing.T) {
	pkcs8, _ := pem.Decode(testdata(t, "pkcs8.pem"))
	change := func(fn func(*encrypted)) string { return alter(t, "pbkdf2-sha256.pem", fn) }
	for name, text := range map[string]string{
		"empty":                   "",
		"garbage":                 "\x00\xffgarbage",
		"a key file":              keyFile(`null`, countingData, ""),
		"too long":                string(testdata(t, "pkcs8.pem")) + strings.Repeat("\n", MaxFile),
		"not RSA":                 string(testdata(t, "ed25519.pem")),
		"a certificate":           block("CERTIFICATE", pkcs8.Bytes),
		"a type beyond all":       block(strings.Repeat("X", 10000), nil),
		"PKCS#8 cut off":          block(pemPKCS8, pkcs8.Bytes[:len(pkcs8.Bytes)-1]),
		"PKCS#8 empty":            block(pemPKCS8, nil),
		"PKCS#8 as PKCS#1":        block(pemPKCS1, pkcs8.Bytes),
		"PKCS#1 empty":            block(pemPKCS1, nil),
		"encrypted before PKCS#8": string(testdata(t, "legacy.pem")),
		"encrypted empty":         block(pemEncrypted, nil),
		"encrypted is not":        block(pemEncrypted, pkcs8.Bytes),
		"triple DES":              string(testdata(t, "des3.pem")),
		"no PBES2":                change(func(e *encrypted) { e.scheme = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 3} }),
		"unknown kdf":             change(func(e *encrypted) { e.kdfMethod = asn1.ObjectIdentifier{1, 2, 3} }),
		"PBKDF2 as scrypt":        change(func(e *encrypted) { e.kdfMethod = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11} }),
		"no IV":                   change(func(e *encrypted) { e.iv = nil }),
		"IV of 8 bytes":           change(func(e *encrypted) { e.iv = e.iv[:8] }),
		"IV of 17 bytes":          change(func(e *encrypted) { e.iv = append(e.iv, 0) }),
		"no data":                 change(func(e *encrypted) { e.data = nil }),
		"half a block":            change(func(e *encrypted) { e.data = e.data[:len(e.data)-8] }),
		"function not known":      change(withPRF(asn1.ObjectIdentifier{1, 2, 3})),
		"another key length":      change(func(e *encrypted) { p := e.kdf.(pbkdf2Params); p.KeyLen = 16; e.kdf = p }),
		"salt too long":           change(func(e *encrypted) { p := e.kdf.(pbkdf2Params); p.Salt = make([]byte, 2000); e.kdf = p }),
		"no rounds":               rounds(t, 0),
		"rounds negative":         rounds(t, -1),
		"a round too many":        rounds(t, maxPBKDF2Rounds+1),
		"rounds for years":        rounds(t, 1<<62),
		"scrypt of 4 GiB":         costs(t, 1<<22, 8, 1),
		"scrypt without n":        costs(t, 0, 8, 1),
		"scrypt negative":         costs(t, 16, -8, -1),
		"scrypt, product wraps":   costs(t, 1<<32, 1<<32, 1),
		"scrypt, many times":      costs(t, 16, 1, 1<<40),
		"numbers of 100,000 bits": hugeKey(t, 100_000),
	} {
		start := time.Now()
		m, err := ParseMaster([]byte(text), []byte(testdataPassphrase))
		took := time.Since(start)
		if !errors.Is(err, ErrFile) || errors.Is(err, ErrPassphrase) || m != nil {
			t.Errorf("%s: got %v, %v, want ErrFile", name, m, err)
			continue
		}
		if took > 5*time.Second {
			t.Errorf("%s: refused after %s, want at once", name, took)
		}
		if len(err.Error()) > 300 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
		if strings.HasPrefix(name, "numbers") && !strings.Contains(err.Error(), "longer than") {
			t.Errorf("%s: its numbers were looked at: %v", name, err)
		}
	}
}

func withPRF(id asn1.ObjectIdentifier) func(*encrypted) {
	return func(e *encrypted) {
		p := e.kdf.(pbkdf2Params)
		p.PRF.Algorithm = id
		e.kdf = p
	}
}

// hugeKey returns an RSA key whose numbers are beyond use, and whose check is
// work without end.
func hugeKey(t testing.TB, bits uint) string {
	t.Helper()
	odd := func(bits uint) *big.Int { return new(big.Int).SetBit(big.NewInt(1), int(bits-1), 1) }
	p, q := odd(bits/2), odd(bits/2+1)
	der := encode(t, struct {
		Version              int
		N                    *big.Int
		E                    int
		D, P, Q, Dp, Dq, Inv *big.Int
	}{0, new(big.Int).Mul(p, q), 65537, odd(bits - 2), p, q, odd(bits / 4), odd(bits / 4), odd(bits / 4)})
	return block(pemPKCS1, der)
}

// What is right in form but not encrypted with the passphrase may decrypt to
// anything; what decrypts to a key of another kind is no matter of it.
func TestEncryptedKeyThatIsNotRSA(t *testing.T) {
	inner, _ := pem.Decode(testdata(t, "ed25519.pem"))
	text := alter(t, "pbkdf2-sha256.pem", func(e *encrypted) { e.data = reencrypt(t, e, inner.Bytes) })
	m, err := ParseMaster([]byte(text), []byte(testdataPassphrase))
	if !errors.Is(err, ErrFile) || errors.Is(err, ErrPassphrase) || m != nil {
		t.Errorf("got %v, %v, want ErrFile", m, err)
	}
}

// reencrypt encrypts other data as the altered key was, of AES-256 and SHA-256.
func reencrypt(t testing.TB, e *encrypted, plain []byte) []byte {
	t.Helper()
	p := e.kdf.(pbkdf2Params)
	key, err := pbkdf2.Key(sha256.New, testdataPassphrase, p.Salt, int(p.Rounds), 32)
	if err != nil {
		t.Fatal(err)
	}
	c, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	out := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(c, e.iv).CryptBlocks(out, out)
	return out
}

func TestUnwrapRefuses(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := testdata(t, "wrapped")
	altered := bytes.Clone(wrapped)
	altered[10] ^= 1
	m := testMaster(t)
	for _, c := range []struct {
		name    string
		m       *Master
		wrapped []byte
	}{
		{"another key", newMaster(private), wrapped},
		{"altered", m, altered},
		{"cut off", m, wrapped[:len(wrapped)-1]},
		{"longer", m, append(bytes.Clone(wrapped), 0)},
		{"nothing", m, nil},
		{"a number beyond the modulus", m, bytes.Repeat([]byte{0xff}, len(wrapped))},
	} {
		text, err := c.m.Unwrap(c.wrapped)
		if !errors.Is(err, ErrUnwrap) || text != nil {
			t.Errorf("%s: got %q, %v, want ErrUnwrap", c.name, text, err)
		}
	}
	for _, m := range []*Master{nil, {}} {
		if text, err := m.Unwrap(wrapped); err == nil {
			t.Errorf("zero Master unwrapped %q", text)
		}
		if der, err := m.DER(); err == nil {
			t.Errorf("zero Master has %x", der)
		}
	}
}

func TestPrintingAMasterShowsNoSecret(t *testing.T) {
	m := testMaster(t)
	type holder struct {
		Public Master
		hidden Master
		ptr    *Master
	}
	out := printed(t, m, *m, holder{*m, *m, m}, &holder{*m, *m, m}, []*Master{m})
	key := m.private()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for what, secret := range map[string][]byte{
		"exponent": key.D.Bytes(), "prime": key.Primes[0].Bytes(), "encoded key": der,
		"exponent in decimal": []byte(key.D.String()),
	} {
		wantHidden(t, what, out, secret)
	}
	if got := m.String(); got != "master key" {
		t.Errorf("printed as %q", got)
	}
}

func FuzzMaster(f *testing.F) {
	// None of them has an RSA key inside: to check the numbers of one takes
	// a second when crypto/rsa is watched, as it is here.
	inner, _ := pem.Decode(testdata(f, "ed25519.pem"))
	small := alter(f, "pbkdf2-sha256.pem", func(e *encrypted) {
		p := e.kdf.(pbkdf2Params)
		p.Rounds = 1
		e.kdf = p
		e.data = reencrypt(f, e, inner.Bytes)
	})
	pkcs8, _ := pem.Decode(testdata(f, "pkcs8.pem"))
	for _, text := range []string{
		small, string(testdata(f, "ed25519.pem")), string(testdata(f, "des3.pem")), costs(f, 2, 1, 1),
		string(testdata(f, "legacy.pem")), block(pemPKCS1, pkcs8.Bytes[26:300]), block(pemPKCS8, pkcs8.Bytes[:300]),
	} {
		f.Add([]byte(text))
		b, _ := pem.Decode([]byte(text))
		f.Add(b.Bytes)
	}
	f.Add([]byte(rounds(f, 1<<40)))
	f.Fuzz(func(t *testing.T, text []byte) {
		// As PEM, and as what is inside, which no mutation of base64 finds.
		for _, text := range [][]byte{text, []byte(block(pemEncrypted, text)), []byte(block(pemPKCS1, text)), []byte(block(pemPKCS8, text))} {
			if masterCost(text) > 1<<20 {
				continue // allowed, but not thousands of times
			}
			m, err := ParseMaster(text, []byte(testdataPassphrase))
			if err != nil {
				if !errors.Is(err, ErrFile) && !errors.Is(err, ErrPassphrase) {
					t.Errorf("%q: %v is neither ErrFile nor ErrPassphrase", text, err)
				}
				continue
			}
			if der, err := m.DER(); err != nil || len(der) == 0 {
				t.Errorf("%q: cannot be handed over: %v", text, err)
			}
		}
	})
}

// masterCost says about how much an encrypted key asks to be computed, if it
// would not be refused for it.
func masterCost(text []byte) uint64 {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != pemEncrypted {
		return 0
	}
	var info encryptedKeyInfo
	var params pbes2Params
	if unmarshalAll(b.Bytes, &info) != nil || unmarshalAll(info.Algorithm.Parameters.FullBytes, &params) != nil {
		return 0
	}
	var p pbkdf2Params
	if unmarshalAll(params.KDF.Parameters.FullBytes, &p) == nil && checkRounds(uint64(max(p.Rounds, 0))) == nil {
		return uint64(p.Rounds) * 100
	}
	var s scryptParams
	if unmarshalAll(params.KDF.Parameters.FullBytes, &s) == nil &&
		checkScrypt(uint64(max(s.N, 0)), uint64(max(s.R, 0)), uint64(max(s.P, 0))) == nil {
		return uint64(s.N * s.R * s.P * scryptBlockBytes)
	}
	return 0
}
