package token

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Token is what is known of a token. It has no secret.
type Token struct {
	ID      ID
	Role    Role
	Created time.Time
}

// entry is a token in the file.
type entry struct {
	ID      ID        `json:"id"`
	Role    Role      `json:"role"`
	Created time.Time `json:"created"`
	Salt    []byte    `json:"salt"`
	Hash    []byte    `json:"sha256"` // of salt and secret
}

// saltSize is the length of a salt in bytes.
const saltSize = 16

// content is the token file.
type content struct {
	Tokens []entry `json:"tokens"`
}

// newEntry makes a token and its secret.
func newEntry(id ID, role Role) (entry, Credential) {
	secret := rand.Text()
	salt := make([]byte, saltSize)
	rand.Read(salt)
	e := entry{ID: id, Role: role, Created: time.Now().UTC(), Salt: salt}
	e.Hash = e.hash(secret)
	return e, Credential{ID: id, Secret: Secret{&secret}}
}

// hash returns what the file would have of a secret.
func (e *entry) hash(secret string) []byte {
	h := sha256.New()
	h.Write(e.Salt)
	h.Write([]byte(secret))
	return h.Sum(nil)
}

// has reports whether a secret is that of the token, in a time that does not depend on
// how much of it is right.
func (e *entry) has(s Secret) bool {
	return subtle.ConstantTimeCompare(e.hash(s.Text()), e.Hash) == 1
}

func (e *entry) token() Token { return Token{ID: e.ID, Role: e.Role, Created: e.Created} }

// parse reads a token file.
func parse(text []byte) (content, error) {
	var c content
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return content{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return content{}, errors.New("something stands after the end")
	}
	seen := make(map[ID]bool, len(c.Tokens))
	for i := range c.Tokens {
		e := &c.Tokens[i]
		if err := e.check(); err != nil {
			return content{}, fmt.Errorf("entry %d: %w", i+1, err)
		}
		if seen[e.ID] {
			return content{}, fmt.Errorf("token %s is there twice", e.ID)
		}
		seen[e.ID] = true
	}
	return c, nil
}

// check finds what is missing. The values themselves were checked when they were parsed.
func (e *entry) check() error {
	switch {
	case e.ID == ID{}:
		return errors.New("it has no id")
	case e.Role == 0:
		return fmt.Errorf("token %s has no role", e.ID)
	case len(e.Salt) != saltSize || len(e.Hash) != sha256.Size:
		return fmt.Errorf("token %s: salt of %d and hash of %d bytes, want %d and %d", e.ID, len(e.Salt), len(e.Hash), saltSize, sha256.Size)
	}
	return nil
}

// find returns the entry of a token, nil if there is none.
func (c *content) find(id ID) *entry {
	for i := range c.Tokens {
		if c.Tokens[i].ID == id {
			return &c.Tokens[i]
		}
	}
	return nil
}

// text is the inverse of parse.
func (c *content) text() ([]byte, error) {
	out, err := json.MarshalIndent(c, "", "  ")
	return append(out, '\n'), err
}
