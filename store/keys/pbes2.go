package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"hash"

	"golang.org/x/crypto/scrypt"
)

// Private keys that a passphrase protects are PKCS#8 with PBES2 (RFC 8018,
// section 6.2), which crypto/x509 does not open.

type encryptedKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2Params struct {
	KDF    pkix.AlgorithmIdentifier
	Scheme pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt   []byte
	Rounds int64
	KeyLen int64                    `asn1:"optional"`
	PRF    pkix.AlgorithmIdentifier `asn1:"optional"`
}

type scryptParams struct {
	Salt    []byte
	N, R, P int64
	KeyLen  int64 `asn1:"optional"`
}

// Object identifiers, as text: asn1.ObjectIdentifier cannot be a map's key.
const (
	oidPBES2  = "1.2.840.113549.1.5.13"
	oidPBKDF2 = "1.2.840.113549.1.5.12"
	oidScrypt = "1.3.6.1.4.1.11591.4.11"
)

// aesKeyLen maps the ciphers, AES-CBC, to the length of their keys.
var aesKeyLen = map[string]int{
	"2.16.840.1.101.3.4.1.2":  16,
	"2.16.840.1.101.3.4.1.22": 24,
	"2.16.840.1.101.3.4.1.42": 32,
}

// prfs are the functions that PBKDF2 can go by. None named is the first one.
var prfs = map[string]func() hash.Hash{
	"":                    sha1.New,
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

// openPBES2 decrypts a private key. What cannot be decrypted matches ErrFile;
// what comes out wrong matches ErrPassphrase.
func openPBES2(der, passphrase []byte) ([]byte, error) {
	var info encryptedKeyInfo
	if err := unmarshalAll(der, &info); err != nil {
		return nil, damaged("not an encrypted private key")
	}
	if got := info.Algorithm.Algorithm.String(); got != oidPBES2 {
		return nil, damaged("encrypted by method %s, want PBES2", got)
	}
	var params pbes2Params
	if err := unmarshalAll(info.Algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, damaged("parameters of PBES2")
	}
	var iv []byte
	keyLen, ok := aesKeyLen[params.Scheme.Algorithm.String()]
	if !ok {
		return nil, damaged("encrypted with cipher %s, want AES-CBC", params.Scheme.Algorithm)
	}
	if err := unmarshalAll(params.Scheme.Parameters.FullBytes, &iv); err != nil || len(iv) != aes.BlockSize {
		return nil, damaged("IV of the cipher")
	}
	if len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0 {
		return nil, damaged("%d encrypted bytes are no whole blocks", len(info.Data))
	}
	derived, err := derivePBES2(params.KDF, passphrase, keyLen)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(info.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, info.Data)
	return unpad(plain)
}

// derivePBES2 derives the key, after a look at how much work that is.
func derivePBES2(kdf pkix.AlgorithmIdentifier, passphrase []byte, keyLen int) ([]byte, error) {
	switch kdf.Algorithm.String() {
	case oidPBKDF2:
		var p pbkdf2Params
		if err := unmarshalAll(kdf.Parameters.FullBytes, &p); err != nil || len(p.Salt) > maxSaltLen || p.KeyLen != 0 && p.KeyLen != int64(keyLen) {
			return nil, damaged("parameters of PBKDF2")
		}
		if err := checkRounds(uint64(max(p.Rounds, 0))); err != nil {
			return nil, err
		}
		prf, ok := prfs[p.PRF.Algorithm.String()]
		if !ok {
			return nil, damaged("PBKDF2 with function %s, which is not known here", p.PRF.Algorithm)
		}
		return pbkdf2.Key(prf, string(passphrase), p.Salt, int(p.Rounds), keyLen)
	case oidScrypt:
		var p scryptParams
		if err := unmarshalAll(kdf.Parameters.FullBytes, &p); err != nil || len(p.Salt) > maxSaltLen || p.KeyLen != 0 && p.KeyLen != int64(keyLen) {
			return nil, damaged("parameters of scrypt")
		}
		if err := checkScrypt(uint64(max(p.N, 0)), uint64(max(p.R, 0)), uint64(max(p.P, 0))); err != nil {
			return nil, err
		}
		return scrypt.Key(passphrase, p.Salt, int(p.N), int(p.R), int(p.P), keyLen)
	}
	return nil, damaged("passphrase used by method %s, want PBKDF2 or scrypt", kdf.Algorithm)
}

// unpad takes away the padding (RFC 8018, section 6.1.1). A wrong passphrase
// shows there, or in that no private key begins with what it gave.
func unpad(plain []byte) ([]byte, error) {
	n := int(plain[len(plain)-1])
	if n == 0 || n > aes.BlockSize || !bytes.HasSuffix(plain, bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, ErrPassphrase
	}
	plain = plain[:len(plain)-n]
	var first asn1.RawValue
	if rest, err := asn1.Unmarshal(plain, &first); err != nil || len(rest) > 0 || first.Tag != asn1.TagSequence {
		return nil, ErrPassphrase
	}
	return plain, nil
}

// unmarshalAll decodes a value and nothing behind it.
func unmarshalAll(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		err = asn1.SyntaxError{Msg: "trailing data"}
	}
	return err
}
