package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/maint/text"
)

// liveEvery is how often a line that changes is shown on a terminal.
const liveEvery = 200 * time.Millisecond

// liveLine shows how far a command has come: in one line that changes on a terminal, in a
// line now and then elsewhere. It has a goroutine, for which end waits.
type liveLine struct {
	out      io.Writer
	terminal bool
	stop     chan struct{}
	done     sync.WaitGroup

	mu    sync.Mutex // guards shown, and the terminal
	shown bool       // the line is on the terminal
}

// liveLine begins to show what now returns, which is given the time since the begin.
func (a *app) liveLine(now func(time.Duration) string) *liveLine {
	l := &liveLine{out: a.stderr, stop: make(chan struct{})}
	every := plainEvery
	if raw := text.Raw(a.stderr); isTerminal(raw) {
		l.out, l.terminal, every = raw, true, liveEvery
	}
	l.done.Go(func() { l.run(every, now) })
	return l
}

func (l *liveLine) run(every time.Duration, now func(time.Duration) string) {
	begun := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.show(now(time.Since(begun)))
		case <-l.stop:
			return
		}
	}
}

func (l *liveLine) show(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.terminal {
		fmt.Fprintln(l.out, line)
		return
	}
	if width := terminalWidth(l.out); width > 0 {
		line = shortened(line, max(1, width-1)) // a line that wraps cannot be taken away
	}
	fmt.Fprintf(l.out, "\r\x1b[K%s", line)
	l.shown = true
}

// clear takes the line away until it is shown again, because something else is about to be
// printed.
func (l *liveLine) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown {
		fmt.Fprint(l.out, "\r\x1b[K")
		l.shown = false
	}
}

// end removes the line.
func (l *liveLine) end() {
	close(l.stop)
	l.done.Wait()
	l.clear()
}
