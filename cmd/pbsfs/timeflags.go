package main

import (
	"fmt"
	"time"
)

// instant is a time on the command line: "2026-11-20", "2026-11-20T10:00:00Z", or how long
// ago, "7d" or "36h".
type instant struct {
	time.Time
	text string
}

// Set reads a time.
func (i *instant) Set(s string) error {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			i.Time, i.text = t, s
			return nil
		}
	}
	var days dayDuration
	d, err := time.ParseDuration(s)
	if days.Set(s) == nil {
		d, err = time.Duration(days), nil
	}
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no time; write it like 2026-11-20, 2026-11-20T10:00:00Z, or 7d for seven days ago", s)
	}
	i.Time, i.text = time.Now().Add(-d), s
	return nil
}

// String returns the time as it was written.
func (i *instant) String() string { return i.text }

// Type names the type of the value in the help.
func (i *instant) Type() string { return "TIME" }

// timeSpan is a span of time whose ends may be open.
type timeSpan struct{ since, until instant }

// has reports whether t lies in the span.
func (s timeSpan) has(t time.Time) bool {
	return (s.since.IsZero() || !t.Before(s.since.Time)) && (s.until.IsZero() || !t.After(s.until.Time))
}
