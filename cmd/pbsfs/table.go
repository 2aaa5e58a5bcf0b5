package main

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/pbsfs/pbsfs/maint/text"
)

// leastColumn is how narrow a column of a table becomes at most.
const leastColumn = 8

// table is rows of cells, printed in columns that are as wide as they must be. On a terminal
// that is narrower, long cells lose their middle, so that each row stays one line; what goes
// anywhere else is whole.
type table struct {
	rows  [][]string
	width int // of the terminal; 0 if there is none
}

// table begins a table for the standard output.
func (a *app) table() *table { return &table{width: terminalWidth(text.Raw(a.stdout))} }

// terminalWidth returns how many characters a line of a terminal has, or 0 for what is none.
func terminalWidth(stream any) int {
	f, ok := stream.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// row adds a row. Cells hold no line breaks.
func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the table.
func (t *table) print(w io.Writer) error {
	widths := t.widths()
	var b strings.Builder
	for _, cells := range t.rows {
		var line strings.Builder
		for i, c := range cells {
			c = shortened(c, widths[i])
			line.WriteString(c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// widths returns how wide each column is.
func (t *table) widths() []int {
	var out []int
	all := -2
	for _, cells := range t.rows {
		for i, c := range cells {
			if i == len(out) {
				out, all = append(out, 0), all+2
			}
			if n := utf8.RuneCountInString(c); n > out[i] {
				out[i], all = n, all+n-out[i]
			}
		}
	}
	for ; t.width > 0 && all > t.width; all-- {
		widest := 0
		for i, n := range out {
			if n >= out[widest] {
				widest = i
			}
		}
		if out[widest] <= leastColumn {
			break
		}
		out[widest]--
	}
	return out
}

// shortened returns text of at most that many characters. Names differ at their ends.
func shortened(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	head := (width - 1) / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(width-1-head):])
}
