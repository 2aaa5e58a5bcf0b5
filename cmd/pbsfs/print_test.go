package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/maint/text"
)

// evil is what a name must not do to who looks at it.
const evil = "x\x1b]0;owned\x07\n  mode: none\r\x9b2J\u202ey\u2028z"

// fill sets every string below v.
func fill(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		fill(v.Elem(), s)
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		for i := range v.Len() {
			fill(v.Index(i), s)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), s)
			}
		}
	default:
	}
}

func TestStatusIsPrintable(t *testing.T) {
	lines := func(s string) int {
		var st status.Store
		fill(reflect.ValueOf(&st).Elem(), s)
		var b bytes.Buffer
		a := &app{stdout: &b}
		if _, err := a.out().Write([]byte(statusText(st))); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if shown := strings.TrimSuffix(line, "\n"); text.Printable(shown) != shown {
				t.Errorf("not printable: %q", shown)
			}
		}
		return strings.Count(b.String(), "\n")
	}
	if plain, got := lines("x"), lines(evil); got != plain {
		t.Errorf("%d lines instead of %d: somebody's text begins lines of its own", got, plain)
	}
}

func TestModeIsPrintable(t *testing.T) {
	e := evil
	if got := modeText(status.Mode{Type: &e, Message: evil}); text.Printable(got) != got {
		t.Errorf("a mode: %q", got)
	}
}

func TestErrorsArePrintable(t *testing.T) {
	var b bytes.Buffer
	a := &app{stderr: text.NewWriter(&b)}
	a.report(&exitError{code: 1, text: "no datastore x\x1b[2J\u202e"})
	if got := b.String(); got != "pbsfs: no datastore x\\x1b[2J\\u202e\n" {
		t.Errorf("got %q", got)
	}
}

func TestJSONIsPrintable(t *testing.T) {
	var b bytes.Buffer
	a := &app{stdout: &b}
	want := status.Store{Datastore: "\x7f\u009b\u202e", Path: "ü"}
	if err := a.json(want); err != nil {
		t.Fatal(err)
	}
	var got status.Store
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got.Datastore != want.Datastore || got.Path != want.Path {
		t.Errorf("got %+v, %v", got, err)
	}
	if line := strings.TrimSuffix(b.String(), "\n"); text.Printable(line) != line {
		t.Errorf("not printable: %q", line)
	}
}
