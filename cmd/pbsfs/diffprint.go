package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/compare"
	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store/tree"
)

// maxRanges is how many ranges of an image are shown to people. JSON has all.
const maxRanges = 8

// diffPrinter prints the lines of a diff.
type diffPrinter struct {
	*app
	*diffOptions
	*compared
	ctx    context.Context
	out    *bufio.Writer
	show   func(string) string
	busy   *working
	unread unread
	count  int
	totals diffTotals
}

// diffTotals is what --stat prints. Bytes are those of regular files, of what has changed
// in its new size, of images of the ranges that differ.
type diffTotals struct {
	Added        int   `json:"added"`
	Removed      int   `json:"removed"`
	Changed      int   `json:"changed"`
	Moved        int   `json:"moved"`
	AddedBytes   int64 `json:"added_bytes"`
	RemovedBytes int64 `json:"removed_bytes"`
	ChangedBytes int64 `json:"changed_bytes"`
}

// print prints a change.
func (p *diffPrinter) print(c compare.Change) error {
	p.count++
	p.busy.clear()
	switch {
	case p.stat:
		p.add(c)
		return nil
	case p.asJSON:
		v, err := p.object(c)
		if err != nil {
			return err
		}
		if err := p.out.Flush(); err != nil {
			return err
		}
		return p.json(v)
	}
	if _, err := fmt.Fprintln(p.out, p.line(c)); err != nil {
		return err
	}
	if !p.content {
		return nil
	}
	lines, err := p.lines(c)
	if err != nil || lines == "" {
		return err
	}
	var w io.Writer = p.out
	if isTerminal(p.stdout) {
		w = text.NewWriter(p.out)
	}
	_, err = io.WriteString(w, lines)
	return err
}

// add counts a change.
func (p *diffPrinter) add(c compare.Change) {
	t := &p.totals
	switch c.Kind {
	case compare.Added:
		t.Added++
		t.AddedBytes += fileSize(c.New)
	case compare.Removed:
		t.Removed++
		t.RemovedBytes += fileSize(c.Old)
	case compare.Moved:
		t.Moved++
	case compare.Changed:
		t.Changed++
		switch {
		case c.Ranges != nil:
			t.ChangedBytes += c.Ranges.Total()
		case c.What[0].What == compare.Content:
			t.ChangedBytes += fileSize(c.New)
		}
	}
}

func fileSize(n *tree.Node) int64 {
	if n.Type() != unix.S_IFREG {
		return 0
	}
	return n.Attr().Size
}

// total prints what --stat does.
func (p *diffPrinter) total() error {
	t := p.totals
	if p.asJSON {
		return p.json(t)
	}
	_, err := fmt.Fprintf(p.out, "%d added (%s), %d removed (%s), %d changed (%s), %d moved\n",
		t.Added, sizeText(t.AddedBytes), t.Removed, sizeText(t.RemovedBytes), t.Changed, sizeText(t.ChangedBytes), t.Moved)
	return err
}

// path returns how a path is shown: below what was given on the command line, or, for
// that itself, by its name.
func (p *diffPrinter) path(rel string) string {
	if full := join(p.below, rel); full != "" {
		return full
	}
	return path.Base(p.fromB)
}

// line returns the line of a change.
func (p *diffPrinter) line(c compare.Change) string {
	name := p.show(p.path(c.Path))
	if n := c.New; n != nil && n.IsDir() || n == nil && c.Old.IsDir() {
		name += "/"
	}
	switch c.Kind {
	case compare.Moved:
		return fmt.Sprintf("R %s -> %s", p.show(p.path(c.From)), name)
	case compare.Changed:
		return fmt.Sprintf("M %s (%s)", name, p.what(c))
	case compare.Added, compare.Removed:
	}
	return fmt.Sprintf("%c %s", c.Kind, name)
}

// what says in what a file has changed.
func (p *diffPrinter) what(c compare.Change) string {
	var all []string
	for _, d := range c.What {
		s := d.Text(p.show)
		if d.What == compare.Content && c.Ranges != nil {
			s += ": " + rangesText(c.Ranges)
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

func rangesText(r *compare.Ranges) string {
	n := len(r.Differ)
	out := fmt.Sprintf("%d ranges, %s:", n, sizeText(r.Total()))
	if n == 1 {
		out = fmt.Sprintf("1 range, %s:", sizeText(r.Total()))
	}
	for i, d := range r.Differ {
		if i == maxRanges {
			return out + fmt.Sprintf(" and %d more", n-i)
		}
		out += fmt.Sprintf(" %#x-%#x", d.Offset, d.Offset+d.Length)
	}
	return out
}

// lines returns the lines in which the two states of a text file differ.
func (p *diffPrinter) lines(c compare.Change) (string, error) {
	if c.Kind != compare.Changed || c.What[0].What != compare.Content || c.Ranges != nil {
		return "", nil
	}
	old, is := "a/"+p.path(c.Path), "b/"+p.path(c.Path)
	out, err := compare.Unified(p.ctx, compare.Side{Right: p.a.Right, Node: c.Old}, compare.Side{Right: p.b.Right, Node: c.New}, old, is)
	switch {
	case errors.Is(err, compare.ErrBinary), errors.Is(err, compare.ErrTooLarge):
		return err.Error() + "\n", nil
	case err != nil:
		p.unread.add(join(p.fromB, c.Path), err)
		return "", nil
	}
	return out, nil
}

// stateJSON describes one state of a file.
type stateJSON struct {
	Type   string `json:"type"`
	Size   *int64 `json:"size,omitempty"`
	Mode   string `json:"mode"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Mtime  string `json:"mtime"`
	Target string `json:"target,omitempty"`
}

func stateOf(n *tree.Node) *stateJSON {
	if n == nil {
		return nil
	}
	attr := n.Attr()
	s := &stateJSON{
		Type: compare.TypeName(n.Type()), Mode: fmt.Sprintf("%04o", attr.Mode&0o7777),
		UID: attr.UID, GID: attr.GID, Mtime: compare.Stamp(attr.Mtime), Target: n.Target(),
	}
	if n.Type() == unix.S_IFREG {
		s.Size = &attr.Size
	}
	return s
}

// changeJSON is a line of diff --json.
type changeJSON struct {
	Change string           `json:"change"`
	Path   string           `json:"path"`
	From   string           `json:"from,omitempty"`
	What   []compare.Detail `json:"what,omitempty"`
	Old    *stateJSON       `json:"old,omitempty"`
	New    *stateJSON       `json:"new,omitempty"`
	Ranges []compare.Range  `json:"ranges,omitempty"`
	Unread []compare.Range  `json:"unread,omitempty"`
	Lines  string           `json:"lines,omitempty"`
}

func (p *diffPrinter) object(c compare.Change) (*changeJSON, error) {
	v := &changeJSON{Change: c.Kind.String(), Path: p.path(c.Path), What: c.What, Old: stateOf(c.Old), New: stateOf(c.New)}
	if c.Kind == compare.Moved {
		v.From = p.path(c.From)
	}
	if c.Ranges != nil {
		v.Ranges, v.Unread = c.Ranges.Differ, c.Ranges.Unread
	}
	var err error
	if p.content {
		v.Lines, err = p.lines(c)
	}
	return v, err
}
