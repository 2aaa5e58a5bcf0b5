package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/pbsfs/pbsfs/maint/text"
)

// plainEvery is how often progress is shown without a terminal.
const plainEvery = 10 * time.Second

// progress shows how much of a source has been read: as a bar on a terminal, as a line
// now and then elsewhere. Its methods must not be called concurrently.
type progress struct {
	out      io.Writer
	terminal bool

	bar          *progressbar.ProgressBar // nil between sources, and without a terminal
	label        string
	files, bytes int64
	begun, shown time.Time
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, terminal: isTerminal(text.Raw(out))}
	if p.terminal {
		p.out = text.Raw(out) // the bar moves the cursor
	}
	return p
}

// needsTotal reports whether begin needs the size of the source.
func (p *progress) needsTotal() bool { return p.terminal }

// begin begins a source of total bytes; -1 if that is not known.
func (p *progress) begin(label string, total int64) {
	p.label, p.files, p.bytes = text.Printable(label), 0, 0
	p.begun = time.Now()
	p.shown = p.begun
	if !p.terminal {
		return
	}
	if total == 0 {
		total = 1
	}
	p.bar = progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(p.out), progressbar.OptionShowBytes(true), progressbar.OptionShowCount(),
		progressbar.OptionSetDescription(label), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(20),
		progressbar.OptionUseIECUnits(true))
}

// add counts further files and bytes that were read.
func (p *progress) add(files, bytes int64) {
	p.files += files
	p.bytes += bytes
	switch {
	case p.bar != nil:
		if now := time.Now(); p.files > 0 && now.Sub(p.shown) > 100*time.Millisecond {
			p.shown = now
			p.bar.Describe(p.label + ", " + p.fileCount())
		}
		// There is more than was counted before, because files grow.
		if total := p.bar.GetMax64(); total > 0 && p.bytes >= total {
			p.bar.ChangeMax64(p.bytes + 1)
		}
		_ = p.bar.Add64(bytes)
	case !p.terminal && time.Since(p.shown) > plainEvery:
		p.shown = time.Now()
		fmt.Fprintln(p.out, p.summary(""))
	}
}

// line shows a line above the bar.
func (p *progress) line(text string) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintln(p.out, text)
}

// end ends a source and returns a summary line.
func (p *progress) end(path string) string {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
	return p.summary(path)
}

// fileCount returns the number of files that were read. Everything with a name counts
// as a file.
func (p *progress) fileCount() string {
	if p.files == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", p.files)
}

func (p *progress) summary(path string) string {
	s := p.label + ": "
	if path != "" {
		s += path + ", "
	}
	if p.files > 0 {
		s += p.fileCount() + ", "
	}
	s += sizeText(p.bytes)
	if d := time.Since(p.begun); d > time.Second {
		s += fmt.Sprintf(", %s/s", sizeText(int64(float64(p.bytes)/d.Seconds())))
	}
	return s
}
