package lvm

import (
	"fmt"
	"strconv"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// The text that describes a group consists of values ("name = 1", "name = "text"", "name =
// [a, b]") and sections ("name { ... }").

const (
	// maxDepth bounds sections within sections; real texts have four.
	maxDepth = 16
	// maxItems bounds the values and sections of a text.
	maxItems = 1 << 20
)

// section is a part of the text. The items of one name are not expected twice; the first
// counts.
type section struct {
	order    []string // the names of sections in it
	sections map[string]*section
	values   map[string]value
}

// value is a text, a number or a list of such.
type value struct {
	text   string
	number int64
	list   []value
}

// parser reads a text.
type parser struct {
	text  []byte
	at    int
	items int
}

// parseText reads a text as one section.
func parseText(text []byte) (*section, error) {
	p := &parser{text: text}
	top := newSection()
	stack := []*section{top}
	for {
		p.skip()
		if p.at == len(p.text) {
			break
		}
		if p.text[p.at] == '}' {
			p.at++
			if stack = stack[:len(stack)-1]; len(stack) == 0 {
				return nil, p.wrong("a section ends that has not begun")
			}
			continue
		}
		below, err := p.item(stack[len(stack)-1])
		if err != nil {
			return nil, err
		}
		if below == nil {
			continue
		}
		if stack = append(stack, below); len(stack) > maxDepth {
			return nil, p.wrong("sections are too deep")
		}
	}
	if len(stack) != 1 {
		return nil, p.wrong("a section does not end")
	}
	return top, nil
}

func newSection() *section {
	return &section{sections: make(map[string]*section), values: make(map[string]value)}
}

// wrong returns an error about the present place.
func (p *parser) wrong(format string, args ...any) error {
	return corrupt.New("text of a volume group: %s at byte %d", fmt.Sprintf(format, args...), p.at)
}

// item reads a value, or the beginning of a section, which it returns.
func (p *parser) item(in *section) (*section, error) {
	if p.items++; p.items > maxItems {
		return nil, p.wrong("too many items")
	}
	name := p.word()
	if name == "" {
		return nil, p.wrong("no name where one is expected")
	}
	p.skip()
	switch {
	case p.take('{'):
		below := newSection()
		if _, twice := in.sections[name]; !twice {
			in.sections[name] = below
			in.order = append(in.order, name)
		}
		return below, nil
	case p.take('='):
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		if _, twice := in.values[name]; !twice {
			in.values[name] = v
		}
		return nil, nil
	}
	return nil, p.wrong("%s is neither a value nor a section", name)
}

// value reads a value. Lists in lists do not occur.
func (p *parser) value() (value, error) {
	p.skip()
	if !p.take('[') {
		return p.scalar()
	}
	var v value
	for {
		p.skip()
		if p.take(']') {
			return v, nil
		}
		if p.take(',') {
			continue
		}
		if p.items++; p.items > maxItems {
			return v, p.wrong("too many items")
		}
		item, err := p.scalar()
		if err != nil {
			return v, err
		}
		v.list = append(v.list, item)
	}
}

func (p *parser) scalar() (value, error) {
	if p.take('"') {
		return p.quoted()
	}
	word := p.word()
	n, err := strconv.ParseInt(word, 10, 64)
	if err == nil {
		return value{number: n}, nil
	}
	if _, err := strconv.ParseFloat(word, 64); err == nil {
		return value{text: word}, nil
	}
	return value{}, p.wrong("%q is no value", word)
}

// quoted reads a text up to its closing quote.
func (p *parser) quoted() (value, error) {
	var out []byte
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == '"':
			return value{text: string(out)}, nil
		case c == '\\' && p.at < len(p.text):
			c = p.text[p.at]
			p.at++
		}
		out = append(out, c)
	}
	return value{}, p.wrong("a quoted text does not end")
}

// word reads a name or a number.
func (p *parser) word() string {
	begin := p.at
	for p.at < len(p.text) && isWord(p.text[p.at]) {
		p.at++
	}
	return string(p.text[begin:p.at])
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == '+'
}

// take reads one character, if it is the next.
func (p *parser) take(c byte) bool {
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

// skip skips white space and comments.
func (p *parser) skip() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case '#':
			for p.at < len(p.text) && p.text[p.at] != '\n' {
				p.at++
			}
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}
