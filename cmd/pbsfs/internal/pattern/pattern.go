package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxLength bounds a pattern, in bytes.
const maxLength = 4096

// Pattern is one rule. The zero Pattern matches nothing.
type Pattern struct {
	match   *regexp.Regexp
	include bool
	dirOnly bool
}

// Parse reads a pattern. include says what it does with the files that it matches, unless
// it begins with "!".
func Parse(text string, include bool) (Pattern, error) {
	p := Pattern{include: include}
	rest := text
	if after, ok := strings.CutPrefix(rest, "!"); ok {
		rest, p.include = after, !include
	}
	rest, anchored := strings.CutPrefix(rest, "/")
	rest, p.dirOnly = strings.CutSuffix(rest, "/")
	if err := check(rest); err != nil {
		return Pattern{}, fmt.Errorf("pattern %q: %w", text, err)
	}
	expr, err := translate(latin1(rest))
	if err != nil {
		return Pattern{}, fmt.Errorf("pattern %q: %w", text, err)
	}
	begin := `^(?:.*/)?`
	if anchored {
		begin = `^`
	}
	if p.match, err = regexp.Compile(`(?s)` + begin + expr + `$`); err != nil {
		return Pattern{}, fmt.Errorf("pattern %q: it is too complex", text)
	}
	return p, nil
}

func check(text string) error {
	switch {
	case text == "":
		return errors.New("there is no name in it")
	case len(text) > maxLength:
		return fmt.Errorf("longer than %d bytes", maxLength)
	case strings.Contains(text, "\x00"):
		return errors.New("names have no zero bytes")
	}
	return nil
}

// latin1 makes a character of each byte, because regular expressions are about text.
func latin1(s string) string {
	ascii := true
	for i := range len(s) {
		ascii = ascii && s[i] < 0x80
	}
	if ascii {
		return s
	}
	out := make([]rune, len(s))
	for i := range len(s) {
		out[i] = rune(s[i])
	}
	return string(out)
}

// translate makes a regular expression of a pattern.
func translate(text string) (string, error) {
	var b strings.Builder
	in := []rune(text)
	for i := 0; i < len(in); {
		n, err := token(&b, in, i)
		if err != nil {
			return "", err
		}
		i += n
	}
	return b.String(), nil
}

// token translates what begins at in[i], and returns how long that is.
func token(b *strings.Builder, in []rune, i int) (int, error) {
	switch in[i] {
	case '*':
		return stars(b, in, i), nil
	case '?':
		b.WriteString(`[^/]`)
	case '[':
		return set(b, in, i)
	case '\\':
		if i+1 == len(in) {
			return 0, errors.New(`a backslash at its end; "\\" is a backslash`)
		}
		b.WriteString(regexp.QuoteMeta(string(in[i+1])))
		return 2, nil
	default:
		b.WriteString(regexp.QuoteMeta(string(in[i])))
	}
	return 1, nil
}

// stars translates one star, or several.
func stars(b *strings.Builder, in []rune, i int) int {
	n := 1
	for i+n < len(in) && in[i+n] == '*' {
		n++
	}
	atName := i == 0 || in[i-1] == '/'
	switch {
	case n == 1:
		b.WriteString(`[^/]*`)
	case atName && i+n < len(in) && in[i+n] == '/': // no directory at all, too
		b.WriteString(`(?:.*/)?`)
		n++
	default:
		b.WriteString(`.*`)
	}
	return n
}

// set translates a set of bytes in brackets. Like "?" it never stands for a slash.
func set(b *strings.Builder, in []rune, i int) (int, error) {
	at := i + 1
	out := `[`
	if at < len(in) && (in[at] == '!' || in[at] == '^') {
		out = `[^/`
		at++
	}
	for first := at; ; first = -1 {
		c, next, err := member(in, at, at == first)
		if err != nil {
			return 0, err
		}
		if c == 0 {
			at = next
			break
		}
		at = next
		to := c
		if at+1 < len(in) && in[at] == '-' && in[at+1] != ']' {
			if to, at, err = member(in, at+1, true); err != nil {
				return 0, err
			}
			if to < c {
				return 0, fmt.Errorf("the range %c-%c is empty", c, to)
			}
		}
		out += span(c, to)
	}
	b.WriteString(out + `]`)
	return at - i, nil
}

// member returns the byte of a set that stands at in[at], and where the next one is; 0 for
// the end of the set, which a bracket that is the first member is not.
func member(in []rune, at int, first bool) (c rune, next int, err error) {
	switch {
	case at >= len(in):
		return 0, 0, errors.New(`"[" without "]"; "\[" is a bracket`)
	case in[at] == ']' && !first:
		return 0, at + 1, nil
	case in[at] == '/':
		return 0, 0, errors.New("a slash in brackets")
	case in[at] == '\\' && at+1 < len(in):
		return in[at+1], at + 2, nil
	}
	return in[at], at + 1, nil
}

// span is a range of bytes within the brackets of a regular expression. A range that has
// the slash in it is made of two without.
func span(from, to rune) string {
	if from < '/' && '/' < to {
		return span(from, '/'-1) + span('/'+1, to)
	}
	return fmt.Sprintf(`\x{%x}-\x{%x}`, from, to)
}
