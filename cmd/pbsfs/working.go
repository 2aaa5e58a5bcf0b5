package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/pbsfs/pbsfs/maint/text"
)

// working shows that a command goes through many entries: how many it has seen, and where
// it is. On a terminal that is a line which is written over; elsewhere it is one now and
// then. It is safe for concurrent use.
type working struct {
	out io.Writer

	mu    sync.Mutex // guards what follows
	bar   *progressbar.ProgressBar
	where string
	seen  int64
	shown time.Time
}

// newWorking returns progress on out. The caller must end it.
func newWorking(out io.Writer) *working {
	w := &working{out: out, shown: time.Now()}
	if raw := text.Raw(out); isTerminal(raw) {
		w.bar = progressbar.NewOptions64(-1, progressbar.OptionSetWriter(raw), progressbar.OptionClearOnFinish(),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSpinnerType(14))
	}
	return w
}

// at says where the command is.
func (w *working) at(where string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.where = text.Printable(where)
}

// add counts entries.
func (w *working) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen += int64(n)
	every := plainEvery
	if w.bar != nil {
		every = 100 * time.Millisecond
	}
	if time.Since(w.shown) < every {
		return
	}
	w.shown = time.Now()
	line := fmt.Sprintf("%s: %d entries", w.where, w.seen)
	if w.bar == nil {
		fmt.Fprintln(w.out, line)
		return
	}
	w.bar.Describe(line)
	_ = w.bar.Add(n)
}

// clear takes the line away, because something else is about to be printed.
func (w *working) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bar != nil {
		_ = w.bar.Clear()
	}
}
