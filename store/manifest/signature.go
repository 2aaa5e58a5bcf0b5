package manifest

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pbsfs/pbsfs/store/keys"
)

// SignatureState says what is known of a manifest's signature.
type SignatureState string

// The states of a signature.
const (
	Unsigned   SignatureState = "unsigned"   // there is none
	Unverified SignatureState = "unverified" // there is one, but no key
	Valid      SignatureState = "valid"
	Invalid    SignatureState = "invalid"
)

// CheckSignature compares the signature with the one that key makes. A nil key
// verifies nothing.
//
// Servers have signed two forms of one manifest: the JSON as it came, and, from
// 4.2 on, what their own structure keeps of it (reference "datastore-layout",
// section 6). For manifests of official clients both are the same text; either
// is taken.
func (m *Manifest) CheckSignature(key *keys.Key) SignatureState {
	switch {
	case m.Signature == "":
		return Unsigned
	case key == nil:
		return Unverified
	}
	want, err := hex.DecodeString(m.Signature)
	if err != nil {
		return Invalid
	}
	for _, form := range []func() ([]byte, error){m.canonical, m.canonicalKept} {
		text, err := form()
		if err != nil {
			continue
		}
		if got := key.Sign(text); hmac.Equal(got[:], want) {
			return Valid
		}
	}
	return Invalid
}

// canonical returns the canonical text of the manifest as it is stored, without
// what is not signed.
func (m *Manifest) canonical() ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(m.Raw))
	d.UseNumber()
	var all map[string]any
	if err := d.Decode(&all); err != nil {
		return nil, err
	}
	delete(all, "unprotected")
	delete(all, "signature")
	return appendCanonical(nil, all, 0)
}

// canonicalKept returns the canonical text of what this package keeps of a
// manifest: members it does not know are dropped, a missing crypt-mode is
// "none".
func (m *Manifest) canonicalKept() ([]byte, error) {
	if len(m.Problems) > 0 {
		return nil, errors.New("not all entries could be read")
	}
	return appendCanonical(nil, signedPart(m.Type, m.ID, m.Time, m.Files), 0)
}

// maxNesting bounds the depth of a manifest's JSON.
const maxNesting = 128

// appendCanonical writes a decoded value: members sorted by their bytes at
// every level, no white space, no null.
func appendCanonical(out []byte, v any, depth int) ([]byte, error) {
	if depth > maxNesting {
		return nil, errors.New("nested too deeply")
	}
	var err error
	switch v := v.(type) {
	case map[string]any:
		out = append(out, '{')
		for i, name := range sortedNames(v) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendString(out, name), ':')
			if out, err = appendCanonical(out, v[name], depth+1); err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	case []any:
		out = append(out, '[')
		for i, element := range v {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = appendCanonical(out, element, depth+1); err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	case string:
		return appendString(out, v), nil
	case json.Number:
		return append(out, v.String()...), nil
	case bool:
		return fmt.Append(out, v), nil
	}
	return nil, fmt.Errorf("a value of type %T has no canonical form", v)
}

// sortedNames returns the names of the members in the order of their bytes.
func sortedNames(members map[string]any) []string {
	return slices.Sorted(maps.Keys(members))
}

// shortEscapes are the control characters with an escape of their own.
var shortEscapes = map[byte]string{'\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}

// appendString writes a string as the server does: only what JSON demands is
// escaped. encoding/json would escape more.
func appendString(out []byte, s string) []byte {
	out = append(out, '"')
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20 && shortEscapes[c] != "":
			out = append(out, shortEscapes[c]...)
		case c < 0x20:
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}
