// Command pbsfs shows a Proxmox Backup Server datastore as a tree of files.
//
// Each command is a file of its own: a constructor, its options, and a function
// that runs it. What a command answers with is an error; exit.go alone knows
// which exit code that is.
package main

import (
	"context"
	"math"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pbsfs/pbsfs/maint/text"
)

func main() { os.Exit(run(os.Args[1:])) }

// run runs one command line and returns the exit code. The first signal ends a
// command, also one that waits for what never answers: it gets a moment to put
// things in order. A second one does not wait.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: text.NewWriter(os.Stderr), getenv: os.Getenv}
	cmd := newRootCommand(app)
	cmd.SetArgs(args)
	code := make(chan int, 1)
	go func() { code <- app.report(cmd.ExecuteContext(ctx)) }()
	select {
	case c := <-code:
		return c
	case <-ctx.Done():
		stop()
	}
	select {
	case c := <-code:
		return c
	case <-app.moment.over():
		return app.report(context.Canceled)
	}
}

// moment is how long a command may go on after a signal.
type moment struct{ longest atomic.Int64 }

// promptly is the moment of a command that has nothing to put in order.
const promptly = 700 * time.Millisecond

// momentStep is how often it is looked whether the moment is over.
const momentStep = 50 * time.Millisecond

// allow lets the command go on for longer, as long as it takes if d is 0. The
// result takes that back.
func (m *moment) allow(d time.Duration) (back func()) {
	if d == 0 {
		d = math.MaxInt64
	}
	before := m.longest.Swap(int64(d))
	return func() { m.longest.Store(before) }
}

// over returns a channel that is closed when a moment from now is over. What was
// allowed is looked at again and again: it may be allowed after the signal.
func (m *moment) over() <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		for since := time.Now(); time.Since(since) < max(promptly, time.Duration(m.longest.Load())); {
			time.Sleep(momentStep)
		}
	}()
	return over
}
