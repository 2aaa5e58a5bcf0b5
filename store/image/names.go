package image

import (
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Names are the names in a directory, as a decoder collects them.
type Names struct {
	entries []Entry
	at      map[string]int // position in entries
}

// ValidName reports whether a name from a disk can be that of a file.
func ValidName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// Add adds an entry. A name that cannot be shown, or comes twice, is an error.
func (n *Names) Add(e Entry) error {
	if !ValidName(e.Name) {
		return fmt.Errorf("name %q cannot be shown", e.Name)
	}
	if _, twice := n.at[e.Name]; twice {
		return fmt.Errorf("name %q comes twice", e.Name)
	}
	if n.at == nil {
		n.at = make(map[string]int)
	}
	n.at[e.Name] = len(n.entries)
	n.entries = append(n.entries, e)
	return nil
}

// Len returns how many names there are.
func (n *Names) Len() int { return len(n.entries) }

// Entries returns all entries. They must not be changed.
func (n *Names) Entries() []Entry { return n.entries }

// Lookup returns the entry with a name. If there is none, the answer is incomplete, the
// error that kept the directory from being read whole: the name may be where nothing could
// be read. Without such an error it is [fs.ErrNotExist].
func (n *Names) Lookup(name string, incomplete error) (Entry, error) {
	if i, ok := n.at[name]; ok {
		return n.entries[i], nil
	}
	if incomplete != nil {
		return Entry{}, incomplete
	}
	return Entry{}, fs.ErrNotExist
}

// DecodeUTF16 reads a name in UTF-16. Half of a pair is kept, in the form in which it would
// stand in UTF-8, so that two names stay two.
func DecodeUTF16(units []uint16) string {
	var out []byte
	for i := 0; i < len(units); i++ {
		u := rune(units[i])
		if !utf16.IsSurrogate(u) {
			out = utf8.AppendRune(out, u)
			continue
		}
		if i+1 < len(units) {
			if pair := utf16.DecodeRune(u, rune(units[i+1])); pair != utf8.RuneError {
				out = utf8.AppendRune(out, pair)
				i++
				continue
			}
		}
		out = append(out, 0xe0|byte(u>>12), 0x80|byte(u>>6)&0x3f, 0x80|byte(u)&0x3f)
	}
	return string(out)
}
