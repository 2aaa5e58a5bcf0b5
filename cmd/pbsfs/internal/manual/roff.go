package manual

import (
	"fmt"
	"strings"
)

// roff collects the source of a page.
type roff struct{ strings.Builder }

// escaper makes characters of text stand for themselves.
var escaper = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// escaped returns text as roff that shows it.
func escaped(text string) string { return escaper.Replace(text) }

// line writes a line of text, which is never taken for a request.
func (r *roff) line(text string) {
	out := escaped(text)
	if strings.HasPrefix(out, ".") {
		out = `\&` + out
	}
	fmt.Fprintln(r, out)
}

// macro writes a macro, with arguments that are roff already.
func (r *roff) macro(name string, args ...string) {
	fmt.Fprint(r, ".", name)
	for _, arg := range args {
		fmt.Fprintf(r, ` "%s"`, strings.ReplaceAll(arg, `"`, `\(dq`))
	}
	fmt.Fprintln(r)
}

// text writes paragraphs. Lines that are indented stay lines.
func (r *roff) text(text string) {
	kept, paragraph := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		indented := strings.HasPrefix(line, "  ")
		if kept && !indented && line != "" {
			r.macro("fi")
			r.macro("RE")
			kept, paragraph = false, true
		}
		switch {
		case line == "":
			paragraph = true
			continue
		case paragraph && !kept:
			r.macro("PP")
		case paragraph:
			r.macro("sp")
		}
		if indented && !kept {
			r.macro("RS", "4")
			r.macro("nf")
			kept = true
		}
		paragraph = false
		if kept {
			line = strings.TrimPrefix(line, "  ")
		}
		r.line(line)
	}
	if kept {
		r.macro("fi")
		r.macro("RE")
	}
}
