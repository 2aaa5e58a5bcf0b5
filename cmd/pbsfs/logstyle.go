package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint/text"
)

// logStyle is how much a log says, and in which form.
type logStyle struct {
	format         logFormat
	quiet, verbose bool
}

func (s *logStyle) register(f *pflag.FlagSet) {
	s.format = logText
	f.Var(&s.format, "log-format", "the form of the log: text, or json with an object in each line; a journal has fields in any case")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "log only what is wrong")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "log more, to find out why something is as it is")
}

// check refuses flags that exclude each other.
func (s *logStyle) check() error {
	if s.quiet && s.verbose {
		return usage.Errorf("--quiet and --verbose exclude each other")
	}
	return nil
}

// level is the least level that is logged.
func (s *logStyle) level() slog.Level {
	switch {
	case s.quiet:
		return slog.LevelWarn
	case s.verbose:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// handler writes records to w.
func (s *logStyle) handler(w io.Writer) slog.Handler {
	o := &slog.HandlerOptions{Level: s.level()}
	if s.format == logJSON {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

// destination returns where lines of the log are written, given where the log goes. The
// writer for people would put escapes into JSON that JSON has not.
func (s *logStyle) destination(w io.Writer) io.Writer {
	if s.format == logJSON {
		return jsonLines{text.Raw(w)}
	}
	return w
}

// jsonLines escapes what cannot be printed in lines of JSON.
type jsonLines struct{ to io.Writer }

// Write writes one line.
func (j jsonLines) Write(line []byte) (int, error) {
	if _, err := j.to.Write(text.JSON(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// lost returns the line that stands for n lines that were lost.
func (s *logStyle) lost(n int) []byte {
	if s.format != logJSON {
		return fmt.Appendf(nil, "%d lines of the log were lost here\n", n)
	}
	var line bytes.Buffer
	_ = json.NewEncoder(&line).Encode(struct { // it has nothing that could fail
		Time  time.Time `json:"time"`
		Level string    `json:"level"`
		Msg   string    `json:"msg"`
		Lines int       `json:"lines"`
	}{time.Now(), slog.LevelWarn.String(), "lines of the log were lost here", n})
	return line.Bytes()
}

// logFormat is the value of --log-format.
type logFormat string

const (
	logText logFormat = "text"
	logJSON logFormat = "json"
)

// Set takes the value of the flag.
func (f *logFormat) Set(s string) error {
	switch format := logFormat(s); format {
	case logText, logJSON:
		*f = format
		return nil
	}
	return fmt.Errorf("say text or json")
}

// String returns the value.
func (f *logFormat) String() string { return string(*f) }

// Type names the type of the value in the help.
func (f *logFormat) Type() string { return "FORMAT" }
