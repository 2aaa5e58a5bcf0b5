package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"log/syslog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/reach"
	"github.com/pbsfs/pbsfs/maint/text"
)

const (
	logName = "pbsfs"
	// logMegabytes bounds the size of the log file in the run directory, and logBackups
	// the number of older log files beside it.
	logMegabytes = 4
	logBackups   = 1
)

// logOptions say where the log of a serving process goes.
type logOptions struct {
	to         string // the value of --log
	foreground bool   // to the standard error, unless to says otherwise
	untracked  bool   // without a run directory there may be no log
	style      logStyle
}

// openLog opens the log of a serving process, and returns a function that closes it.
// The log never blocks a process that writes to it, and never ends it.
func (a *app) openLog(o logOptions, host hosts.Host) (*slog.Logger, func(), error) {
	signal.Ignore(syscall.SIGPIPE) // the process must not end because the reader of its log ends
	to, closeIt, err := a.findLog(o, host)
	if err != nil {
		return nil, nil, err
	}
	box := newOutbox()
	end := func() {
		box.close()
		closeIt()
	}
	if to == nil {
		log.SetOutput(io.Discard)
		return slog.New(&journalHandler{box: box, level: o.style.level()}), end, nil
	}
	w := lineWriter{box, o.style.destination(to), o.style.lost}
	h := o.style.handler(w)
	log.SetOutput(w) // for the messages of libraries
	if o.style.format == logJSON {
		log.SetFlags(0)
		log.SetOutput(slog.NewLogLogger(h, slog.LevelWarn).Writer())
	}
	return slog.New(h), end, nil
}

// findLog opens the destination of the log; for the journal it returns nil.
func (a *app) findLog(o logOptions, host hosts.Host) (io.Writer, func(), error) {
	switch o.to {
	case "journal":
		if !journal.Enabled() {
			return nil, nil, errors.New("--log journal: there is no journal on this host")
		}
		return nil, func() {}, nil
	case "syslog":
		w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_NOTICE, logName)
		if err != nil {
			return nil, nil, fmt.Errorf("--log syslog: %w", err)
		}
		return w, func() { _ = w.Close() }, nil
	case "":
		return a.defaultLog(o, host)
	}
	if err := reach.Answers(context.Background(), o.to); err != nil {
		return nil, nil, fmt.Errorf("--log: %w", err)
	}
	f, err := os.OpenFile(o.to, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("--log: %w", err)
	}
	return f, func() { _ = f.Close() }, nil
}

// defaultLog chooses a log if no option names one.
func (a *app) defaultLog(o logOptions, host hosts.Host) (io.Writer, func(), error) {
	if o.foreground {
		return a.stderr, func() {}, nil
	}
	if journal.Enabled() {
		return nil, func() {}, nil
	}
	if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_NOTICE, logName); err == nil {
		return w, func() { _ = w.Close() }, nil
	}
	if err := writableDir(host.OwnRunDir()); err != nil {
		if o.untracked { // an untracked mount is for hosts like this
			return io.Discard, func() {}, nil
		}
		return nil, nil, fmt.Errorf("run directory: %w; --run-dir names another, --log another place for the log", err)
	}
	w := &lumberjack.Logger{Filename: filepath.Join(host.OwnRunDir(), logName+".log"), MaxSize: logMegabytes, MaxBackups: logBackups}
	return w, func() { _ = w.Close() }, nil
}

// writableDir makes a directory if it is missing. It returns an error if no files can
// be created there.
func writableDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return unix.Access(dir, unix.W_OK|unix.X_OK)
}

// journalHandler writes records to the systemd journal, attributes as fields.
type journalHandler struct {
	box   *outbox
	level slog.Level
	attrs []slog.Attr
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{box: h.box, level: h.level, attrs: append(append([]slog.Attr{}, h.attrs...), attrs...)}
}

// WithGroup leaves the fields ungrouped, because field names of the journal have no
// groups.
func (h *journalHandler) WithGroup(string) slog.Handler { return h }

func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	fields := map[string]string{"SYSLOG_IDENTIFIER": logName}
	text := text.Printable(r.Message)
	add := func(a slog.Attr) bool {
		fields["PBSFS_"+strings.ToUpper(a.Key)] = a.Value.String()
		text += fmt.Sprintf(" %s=%q", a.Key, a.Value.String())
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	h.box.put(func() error { return journal.Send(text, priority(r.Level), fields) })
	return nil
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
