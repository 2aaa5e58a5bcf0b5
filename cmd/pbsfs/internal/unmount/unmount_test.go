package unmount

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestWhatIsNotMounted(t *testing.T) {
	s := storetest.New(t)
	host := storetest.Host(t, "datastore: tank\n\tpath "+s.Dir+"\n")
	for arg, want := range map[string]string{
		"tank": "tank: not mounted", s.Dir: s.Dir + ": not mounted", "none": "no datastore none in ", t.TempDir(): "it has no directory .chunks",
	} {
		var told bytes.Buffer
		err := Named(t.Context(), host, arg, Options{Stderr: &told})
		if err == nil || !strings.Contains(err.Error(), want) || told.Len() > 0 {
			t.Errorf("%s: %v, %q, want %q", arg, err, told.String(), want)
		}
	}
}

// A tree whose process does not answer is left alone before anything else is asked.
func TestWhatHangsIsRefusedFirst(t *testing.T) {
	hangs := errors.New("process 7 does not answer")
	for _, force := range []bool{false, true} {
		l := &leaving{trees: []tree{{&served.Tree{}}, {&served.Tree{Hangs: hangs}}}, o: Options{Force: force}}
		if err := l.answering(); errors.Is(err, hangs) == force {
			t.Errorf("force %v: %v", force, err)
		}
	}
	l := &leaving{trees: []tree{{&served.Tree{Hangs: hangs}}}, until: time.Now().Add(time.Minute)}
	if err := l.unmount(t.Context()); !errors.Is(err, hangs) || errors.Is(err, mountpoint.ErrActive) {
		t.Errorf("got %v, want at once that the process does not answer", err)
	}
}

// Nobody waits for those who use a tree that nobody serves any more.
func TestWhoUsesADeadTreeIsInNobodysWay(t *testing.T) {
	dead := tree{&served.Tree{Mount: mounts.Mount{ID: -1, Point: "/no/such"}, Dead: true}}
	l := &leaving{trees: []tree{dead}}
	if l.kernelRefuses() {
		t.Error("the kernel was asked")
	}
	if err := l.busy(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPauseEndsWithTheWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if !pause(ctx) {
		t.Error("there was time")
	}
	cancel()
	for pause(ctx) { // either may be seen first
	}
}
