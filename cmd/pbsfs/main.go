// Command pbsfs shows a Proxmox Backup Server datastore as a tree of files.
//
// Each command has a file of its own: a constructor, its options, and a function that
// runs it. A command returns an error; only exit.go knows the exit code for it.
package main

import (
	"context"
	"math"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/maint/text"
)

func main() { os.Exit(run(os.Args[0], os.Args[1:])) }

// run runs one command line and returns the exit code. Called by the name of a mount
// helper, the program is one. The first signal ends a command,
// even one that waits for something that never answers. The command gets a moment to
// clean up. A second signal ends it at once.
func run(name string, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &app{args: args, stdin: os.Stdin, stdout: os.Stdout, stderr: text.NewWriter(os.Stderr), getenv: os.Getenv, confine: confineTo}
	if isMountHelper(name) {
		return mountCode(app.untilSignal(ctx, stop, newMountHelperCommand(app, name)), ctx.Err() != nil)
	}
	return app.untilSignal(ctx, stop, newRootCommand(app))
}

// untilSignal runs a command until it has ended, or a signal has ended ctx.
func (a *app) untilSignal(ctx context.Context, stop func(), cmd *cobra.Command) int {
	cmd.SetArgs(a.args)
	code := make(chan int, 1)
	go func() { code <- a.report(cmd.ExecuteContext(ctx)) }()
	select {
	case c := <-code:
		return c
	case <-ctx.Done():
		stop()
	}
	select {
	case c := <-code:
		return c
	case <-a.moment.over():
		return a.report(context.Canceled)
	}
}

// moment is how long a command may go on after a signal.
type moment struct {
	longest atomic.Int64
	ended   atomic.Int64 // when a permission to go on ended, in nanoseconds since 1970
}

// promptly is the moment of a command that has nothing to clean up.
const promptly = 700 * time.Millisecond

// momentStep is how often over looks whether the moment has passed.
const momentStep = 50 * time.Millisecond

// allow lets the command go on for longer: for d, or without a limit if d is 0. The
// result ends that permission; then the command still has the moment that each has.
func (m *moment) allow(d time.Duration) (back func()) {
	if d == 0 {
		d = math.MaxInt64
	}
	before := m.longest.Swap(int64(d))
	return func() {
		m.ended.Store(time.Now().UnixNano())
		m.longest.Store(before)
	}
}

// over returns a channel that is closed when a moment from now has passed. It looks at
// the permitted time repeatedly, because allow may be called after the signal.
func (m *moment) over() <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		for since := time.Now(); ; time.Sleep(momentStep) {
			longest := max(promptly, time.Duration(m.longest.Load())) // who ends a permission sets this last
			if ended := time.Unix(0, m.ended.Load()); ended.After(since) {
				since = ended
			}
			if time.Since(since) >= longest {
				return
			}
		}
	}()
	return over
}
