package cfg

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxConfig bounds how much of a datastore.cfg is read.
	MaxConfig = 16 << 20

	// SectionType is what sections for datastores begin with.
	SectionType = "datastore"
	modeKey     = "maintenance-mode"
)

// FileName is what the file is called, in whatever directory.
const FileName = "datastore.cfg"

// ErrNotConfigured says that a datastore is not listed in datastore.cfg.
var ErrNotConfigured = errors.New("not configured in datastore.cfg (first: pbsfs datastore add)")

// Config is the present content of a datastore.cfg: its lines, ends included, and their
// meaning. Parsing never fails. It is tolerant where PBS is strict, with one exception:
// a line that belongs to no section may concern any datastore, so the modes of all
// datastores are in doubt.
type Config struct {
	lines    []string
	Sections []section
	Problem  string // of the file as a whole, or ""
}

// section is one entry; lines are counted from 0.
type section struct {
	Kind, name string
	header     int
	last       int // line of the last property, or the header's
	props      []configProperty
}

type configProperty struct {
	key, value string
	line       int
}

// ParseConfig parses a datastore.cfg. Problem says what is wrong with it.
func ParseConfig(data []byte) *Config {
	c := &Config{}
	if len(data) > 0 {
		c.lines = strings.SplitAfter(string(data), "\n")
	}
	if n := len(c.lines); n > 0 && c.lines[n-1] == "" {
		c.lines = c.lines[:n-1]
	}
	inside := false
	for i, line := range c.lines {
		text := strings.TrimSpace(line)
		first, _ := utf8.DecodeRuneInString(line)
		switch {
		case text == "":
			inside = false
		case line[0] == '#':
			// PBS knows no comments, but a comment certainly sets no mode.
		case !unicode.IsSpace(first):
			inside = c.addSection(i, text)
		case !inside:
			c.doubt(i, "property outside of a section")
		default:
			s := &c.Sections[len(c.Sections)-1]
			key, value := cutSpace(text)
			s.props = append(s.props, configProperty{key, value, i})
			s.last = i
		}
	}
	return c
}

// addSection reads a header like "datastore: NAME".
func (c *Config) addSection(line int, text string) bool {
	kind, name, ok := strings.Cut(text, ":")
	name = strings.TrimSpace(name)
	if !ok || kind == "" || name == "" || strings.ContainsFunc(kind+name, unicode.IsSpace) {
		c.doubt(line, "neither a section nor a property")
		return false
	}
	c.Sections = append(c.Sections, section{Kind: kind, name: name, header: line, last: line})
	return true
}

func (c *Config) doubt(line int, what string) {
	if c.Problem == "" {
		c.Problem = fmt.Sprintf("line %d: %s", line+1, what)
	}
}

func cutSpace(s string) (key, value string) {
	i := strings.IndexFunc(s, unicode.IsSpace)
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

// Find returns the section of a datastore, nil if there is none. Two sections of one
// name are an error.
func (c *Config) Find(store string) (*section, error) {
	var found *section
	for i := range c.Sections {
		s := &c.Sections[i]
		if s.Kind != SectionType || s.name != store {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("line %d: datastore %s is there twice", s.header+1, store)
		}
		found = s
	}
	return found, nil
}

// Datastores returns the datastores that the file lists.
func (c *Config) Datastores(file string) (list []Datastore) {
	for _, s := range c.Sections {
		if s.Kind == SectionType {
			list = append(list, c.Datastore(s, file))
		}
	}
	return list
}

// get returns the value of a key. A key that occurs twice is an error.
func (s *section) get(key string) (value string, ok bool, err error) {
	for _, p := range s.props {
		if p.key != key {
			continue
		}
		if ok {
			return "", false, fmt.Errorf("line %d: %s is there twice", p.line+1, key)
		}
		value, ok = p.value, true
	}
	return value, ok, nil
}

// Property is a line of an entry.
type Property struct{ Key, Value string }

// Properties returns the lines of a section, in their order.
func (c *Config) Properties(s section) []Property {
	out := make([]Property, 0, len(s.props))
	for _, p := range s.props {
		out = append(out, Property{p.key, p.value})
	}
	return out
}

// Digest is the SHA-256 of a datastore.cfg: who has read the file and wants to change it
// says with it which state was read.
type Digest [sha256.Size]byte

// String returns the digest in hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest reads 64 hex digits.
func ParseDigest(s string) (d Digest, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) {
		return d, errors.New("not a digest: 64 hex digits are expected")
	}
	copy(d[:], b)
	return d, nil
}

// Digest returns the digest of the file.
func (c *Config) Digest() Digest { return sha256.Sum256(c.Bytes()) }

// Mode returns the maintenance mode of a datastore; none for a datastore that is not
// listed.
func (c *Config) Mode(store string) Mode {
	if c.Problem != "" {
		return Mode{Type: Unknown, Problem: c.Problem}
	}
	s, err := c.Find(store)
	if err != nil {
		return Mode{Type: Unknown, Problem: err.Error()}
	}
	if s == nil {
		return Mode{}
	}
	value, ok, err := s.get(modeKey)
	if err != nil {
		return Mode{Type: Unknown, Problem: err.Error()}
	}
	if !ok {
		return Mode{}
	}
	return parseMode(value)
}

// Bytes returns the file.
func (c *Config) Bytes() []byte { return []byte(strings.Join(c.lines, "")) }

// SetMode changes the one line that holds the mode of a datastore and returns
// the new file; an empty value removes it. Every other byte stays.
func (c *Config) SetMode(store, value string) ([]byte, error) {
	s, err := c.Find(store)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, fmt.Errorf("datastore %s: %w", store, ErrNotConfigured)
	}
	if _, _, err := s.get(modeKey); err != nil {
		return nil, err
	}
	out := c.edit(s, value)
	if err := sameButMode(c, ParseConfig(out), store, value); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Config) edit(s *section, value string) []byte {
	lines := append([]string(nil), c.lines...)
	for _, p := range s.props {
		if p.key == modeKey {
			lines[p.line] = replaceValue(lines[p.line], value)
			return []byte(strings.Join(lines, ""))
		}
	}
	if value == "" {
		return c.Bytes()
	}
	end := lineEnd(lines[s.header])
	if end == "" { // the header is the end of the file
		lines[s.header] += "\n"
	} else if lineEnd(lines[s.last]) == "" {
		lines[s.last] += end
		end = ""
	}
	lines[s.last] += "\t" + modeKey + " " + value + end
	return []byte(strings.Join(lines, ""))
}

// replaceValue gives the property in a line another value, or removes the line.
func replaceValue(line, value string) string {
	if value == "" {
		return ""
	}
	end := lineEnd(line)
	i := strings.Index(line, modeKey) + len(modeKey)
	gap := len(line[i:]) - len(strings.TrimLeftFunc(line[i:], unicode.IsSpace))
	space := strings.TrimRight(line[i:i+gap], "\r\n")
	if space == "" {
		space = " "
	}
	return line[:i] + space + value + end
}

func lineEnd(line string) string {
	switch {
	case strings.HasSuffix(line, "\r\n"):
		return "\r\n"
	case strings.HasSuffix(line, "\n"):
		return "\n"
	}
	return ""
}

// sameButMode checks that an edit changed the mode and nothing else, before the result
// is written.
func sameButMode(old, now *Config, store, value string) error {
	want := Mode{}
	if value != "" {
		want = parseMode(value)
	}
	if got := now.Mode(store); got != want && now.Problem == "" {
		return fmt.Errorf("datastore %s: edited file would say mode %q", store, got.Type)
	}
	a, b := old.without(store), now.without(store)
	if !bytes.Equal(a, b) {
		return fmt.Errorf("datastore %s: edit would change other lines", store)
	}
	return nil
}

// without returns the file without the datastore's mode, and with a newline at its end.
func (c *Config) without(store string) []byte {
	var b bytes.Buffer
	skip := -1
	if s, _ := c.Find(store); s != nil {
		for _, p := range s.props {
			if p.key == modeKey {
				skip = p.line
			}
		}
	}
	for i, line := range c.lines {
		if i != skip {
			b.WriteString(strings.TrimRight(line, "\r\n"))
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}
