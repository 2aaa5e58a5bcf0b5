package maint

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pbsfs/pbsfs/maint/cfg"
)

// withMode is the plain configuration with a mode.
func withMode(value string) string {
	if value == "" {
		return plainConfig
	}
	return strings.Replace(plainConfig, "a test\n", "a test\n\tmaintenance-mode "+value+"\n", 1)
}

func TestUnmountSetsAModeAndTakesItBack(t *testing.T) {
	for _, before := range []string{"", "read-only", `read-only,message="a, b"`} {
		p := newPlace(t)
		p.writeConfig(t, withMode(before))
		u, err := BeginUnmount(t.Context(), p.host, testStore, SetOptions{})
		if err != nil {
			t.Fatalf("%q: %v", before, err)
		}
		m, err := ReadMode(p.host, testStore)
		if err != nil || m.Type != cfg.Unmount || Abandoned(m) || utf8.RuneCountInString(m.Message) > cfg.MaxMessage {
			t.Errorf("%q: got the mode %+v, %v", before, m, err)
		}
		if _, err := BeginUnmount(t.Context(), p.host, testStore, SetOptions{}); !errors.Is(err, cfg.ErrUnmounting) {
			t.Errorf("%q: a second unmount: got %v", before, err)
		}
		if err := FinishUnmount(t.Context(), p.host, testStore); err != nil {
			t.Errorf("%q: %v", before, err)
		}
		if m, _ := ReadMode(p.host, testStore); m.Type != cfg.Unmount {
			t.Errorf("%q: the mode of an unmount that goes on was taken back", before)
		}
		for range 2 {
			if err := u.End(t.Context()); err != nil {
				t.Errorf("%q: %v", before, err)
			}
		}
		if got := p.config(t); got != withMode(before) {
			t.Errorf("%q: got the configuration %q", before, got)
		}
	}
}

func TestUnmountIsRefused(t *testing.T) {
	for _, op := range []string{"read", "write"} {
		p := newPlace(t)
		holder := startOther(t, "hold", p.dir, testStore, op)
		_, err := BeginUnmount(t.Context(), p.host, testStore, SetOptions{Wait: 50 * time.Millisecond})
		var conflict *ConflictError
		if !errors.As(err, &conflict) || len(conflict.Processes) != 1 || conflict.Processes[0].PID != holder.pid() {
			t.Errorf("%s: got %v", op, err)
		}
		if got := p.config(t); got != plainConfig {
			t.Errorf("%s: datastore.cfg changed: %q", op, got)
		}
		go func() { time.Sleep(20 * time.Millisecond); holder.end() }()
		u, err := BeginUnmount(t.Context(), p.host, testStore, SetOptions{Wait: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.End(t.Context()); err != nil {
			t.Error(err)
		}
	}
	// What PBS has set is PBS's, and what cannot be read may be.
	for _, value := range []string{"unmount", "unmount,message=mine", "delete", "s3-refresh", "fancy", "unmount,message=pbsfs unmount 1 2"} {
		p := newPlace(t)
		p.writeConfig(t, withMode(value))
		var mode *cfg.ModeError
		if _, err := BeginUnmount(t.Context(), p.host, testStore, SetOptions{}); !errors.As(err, &mode) {
			t.Errorf("%q: got %v", value, err)
		}
		if err := FinishUnmount(t.Context(), p.host, testStore); err != nil {
			t.Errorf("%q: %v", value, err)
		}
		if got := p.config(t); got != withMode(value) {
			t.Errorf("%q: got the configuration %q", value, got)
		}
	}
}

func TestUnmountOfOfflineDatastoreLeavesItsMode(t *testing.T) {
	p := newPlace(t)
	p.writeConfig(t, withMode("type=offline,message=new"))
	u, err := BeginUnmount(t.Context(), p.host, testStore, SetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.End(t.Context()); err != nil {
		t.Error(err)
	}
	if got := p.config(t); got != withMode("type=offline,message=new") {
		t.Errorf("got the configuration %q", got)
	}
}

func TestModeOfDeadUnmountIsTakenBack(t *testing.T) {
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	other := startOther(t, "sleep")
	live := other.process(t)
	for _, c := range []struct {
		what    unmounting
		back    bool
		becomes string
	}{
		{unmounting{live.PID, live.StartTime, boot, false}, false, ""},
		{unmounting{live.PID, live.StartTime + 1, boot, false}, true, ""},
		{unmounting{live.PID, live.StartTime, "0123456789abcdef", false}, true, ""},
		{unmounting{1 << 22, 1, boot, true}, true, "read-only"},
	} {
		p := newPlace(t)
		stuck := withMode("unmount,message=" + c.what.String())
		p.writeConfig(t, stuck)
		m, err := ReadMode(p.host, testStore)
		if err != nil || Abandoned(m) != c.back {
			t.Errorf("%s: got %+v, %v", c.what, m, err)
		}
		if err := FinishUnmount(t.Context(), p.host, testStore); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		want := stuck
		if c.back {
			want = withMode(c.becomes)
		}
		if got := p.config(t); got != want {
			t.Errorf("%s: got the configuration %q, want %q", c.what, got, want)
		}
	}
	longest := unmounting{1 << 22, 1<<59 - 1, boot, true}.String()
	if len(longest) > cfg.MaxMessage {
		t.Errorf("%q is longer than PBS allows", longest)
	}
}

// A mode that somebody sets while we unmount stands.
func TestModeSetMeanwhileStays(t *testing.T) {
	p := newPlace(t)
	u, err := BeginUnmount(t.Context(), p.host, testStore, SetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.writeConfig(t, withMode("offline"))
	if err := u.End(context.Background()); err != nil {
		t.Error(err)
	}
	if got := p.config(t); got != withMode("offline") {
		t.Errorf("got the configuration %q", got)
	}
}

func FuzzOurMessage(f *testing.F) {
	f.Add("pbsfs unmount 1 2 0123456789abcdef ro")
	f.Add("pbsfs unmount 99999999999999999999 2 0123456789abcdef")
	f.Fuzz(func(t *testing.T, message string) {
		u, ok := ownUnmounting(cfg.Mode{Type: cfg.Unmount, Message: message})
		if ok && fmt.Sprint(u) != message && !strings.Contains(message, " 0") {
			t.Errorf("%q was read as %q", message, u)
		}
	})
}
