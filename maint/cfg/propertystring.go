package cfg

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pbsfs/pbsfs/maint/text"
)

// property is one item of a property string. The key of an item without "=" is
// empty: it is the value of the string's default key.
type property struct{ key, value string }

// parseProperties reads a property string, see reference
// "operations-and-maintenance", section 3.
func parseProperties(s string) ([]property, error) {
	var props []property
	for s != "" {
		var p property
		if i := strings.IndexAny(s, "=,"); i >= 0 && s[i] == '=' {
			p.key, s = s[:i], s[i+1:]
			if p.key == "" {
				return nil, errors.New("property without a key")
			}
		}
		var err error
		if p.value, s, err = nextValue(s); err != nil {
			return nil, err
		}
		props = append(props, p)
	}
	return props, nil
}

// nextValue cuts a value and the comma behind it off s.
func nextValue(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ",")
		return value, rest, nil
	}
	value, rest, err = unquote(s[1:])
	if err != nil || rest == "" {
		return value, "", err
	}
	rest, ok := strings.CutPrefix(rest, ",")
	if !ok {
		return "", "", errors.New("text after a quoted value")
	}
	return value, rest, nil
}

// unquote reads up to the closing quote; s begins after the opening one.
func unquote(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			i++
			if i == len(s) {
				return "", "", errors.New("backslash at the end")
			}
			c, ok := unescape(s[i])
			if !ok {
				return "", "", fmt.Errorf("unknown escape %q", s[i-1:i+1])
			}
			b.WriteByte(c)
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", errors.New("quoted value does not end")
}

func unescape(c byte) (byte, bool) {
	switch c {
	case '"', '\\':
		return c, true
	case 'n':
		return '\n', true
	}
	return 0, false
}

// quoteValue writes a value so that every PBS reads it back: an unquoted comma would
// end the value, and PBS trims the line.
func quoteValue(s string) string {
	if s != "" && !strings.ContainsAny(s, ",\"\\\n") && strings.TrimSpace(s) == s {
		return s
	}
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\n", `\n`).Replace(s) + `"`
}

// MaxMessage is PBS's limit, in characters, for the message as it is stored.
const MaxMessage = 64

// ErrBadMessage is found in the errors about a message that PBS would reject.
var ErrBadMessage = errors.New("bad maintenance message")

// storedMessage checks a message and returns it as datastore.cfg stores it, with
// percent signs escaped: PBS decodes them before it shows the message.
func storedMessage(message string) (string, error) {
	if !utf8.ValidString(message) {
		return "", fmt.Errorf("%w: not UTF-8", ErrBadMessage)
	}
	if strings.ContainsFunc(message, unicode.IsControl) {
		return "", fmt.Errorf("%w: control character", ErrBadMessage)
	}
	stored := strings.ReplaceAll(message, "%", "%25")
	if n := utf8.RuneCountInString(stored); n > MaxMessage {
		return "", fmt.Errorf("%w: %d characters, at most %d are allowed (%% counts as three)", ErrBadMessage, n, MaxMessage)
	}
	return stored, nil
}

// shownMessage is the reverse, for text from any writer: an invalid escape stays as it
// is, and control characters, which could move a cursor, are replaced.
func shownMessage(stored string) string {
	var b strings.Builder
	for i := 0; i < len(stored); i++ {
		if hi, lo := text.HexAt(stored, i+1), text.HexAt(stored, i+2); stored[i] == '%' && hi >= 0 && lo >= 0 {
			b.WriteByte(byte(hi<<4 | lo))
			i += 2
			continue
		}
		b.WriteByte(stored[i])
	}
	if s := b.String(); utf8.ValidString(s) {
		return text.Printable(s)
	}
	return text.Printable(strings.ToValidUTF8(stored, "\uFFFD"))
}

// parseMode reads the value of the property maintenance-mode. It never fails: a value
// that it cannot read is Unknown, which counts as offline.
func parseMode(value string) Mode {
	m, err := decodeMode(value)
	if err != nil {
		return Mode{Type: Unknown, Problem: fmt.Sprintf("maintenance-mode %q: %v", value, err), Stated: statedType(value)}
	}
	return m
}

func decodeMode(value string) (Mode, error) {
	props, err := parseProperties(value)
	if err != nil {
		return Mode{}, err
	}
	var m Mode
	seen := map[string]bool{}
	for _, p := range props {
		if p.key == "" {
			p.key = "type"
		}
		if seen[p.key] {
			return Mode{}, fmt.Errorf("%s is given twice", p.key)
		}
		seen[p.key] = true
		switch p.key {
		case "type":
			m.Type = ModeType(p.value)
		case "message":
			m.Message = shownMessage(p.value)
		default:
			return Mode{}, fmt.Errorf("unknown key %q", p.key)
		}
	}
	switch m.Type {
	case ReadOnly, Offline, Delete, Unmount, S3Refresh:
		return m, nil
	case None:
		return Mode{}, errors.New("no type")
	default:
		return Mode{}, fmt.Errorf("unknown type %q", string(m.Type))
	}
}

// statedType returns the type at the beginning of a value, even if the rest is wrong.
func statedType(value string) ModeType {
	first, _, _ := strings.Cut(value, ",")
	return ModeType(strings.TrimPrefix(first, "type="))
}

// ErrBadMode is found in errors about a text that is no maintenance mode.
var ErrBadMode = errors.New("not a maintenance mode")

// ParseMode reads a property string with which a client asks for a mode. The type is
// the value of the default key, as PBS wants it: "offline" or "offline,message=TEXT",
// not "type=offline".
func ParseMode(value string) (Mode, error) {
	props, err := parseProperties(value)
	if err == nil && len(props) > 0 && props[0].key == "type" {
		err = errors.New("type is the default key: it stands without its name")
	}
	var m Mode
	if err == nil {
		m, err = decodeMode(value)
	}
	if err != nil {
		return Mode{}, fmt.Errorf("%w: %q: %w; say %s or %s, perhaps with ,message=TEXT", ErrBadMode, value, err, ReadOnly, Offline)
	}
	return m, nil
}

// EncodeMode writes the value of the property maintenance-mode.
func EncodeMode(t ModeType, message string) (string, error) {
	stored, err := storedMessage(message)
	if err != nil {
		return "", err
	}
	if stored == "" {
		return string(t), nil
	}
	return string(t) + ",message=" + quoteValue(stored), nil
}
