package main

import (
	"strings"
	"testing"
	"time"
)

func TestInstants(t *testing.T) {
	local := func(text string) time.Time {
		at, err := time.ParseInLocation("2006-01-02 15:04:05", text, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for text, want := range map[string]time.Time{
		"2026-11-20":                local("2026-11-20 00:00:00"),
		"2026-11-20 10:30":          local("2026-11-20 10:30:00"),
		"2026-11-20T10:30:01":       local("2026-11-20 10:30:01"),
		"2026-11-20T10:30:01Z":      time.Date(2026, 11, 20, 10, 30, 1, 0, time.UTC),
		"2026-11-20T10:30:01+02:00": time.Date(2026, 11, 20, 8, 30, 1, 0, time.UTC),
	} {
		var got instant
		if err := got.Set(text); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", text, got.Time, err, want)
		}
	}
	for text, want := range map[string]time.Duration{"36h": 36 * time.Hour, "7d": 7 * 24 * time.Hour, "2w": 14 * 24 * time.Hour, "0h": 0} {
		before := time.Now()
		var got instant
		err := got.Set(text)
		if after := time.Now(); err != nil || got.Before(before.Add(-want)) || got.After(after.Add(-want)) {
			t.Errorf("%s: %v, %v, want %v ago", text, got.Time, err, want)
		}
	}
	for _, text := range []string{"", "d", "-1d", "-3h", "1.5d", "0d", "999999d", "yesterday", "2026-02-30", "2026-11-20T25:00:00Z", "7"} {
		var got instant
		if err := got.Set(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got.Time)
		}
	}
}

func TestPlaces(t *testing.T) {
	for path, want := range map[string]string{
		"host/alpha":                                     "host/alpha  []",
		"/ns/prod/ns/db/vm/100/latest/disk.img":          "ns/prod/ns/db/vm/100 latest [disk.img]",
		"host/alpha/2023-11-14T23:13:20Z/root.pxar/../x": "host/alpha 2023-11-14T23:13:20Z [x]",
		"ct/101/root.pxar/etc":                           "ct/101  [root.pxar etc]",
		"ns/prod":                                        "",
		"host":                                           "",
		"other/alpha/x":                                  "",
	} {
		at, ok := placeOf(path)
		got := ""
		if ok {
			got = at.group.String() + " " + at.when + " [" + strings.Join(at.rest, " ") + "]"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
