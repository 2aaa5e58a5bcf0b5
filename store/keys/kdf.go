package keys

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"

	"golang.org/x/crypto/scrypt"
)

// Bounds of what a file may ask us to compute. The memory is what the
// official client allows itself; the times are beyond any sensible file.
const (
	maxSaltLen       = 1 << 10
	maxScryptMemory  = 1025 << 20
	maxPBKDF2Rounds  = 10_000_000
	derivedLen       = 32
	scryptBlockBytes = 128
)

// kdf derives a key from a passphrase.
type kdf interface {
	name() string
	derive(passphrase []byte) ([]byte, error)
}

type scryptKDF struct {
	N, R, P uint64
	salt    []byte
}

func (*scryptKDF) name() string { return "scrypt" }

func (k *scryptKDF) derive(passphrase []byte) ([]byte, error) {
	return scrypt.Key(passphrase, k.salt, int(k.N), int(k.R), int(k.P), derivedLen)
}

type pbkdf2KDF struct {
	rounds uint64
	salt   []byte
}

func (*pbkdf2KDF) name() string { return "pbkdf2" }

func (k *pbkdf2KDF) derive(passphrase []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, string(passphrase), k.salt, int(k.rounds), derivedLen)
}

// parseKDF reads the member "kdf": null, or an object with one member.
func parseKDF(text json.RawMessage) (kdf, error) {
	if len(text) == 0 || bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
		return nil, nil
	}
	var j map[string]json.RawMessage
	if err := json.Unmarshal(text, &j); err != nil || len(j) != 1 {
		return nil, damaged("kdf is no object with one member")
	}
	for name, params := range j {
		switch name {
		case "Scrypt":
			return parseScrypt(params)
		case "PBKDF2":
			return parsePBKDF2(params)
		}
	}
	return nil, damaged("unknown kdf")
}

func parseScrypt(text json.RawMessage) (kdf, error) {
	var j struct {
		N    uint64 `json:"n"`
		R    uint64 `json:"r"`
		P    uint64 `json:"p"`
		Salt string `json:"salt"`
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, damaged("parameters of scrypt")
	}
	salt, err := parseSalt(j.Salt)
	if err != nil {
		return nil, err
	}
	if err := checkScrypt(j.N, j.R, j.P); err != nil {
		return nil, err
	}
	return &scryptKDF{N: j.N, R: j.R, P: j.P, salt: salt}, nil
}

// checkScrypt complains of parameters that are none, or take too much.
func checkScrypt(n, r, p uint64) error {
	switch {
	case n < 2 || n&(n-1) != 0 || r == 0 || p == 0:
		return damaged("scrypt with n=%d, r=%d, p=%d is not possible", n, r, p)
	case n > maxScryptMemory || r > maxScryptMemory || p > maxScryptMemory,
		n*r > maxScryptMemory || n*r*p > maxScryptMemory/scryptBlockBytes:
		return damaged("scrypt with n=%d, r=%d, p=%d would take more than %d MiB", n, r, p, maxScryptMemory>>20)
	}
	return nil
}

// checkRounds complains of a number of rounds that is none, or takes too long.
func checkRounds(n uint64) error {
	if n == 0 || n > maxPBKDF2Rounds {
		return damaged("PBKDF2 with %d rounds; from 1 to %d are possible", n, maxPBKDF2Rounds)
	}
	return nil
}

func parsePBKDF2(text json.RawMessage) (kdf, error) {
	var j struct {
		Rounds uint64 `json:"iter"`
		Salt   string `json:"salt"`
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, damaged("parameters of PBKDF2")
	}
	salt, err := parseSalt(j.Salt)
	if err != nil {
		return nil, err
	}
	if err := checkRounds(j.Rounds); err != nil {
		return nil, err
	}
	return &pbkdf2KDF{rounds: j.Rounds, salt: salt}, nil
}

func parseSalt(text string) ([]byte, error) {
	salt, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(salt) > maxSaltLen {
		return nil, damaged("salt of the kdf")
	}
	return salt, nil
}
