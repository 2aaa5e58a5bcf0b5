package mountlist

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want Mount
		fail string
	}{
		{"DATASTORE=tank\nMOUNTPOINT=/mnt\n", Mount{Datastore: "tank", Point: "/mnt"}, ""},
		{"# a\n; b\n\n MOUNTPOINT = /m n\nOPTIONS=\"a,b=\\\"c,d\\\"\"\nAUTO=yes", Mount{Point: "/m n", Options: `a,b="c,d"`, Auto: true}, ""},
		{"MOUNTPOINT='/m'\nAUTO=no", Mount{Point: "/m"}, ""},
		{"MOUNTPOINT=/m\r\n", Mount{Point: "/m"}, ""},
		{"DATASTORE=tank", Mount{}, "no MOUNTPOINT"},
		{"MOUNTPOINT=mnt", Mount{}, "absolute"},
		{"MOUNTPOINT", Mount{}, "line 1"},
		{"MOUNTPOINT=/m\nOPTION=x", Mount{}, `line 2: "OPTION" is none of`},
		{"MOUNTPOINT=/m\nAUTO=maybe", Mount{}, "yes or no"},
		{"MOUNTPOINT=/m\nOPTIONS=a\\ b", Mount{}, "in quotes"},
		{"MOUNTPOINT=/m\nOPTIONS=\"a\" \"b\"", Mount{}, "in quotes"},
		{"MOUNTPOINT=/m\nOPTIONS=\"a", Mount{}, "in quotes"},
		{"MOUNTPOINT=/m\nOPTIONS='", Mount{}, "in quotes"},
	} {
		got, err := parse(c.text)
		if c.fail != "" {
			if err == nil || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%q: got %+v and %v, want an error with %q", c.text, got, err, c.fail)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: got %+v and %v, want %+v", c.text, got, err, c.want)
		}
	}
}

// A file that is wrong is named, and the others are read.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.conf": "MOUNTPOINT=/b", "a.conf": "MOUNTPOINT=/a", "bad.conf": "x", "c.conf~": "x", ".d.conf": "x", ".conf": "x",
		"long.conf": "#" + strings.Repeat("x", maxFile),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Read(dir)
	if want := []Mount{{Name: "a", Point: "/a"}, {Name: "b", Point: "/b"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err == nil || !strings.Contains(err.Error(), "bad.conf: line 1") || !strings.Contains(err.Error(), "long.conf: longer than") {
		t.Errorf("got %v, want an error that names bad.conf and long.conf", err)
	}
	if got, err := Read(filepath.Join(dir, "none")); len(got) > 0 || err != nil {
		t.Errorf("no directory: got %v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("MOUNTPOINT=/m\nOPTIONS=\"a,b\"\nAUTO=yes\n")
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := parse(text); err == nil && !filepath.IsAbs(m.Point) {
			t.Errorf("%q: %+v", text, m)
		}
	})
}
