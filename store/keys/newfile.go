package keys

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// NewFile returns the text of a key file that holds a key, as the official client
// writes one without a passphrase (reference "encryption-keys", section 3).
// Whoever can read it can read what the key encrypts.
func NewFile(raw [32]byte, made time.Time) ([]byte, error) {
	k, err := New(raw)
	if err != nil {
		return nil, err
	}
	at := made.Format(time.RFC3339)
	text, err := json.MarshalIndent(struct {
		KDF         *string `json:"kdf"`
		Created     string  `json:"created"`
		Modified    string  `json:"modified"`
		Data        string  `json:"data"`
		Fingerprint string  `json:"fingerprint"`
	}{nil, at, at, base64.StdEncoding.EncodeToString(raw[:]), k.Fingerprint().String()}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return append(text, '\n'), nil
}
