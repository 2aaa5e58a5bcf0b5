package text

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Printable returns s as one line. It writes characters that are not printable as Go
// does in a string; printable text stays as it is.
func Printable(s string) string { return escape(s, "") }

func escape(s, kept string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !shown(r, kept) }) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case shown(r, kept):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += n
	}
	return b.String()
}

// shown reports whether a rune is printed: it is in kept, or it is a printable
// character or a space. A byte that is not valid UTF-8 comes as utf8.RuneError.
func shown(r rune, kept string) bool {
	return r != utf8.RuneError && (unicode.IsPrint(r) || r == '\u00a0') || strings.ContainsRune(kept, r) && r != utf8.RuneError
}

// JSON escapes the unprintable characters in a JSON text, within its strings.
func JSON(data []byte) []byte {
	if !bytes.ContainsFunc(data, func(r rune) bool { return !shown(r, "\n\ufffd") && r != utf8.RuneError }) {
		return data
	}
	var b bytes.Buffer
	for _, r := range string(data) {
		switch {
		case shown(r, "\n") || r == utf8.RuneError:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return b.Bytes()
}

// Writer passes text on to a terminal or to a file that people read. Lines and tabs
// stay as they are; all other unprintable characters are escaped.
type Writer struct {
	to   io.Writer
	mu   sync.Mutex // held while writing, so that lines stay whole
	rest []byte     // the beginning of a rune
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{to: w} }

// Raw returns what w writes to if it is a Writer, else w itself.
func Raw(w io.Writer) io.Writer {
	if t, ok := w.(*Writer); ok {
		return t.to
	}
	return w
}

// Write passes p on. The bytes of an incomplete rune at its end wait for the next call.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data := append(w.rest, p...)
	w.rest = nil
	if n := incomplete(data); n > 0 {
		w.rest = bytes.Clone(data[len(data)-n:])
		data = data[:len(data)-n]
	}
	if _, err := io.WriteString(w.to, escape(string(data), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// incomplete returns how many bytes at the end belong to an incomplete rune.
func incomplete(data []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		c := data[len(data)-n]
		if c < utf8.RuneSelf {
			return 0
		}
		if utf8.RuneStart(c) {
			if utf8.FullRune(data[len(data)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}
