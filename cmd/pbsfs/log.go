package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"path/filepath"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/pbsfs/pbsfs/maint"
)

const (
	logName = "pbsfs"
	// logMegabytes bounds the log file in the run directory, and logBackups
	// the older ones beside it.
	logMegabytes = 4
	logBackups   = 1
)

// openLog opens the log of a serving process, and returns how to close it.
func (a *app) openLog(o *mountOptions, host maint.Host) (*slog.Logger, func(), error) {
	nothing := func() {}
	text := func(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
	switch o.logTo {
	case "journal":
		if !journal.Enabled() {
			return nil, nil, errors.New("--log journal: there is no journal on this host")
		}
		return slog.New(&journalHandler{}), nothing, nil
	case "syslog":
		w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_NOTICE, logName)
		if err != nil {
			return nil, nil, fmt.Errorf("--log syslog: %w", err)
		}
		return text(w), func() { _ = w.Close() }, nil
	case "":
		return a.defaultLog(o, host)
	}
	f, err := os.OpenFile(o.logTo, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("--log: %w", err)
	}
	return text(f), func() { _ = f.Close() }, nil
}

// defaultLog finds the log that nobody named.
func (a *app) defaultLog(o *mountOptions, host maint.Host) (*slog.Logger, func(), error) {
	text := func(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
	if o.foreground {
		return text(a.stderr), func() {}, nil
	}
	if journal.Enabled() {
		return slog.New(&journalHandler{}), func() {}, nil
	}
	if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_NOTICE, logName); err == nil {
		return text(w), func() { _ = w.Close() }, nil
	}
	if err := writableDir(host.OwnRunDir()); err != nil {
		if o.untracked { // it is for hosts like this
			return slog.New(slog.DiscardHandler), func() {}, nil
		}
		return nil, nil, fmt.Errorf("run directory: %w; --run-dir names another, --log another place for the log", err)
	}
	w := &lumberjack.Logger{Filename: filepath.Join(host.OwnRunDir(), logName+".log"), MaxSize: logMegabytes, MaxBackups: logBackups}
	return text(w), func() { _ = w.Close() }, nil
}

// writableDir makes a directory if it is missing, and says whether files can be
// made there.
func writableDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return unix.Access(dir, unix.W_OK|unix.X_OK)
}

// journalHandler writes records to the systemd journal, attributes as fields.
type journalHandler struct {
	attrs []slog.Attr
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{attrs: append(append([]slog.Attr{}, h.attrs...), attrs...)}
}

// WithGroup leaves the fields ungrouped: names of the journal have no groups.
func (h *journalHandler) WithGroup(string) slog.Handler { return h }

func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	fields := map[string]string{"SYSLOG_IDENTIFIER": logName}
	text := r.Message
	add := func(a slog.Attr) bool {
		fields["PBSFS_"+strings.ToUpper(a.Key)] = a.Value.String()
		text += fmt.Sprintf(" %s=%q", a.Key, a.Value.String())
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	return journal.Send(text, priority(r.Level), fields)
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
