package token

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ID is the name of a token: USER@REALM!NAME, as in Proxmox Backup Server. The zero ID
// names none.
type ID struct{ text string }

// ourUser is whose tokens those with a bare NAME are.
const ourUser = "pbsfs@pbsfs"

// The longest parts of an ID, in characters.
const (
	maxUser = 60
	maxName = 32
)

// ParseID parses USER@REALM!NAME. As in Proxmox Backup Server, a USER may contain @ and
// !, so its end is the last @.
func ParseID(text string) (ID, error) {
	if err := checkID(text); err != nil {
		return ID{}, fmt.Errorf("token %s: %w", quoteShort(text), err)
	}
	return ID{text}, nil
}

// ParseName parses an ID, or the bare NAME of a token of pbsfs@pbsfs.
func ParseName(text string) (ID, error) {
	if !strings.ContainsAny(text, "@!") {
		if err := checkName("NAME", text); err != nil {
			return ID{}, fmt.Errorf("token %s: %w", quoteShort(text), err)
		}
		text = ourUser + "!" + text
	}
	return ParseID(text)
}

// quoteShort makes text of others fit for an error message.
func quoteShort(text string) string {
	const enough = 150 // more than an ID of ASCII has
	if len(text) > enough {
		return fmt.Sprintf("%q…", text[:enough])
	}
	return fmt.Sprintf("%q", text)
}

func checkID(text string) error {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return errors.New("want NAME or USER@REALM!NAME")
	}
	realm, name, ok := strings.Cut(text[at+1:], "!")
	if !ok {
		return errors.New("want NAME or USER@REALM!NAME")
	}
	return errors.Join(checkUser(text[:at]), checkName("REALM", realm), checkName("NAME", name))
}

func checkUser(text string) error {
	if text == "" || !utf8.ValidString(text) || utf8.RuneCountInString(text) > maxUser {
		return fmt.Errorf("USER must be 1 to %d characters", maxUser)
	}
	for _, r := range text {
		if r == ':' || r == '/' || unicode.IsSpace(r) || unicode.IsControl(r) {
			return errors.New("USER must not have spaces, colons, slashes or control characters")
		}
	}
	return nil
}

func checkName(part, text string) error {
	if text == "" || len(text) > maxName {
		return fmt.Errorf("%s must be 1 to %d characters", part, maxName)
	}
	for i, r := range text {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_':
		case i > 0 && (r == '.' || r == '-'):
		default:
			return fmt.Errorf("%s must have only letters, digits, _ and, after the first, . and -", part)
		}
	}
	return nil
}

// String returns USER@REALM!NAME.
func (id ID) String() string { return id.text }

// MarshalText returns the ID as it is in the token file.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.text), nil }

// UnmarshalText is [ParseID].
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}
