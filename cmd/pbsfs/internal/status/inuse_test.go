package status

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/mounts"
)

func TestListsAreOneLineEach(t *testing.T) {
	const evil = "x\x1b]0;owned\x07\n  mode: none\r\x9b2J\u202ey\u2028z" // what a name must not do
	procs := []maint.ProcessCount{{PID: 1, Name: evil}}
	if got := ProcessLines(procs); strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\x1b\r\u202e") {
		t.Errorf("a process: %q", got)
	}
	open := handlesOf("/mnt", []served.Handle{{Path: evil}}, []mounts.Holder{{PID: 2, Name: evil, How: evil, Path: evil}})
	got := (&InUse{Conflict: &maint.ConflictError{}, Open: []Open{{Handles: open}}}).Error()
	if strings.Count(got, "\n") != 2 || strings.ContainsAny(got, "\x1b\r\u202e\ufffd") {
		t.Errorf("what is open: %q", got)
	}
}

func TestARefusalStaysAValue(t *testing.T) {
	conflict := &maint.ConflictError{Store: "tank", Type: cfg.Offline, Processes: []maint.ProcessCount{{PID: 7, Name: "pbsfs", Read: 2}}, Err: context.Canceled}
	e := &InUse{Datastore: "tank", Conflict: conflict, Open: []Open{
		{Mountpoint: "/a", Err: errors.New("not now")},
		{Mountpoint: "/b", Handles: []Handle{{Path: "/b/x", PID: 8, Name: "cat", How: "descriptor"}}},
	}}
	rest := "  process 7 pbsfs: 2 read, 0 write\n  in /a: not now\n  " + mounts.Holder{PID: 8, Name: "cat", How: "descriptor", Path: "/b/x"}.String()
	if got, want := e.Error(), "datastore tank stays as it is: operations are active that offline would forbid\n"+rest; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	conflict.Set = true
	if got, want := e.Error(), "datastore tank is set offline, and stays so; still active are\n"+rest; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(e, maint.ErrConflict) || !errors.Is(e, context.Canceled) {
		t.Error("what the refusal is for is lost")
	}
}

func TestWhoIsMerelyThereIsNoStranger(t *testing.T) {
	holders := []mounts.Holder{
		{PID: 1, How: mounts.HowCwd, Path: "/m"}, {PID: 2, How: "descriptor", Path: "/m/x"}, {PID: 3, How: mounts.HowRoot, Path: "/m"}, {How: mounts.HowNested, Path: "/m/y"},
	}
	got := strangers(handlesOf("/m", []served.Handle{{Path: "x"}, {Path: "z"}}, holders))
	if len(got) != 2 || got[0].PID != 2 || got[0].Age == nil || got[1].Path != "/m/z" || got[1].How != "opened by" {
		t.Errorf("got %+v, want who has /m/x open, since when, and somebody with /m/z", got)
	}
}
