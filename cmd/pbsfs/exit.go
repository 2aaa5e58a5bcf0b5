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
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usher"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/store"
)

// The exit codes. The help of the root command documents them, and their meaning never
// changes.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitActive  = 3
	exitMode    = 4
	exitDamaged = 5
	exitKey     = 6
)

// exitCode is the only place that turns errors into exit codes.
func exitCode(err error) int {
	var onCommandLine *usage.Error
	var given *exitError
	var helper *usher.Error
	var active *status.InUse
	var mode *cfg.ModeError
	var key *unlock.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &given):
		return given.code
	case errors.As(err, &helper):
		return helper.Code
	case errors.As(err, &active): // for whatever reason the wait ended
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

// The exit codes of mount(8), by which its helpers end.
const (
	mountUsage       = 1
	mountInterrupted = 8
	mountFailed      = 32
)

// mountCode turns one of our exit codes into one of mount(8).
func mountCode(code int, interrupted bool) int {
	switch {
	case code == exitDone:
		return exitDone
	case interrupted:
		return mountInterrupted
	case code == exitUsage:
		return mountUsage
	}
	return mountFailed
}

// exitError is the failure of a process that ran on our behalf, with that process's
// exit code.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// isUnknownCommand recognises cobra's complaint, which has no type.
func isUnknownCommand(err error) bool {
	return strings.HasPrefix(err.Error(), "unknown command ")
}

// report tells the user in one line what went wrong, and returns the exit code.
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
	case <-time.After(lastWords): // standard error is not being read
	}
	return code
}

// lastWords bounds how long a command waits at its end for its messages to be read.
const lastWords = 3 * time.Second

// oneLine makes one line of a text that may have several, above all that of
// errors.Join. Indented lines after the first are a list, and stay.
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
