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
	stop chan struct{}
	done sync.WaitGroup
}

// liveLine begins to show what now returns, which is given the time since the begin.
func (a *app) liveLine(now func(time.Duration) string) *liveLine {
	l := &liveLine{stop: make(chan struct{})}
	out, every, format, last := a.stderr, plainEvery, "%s\n", ""
	if isTerminal(text.Raw(a.stderr)) {
		out, every, format, last = text.Raw(a.stderr), liveEvery, "\r\x1b[K%s", "\r\x1b[K"
	}
	l.done.Go(func() {
		l.show(out, every, format, now)
		fmt.Fprint(out, last)
	})
	return l
}

func (l *liveLine) show(out io.Writer, every time.Duration, format string, now func(time.Duration) string) {
	begun := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(out, format, now(time.Since(begun)))
		case <-l.stop:
			return
		}
	}
}

// end removes the line.
func (l *liveLine) end() {
	close(l.stop)
	l.done.Wait()
}
