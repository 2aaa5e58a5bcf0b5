package token

import (
	"errors"
	"log/slog"
	"strings"
)

// hidden stands for a secret wherever values are printed.
const hidden = "[hidden]"

// Secret is the secret of a token. It is printed as "[hidden]", also within other
// values; only [Secret.Text] returns it.
type Secret struct {
	// A pointer, because printing a value that has a Secret in an unexported field
	// calls no methods: fmt then shows what is in the fields.
	text *string
}

// maxSecret bounds the secrets that are looked at, in bytes. Ours are much shorter.
const maxSecret = 256

// Text returns the secret itself.
func (s Secret) Text() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String hides the secret.
func (s Secret) String() string { return hidden }

// GoString hides the secret.
func (s Secret) GoString() string { return hidden }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// Credential is what a client shows of a token: ID:SECRET. Printed, it hides the secret.
type Credential struct {
	ID     ID
	Secret Secret
}

// ParseCredential parses ID:SECRET. Its errors do not repeat the text.
func ParseCredential(text string) (Credential, error) {
	name, secret, ok := strings.Cut(text, ":") // no ID has a colon
	if !ok {
		return Credential{}, errors.New("credential: want USER@REALM!NAME:SECRET")
	}
	// The text may have been mixed up, so no part of it is shown.
	id, err := ParseID(name)
	if err != nil {
		return Credential{}, errors.New("credential: what is before the colon is no token; want USER@REALM!NAME")
	}
	if secret == "" || len(secret) > maxSecret {
		return Credential{}, errors.New("credential: what is after the colon is no secret")
	}
	return Credential{ID: id, Secret: Secret{&secret}}, nil
}

// Text returns ID:SECRET, to be shown to the owner of the token.
func (c Credential) Text() string { return c.ID.String() + ":" + c.Secret.Text() }

// String names the token and hides its secret.
func (c Credential) String() string { return c.ID.String() + ":" + hidden }

// GoString is String.
func (c Credential) GoString() string { return c.String() }

// LogValue is String.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }
