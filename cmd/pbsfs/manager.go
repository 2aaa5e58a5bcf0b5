package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/reach"
)

// A service manager such as systemd starts a mount with --foreground, waits until it says
// that it is ready, and may want to hear from it as long as it lives: see sd_notify(3).
// Both are said only after the tree has answered, as seen by another process: one that
// asks its own tree could never be killed if no answer came.

// toManager tells the service manager what this process is doing, if there is one.
func toManager(state string, log *slog.Logger) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("the service manager cannot be told", "state", state, "error", err)
	}
}

// ready returns what a mount in the foreground does when its tree is there.
func (a *app) ready(ctx context.Context, o *mountOptions) func(warning string) error {
	return func(warning string) error {
		err := a.warn(warning)
		if a.getenv("NOTIFY_SOCKET") == "" {
			return err
		}
		if askErr := o.hands.Ask(ctx, reach.Patience); askErr != nil {
			return errors.Join(err, askErr)
		}
		_, sentErr := daemon.SdNotify(false, daemon.SdNotifyReady)
		return errors.Join(err, sentErr)
	}
}

// pings are the signs of life that a service manager wants.
type pings struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// end waits until there are no more of them.
func (p *pings) end() {
	p.cancel()
	<-p.done
}

// keepPinging begins to tell the service manager that the tree answers, as often as it
// wants to hear it. Whoever calls it must call end.
func (o *mountOptions) keepPinging(log *slog.Logger) *pings {
	ctx, cancel := context.WithCancel(context.Background())
	p := &pings{cancel: cancel, done: make(chan struct{})}
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager does not say how often it wants to hear", "error", err)
	}
	if err != nil || within == 0 || !o.foreground {
		close(p.done)
		return p
	}
	go func() {
		defer close(p.done)
		// Two may come late before the manager misses one.
		for tick := time.NewTicker(within / 3); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			switch err := o.hands.Ask(ctx, within); {
			case err == nil:
				toManager(daemon.SdNotifyWatchdog, log)
			case ctx.Err() == nil:
				log.Error("the tree does not answer", "error", err)
			}
		}
	}()
	return p
}

// ownProgram is this program, even if its file was replaced since it was started.
const ownProgram = "/proc/self/exe"

// answersName is the internal command that asks a tree.
const answersName = "answers"

// newAnswersCommand makes the command by which an usher asks a tree.
func newAnswersCommand() *cobra.Command {
	return &cobra.Command{
		Use:    answersName + " MOUNTPOINT",
		Hidden: true,
		Args:   usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			// The kernel passes each question for an attribute on to the serving process,
			// which answers it without the datastore.
			_, err := unix.Getxattr(args[0], "user.pbs.answers", nil)
			if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) { // or something else is mounted upon it
				return nil
			}
			return err
		},
	}
}
