package procfs

import "testing"

func TestParseStat(t *testing.T) {
	line := "17 (a) R) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 3 18 987654 20 21"
	got, ok := parseStat([]byte(line))
	if want := (procStat{'Z', 3, 987654}); !ok || got != want {
		t.Errorf("parseStat(%q): got %+v, %v, want %+v", line, got, ok, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) R", "1 (x) R 1 2"} {
		if _, ok := parseStat([]byte(bad)); ok {
			t.Errorf("parseStat(%q) succeeded", bad)
		}
	}
	if !(procStat{State: 'Z', threads: 2}).runs() || (procStat{State: 'Z', threads: 1}).runs() {
		t.Error("a process ends with its last thread")
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 (a b) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12 3 4")
	f.Fuzz(func(_ *testing.T, text string) { parseStat([]byte(text)) })
}

func TestBootOffset(t *testing.T) {
	for text, want := range map[string]struct {
		ticks int64
		exact bool
	}{
		"monotonic           0         0\nboottime            0         0\n": {0, true},
		"monotonic 5 0\nboottime 1000 0\n":                                   {100000, true},
		"boottime -3 500000000\n":                                            {-250, true},
		"boottime 1 1\n":                                                     {100, false},
		"":                                                                   {0, true},
	} {
		if ticks, exact := parseBootOffset(text); ticks != want.ticks || exact != want.exact {
			t.Errorf("%q: got %d, %v", text, ticks, exact)
		}
	}
}
