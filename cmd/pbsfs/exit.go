package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/store"
)

// The exit codes, which the help of the root command documents. They are never
// given another meaning.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitActive  = 3
	exitMode    = 4
	exitDamaged = 5
	exitKey     = 6
)

// exitCode is the one switch from error to exit code.
func exitCode(err error) int {
	var onCommandLine *usage.Error
	var given *exitError
	var active *status.InUse
	var mode *cfg.ModeError
	var key *unlock.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &given):
		return given.code
	case errors.As(err, &active): // whatever ended the wait
		return exitActive
	case errors.As(err, &onCommandLine), errors.Is(err, cfg.ErrBadMessage), errors.Is(err, cfg.ErrBadDatastore), isUnknownCommand(err):
		return exitUsage
	case errors.Is(err, mountpoint.ErrActive), errors.Is(err, maint.ErrActive), errors.Is(err, maint.ErrConflict),
		errors.Is(err, store.ErrCollecting), errors.Is(err, store.ErrGroupBusy):
		return exitActive
	case errors.As(err, &mode), errors.Is(err, store.ErrGone), errors.Is(err, device.ErrNoDevice):
		return exitMode
	case errors.Is(err, store.ErrKeyNeeded), errors.As(err, &key):
		return exitKey
	case errors.Is(err, store.ErrCorrupt):
		return exitDamaged
	}
	return exitFailed
}

// exitError is the failure of a process that ran on our behalf, with the code
// it would have exited with.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// isUnknownCommand recognises cobra's complaint, which has no type.
func isUnknownCommand(err error) bool {
	return strings.HasPrefix(err.Error(), "unknown command ")
}

// report tells people what went wrong, in one line, and returns the exit code.
func (a *app) report(err error) int {
	code := exitCode(err)
	if code == exitDone {
		return code
	}
	text := err.Error()
	var active *status.InUse
	if errors.Is(err, context.Canceled) && !errors.As(err, &active) {
		text = "interrupted"
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		fmt.Fprintf(a.stderr, "pbsfs: %s\n", oneLine(text))
	}()
	select {
	case <-told:
	case <-time.After(lastWords): // nobody reads
	}
	return code
}

// lastWords bounds how long the end of a command waits for who reads what it says.
const lastWords = 3 * time.Second

// oneLine makes one line of a text that may have several, errors.Join's above
// all. Lines after the first that are indented are a list, and stay.
func oneLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	out := lines[0]
	for _, l := range lines[1:] {
		if strings.HasPrefix(l, "  ") {
			out += "\n" + l
		} else {
			out += "; " + l
		}
	}
	return out
}
