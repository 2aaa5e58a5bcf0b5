package main

import (
	"bytes"
	"encoding/json"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// logged returns the lines of a log of this style: what say logs to it, in a file and on
// the standard error, where both must be the same but for the time.
func logged(t *testing.T, style logStyle, say func(*slog.Logger)) []string {
	t.Helper()
	t.Cleanup(func() {
		log.SetOutput(os.Stderr)
		log.SetFlags(log.LstdFlags)
	})
	var stderr bytes.Buffer
	a := &app{stderr: text.NewWriter(&stderr)}
	file := filepath.Join(t.TempDir(), "log")
	for _, o := range []logOptions{{to: file, style: style}, {foreground: true, style: style}} {
		l, end, err := a.openLog(o, storetest.Host(t, ""))
		if err != nil {
			t.Fatal(err)
		}
		say(l)
		end()
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if other := strings.Count(stderr.String(), "\n"); other != strings.Count(string(data), "\n") {
		t.Errorf("%d lines in the file, %d on the standard error", len(lines), other)
	}
	if style.format == logJSON {
		for l := range strings.Lines(stderr.String()) {
			if !json.Valid([]byte(l)) {
				t.Errorf("on the standard error: %q is no JSON", l)
			}
		}
	}
	return lines
}

func TestLogIsAsLoudAsWanted(t *testing.T) {
	for _, format := range []logFormat{logText, logJSON} {
		for want, style := range map[string]logStyle{
			"info warn":       {format: format},
			"warn":            {format: format, quiet: true},
			"debug info warn": {format: format, verbose: true},
		} {
			lines := logged(t, style, func(l *slog.Logger) {
				l.Debug("debug")
				l.Info("info")
				l.Warn("warn")
			})
			if len(lines) != len(strings.Fields(want)) {
				t.Errorf("%+v: %q, want %s", style, lines, want)
			}
			for i, word := range strings.Fields(want) {
				if i < len(lines) && !strings.Contains(lines[i], word) {
					t.Errorf("%+v: line %d is %q, want %s", style, i, lines[i], word)
				}
			}
		}
	}
}

func TestJSONLogHasOneObjectInEachLine(t *testing.T) {
	const path = "/a\nb\x80\u202e\U000e0001"
	lines := logged(t, logStyle{format: logJSON}, func(l *slog.Logger) {
		l.Error("damaged", "path", path, "offset", 7)
		log.Print("a library says\nsomething")
	})
	if len(lines) != 2 {
		t.Fatalf("lines: %q", lines)
	}
	var first struct {
		Time, Level, Msg, Path string
		Offset                 int
	}
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil {
		t.Fatal(err)
	}
	want := strings.ToValidUTF8(path, "\ufffd")
	if first.Level != "ERROR" || first.Msg != "damaged" || first.Path != want || first.Offset != 7 || first.Time == "" {
		t.Errorf("got %+v", first)
	}
	if strings.ContainsFunc(lines[0], func(r rune) bool { return r == '\u202e' || r == '\U000e0001' }) {
		t.Errorf("what turns the direction of writing is in the log: %q", lines[0])
	}
	if !strings.Contains(lines[1], `"msg":"a library says\nsomething"`) || !json.Valid([]byte(lines[1])) {
		t.Errorf("of a library: %q", lines[1])
	}
}

func TestLostLinesAreToldInTheFormOfTheLog(t *testing.T) {
	for _, format := range []logFormat{logText, logJSON} {
		style := logStyle{format: format}
		var out bytes.Buffer
		box := newOutbox()
		w := lineWriter{box, &out, style.lost}
		box.mu.Lock()
		box.lost = 3
		box.mu.Unlock()
		style.handlerTo(t, w)
		box.close()
		first, rest, _ := strings.Cut(out.String(), "\n")
		if !strings.Contains(first, "3") || !strings.Contains(first, "lost") || !strings.Contains(rest, "next") {
			t.Errorf("%s: %q", format, out.String())
		}
		if format == logJSON && !json.Valid([]byte(first)) {
			t.Errorf("%q is no JSON", first)
		}
	}
}

// handlerTo logs one line.
func (s logStyle) handlerTo(t *testing.T, w lineWriter) {
	t.Helper()
	slog.New(s.handler(w)).InfoContext(t.Context(), "next")
}

func TestLogFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"mount", "x", "/y", "--quiet", "--verbose"}, "exclude each other"},
		{[]string{"serve", "-q", "-v"}, "exclude each other"},
		{[]string{"mount", "x", "/y", "--log-format", "xml"}, "say text or json"},
		{[]string{"serve", "--log-format="}, "say text or json"},
	} {
		cmd := newRootCommand(&app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, getenv: func(string) string { return "" }})
		cmd.SetArgs(c.args)
		err := cmd.ExecuteContext(t.Context())
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want a usage error: %s", c.args, err, c.want)
		}
	}
}
