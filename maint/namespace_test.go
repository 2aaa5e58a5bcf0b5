package maint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/pbs"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// containedEnv has a helper mount a /proc of its own.
const containedEnv = "PBSFS_MAINT_TEST_CONTAINED"

// contain makes this process one of a container, if that is what it is to be.
func contain() {
	if os.Getenv(containedEnv) == "" {
		return
	}
	// What other tests unmount is unmounted here too.
	must(0, unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""))
	must(0, unix.Mount("proc", "/proc", "proc", 0, ""))
}

// startContained starts a helper in a pid namespace of its own, with or without a
// /proc of its own.
func startContained(t *testing.T, proc bool, what string, args ...string) *other {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	flags := uintptr(unix.CLONE_NEWPID)
	if proc {
		flags |= unix.CLONE_NEWNS
		t.Setenv(containedEnv, "yes")
		defer os.Unsetenv(containedEnv)
	}
	return startOtherWith(t, &syscall.SysProcAttr{Cloneflags: flags}, what, args...)
}

// helpSet sets a mode and says how that went: DIR STORE MODE.
func helpSet(args []string) {
	contain()
	err := SetMode(context.Background(), must(dirsHost(args[0])), args[1], cfg.ModeType(args[2]), SetOptions{})
	fmt.Println("ready")
	switch {
	case errors.Is(err, ErrConflict):
		fmt.Println("refused")
	default:
		fmt.Println(err)
	}
}

func TestContainerTakesNothingAway(t *testing.T) {
	p := newPlace(t)
	ops := p.operations(t, nil)
	begin(t, ops, cfg.Read)
	before := p.read(t, opsName)
	inside := startContained(t, true, "hold", p.dir, testStore, "read")
	if got := p.read(t, opsName); got != before {
		t.Errorf("the container changed the operations file from %s to %s", before, got)
	}
	if got := p.sum(t); got.Read != 2 {
		t.Errorf("got %v, want ours and the container's", got)
	}
	procs, err := Processes(p.host, testStore)
	if err != nil || len(procs) != 2 || procs[1].PID != inside.pid() {
		t.Errorf("got %+v, %v, want the container's process %d, as it is called here", procs, err, inside.pid())
	}
	inside.kill()
	if got := p.sum(t); got.Read != 1 {
		t.Errorf("after the container was killed: %v", got)
	}
	if left, _ := filepath.Glob(filepath.Join(p.dir, "run", guestsName, "*")); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
}

func TestContainerThatCameFirstIsCounted(t *testing.T) {
	p := newPlace(t)
	inside := startContained(t, true, "hold", p.dir, testStore, "write")
	ops := p.operations(t, nil)
	g := begin(t, ops, cfg.Read)
	if got := p.sum(t); got != (opsfile.Counts{Read: 1, Write: 1}) {
		t.Errorf("got %v, want ours and the container's", got)
	}
	if err := SetMode(t.Context(), p.host, testStore, cfg.ReadOnly, SetOptions{}); !errors.Is(err, ErrConflict) {
		t.Errorf("read-only while the container writes: %v", err)
	}
	inside.kill()
	p.setMode(t, cfg.ReadOnly, SetOptions{})
	p.clearMode(t)
	if got := p.sum(t); got != (opsfile.Counts{Read: 1}) {
		t.Errorf("after the container was killed: %v", got)
	}
	g.Release()
	if err := ops.Close(); err != nil {
		t.Fatal(err)
	}
	begin(t, p.operations(t, nil), cfg.Read)
	if got := ownCount(t, p); got.Read != 1 {
		t.Errorf("who comes after the container is not at home: %v", got)
	}
}

func TestGuestsCountComesBack(t *testing.T) {
	p := newPlace(t)
	startContained(t, true, "hold", p.dir, testStore, "read")
	ops := p.operations(t, nil)
	begin(t, ops, cfg.Read)
	for _, what := range []string{guestsName, guestsName + "/*", guestsName + "/*/" + aliveName, guestsName + "/*/" + testStore} {
		all, err := filepath.Glob(filepath.Join(p.dir, "run", what))
		if err != nil || len(all) == 0 {
			t.Fatalf("%s: %v", what, err)
		}
		for _, f := range all {
			if err := os.RemoveAll(f); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "both are counted", func() bool { return p.sum(t) == opsfile.Counts{Read: 2} })
	}
}

func TestNumbersAreThoseOfProc(t *testing.T) {
	p := newPlace(t)
	inside := startContained(t, false, "hold", p.dir, testStore, "read")
	if got, want := p.read(t, opsName), entryText(inside.process(t), 1, 0); got != "["+want+"]" {
		t.Errorf("got %s, want %s", got, want)
	}
	inside.kill()
	p.setMode(t, cfg.Offline, SetOptions{})
}

func TestServerThatCannotBeSeenIsNotDisturbed(t *testing.T) {
	p, proxy, _ := newPBSPlace(t)
	text := "[" + entryText(proxy.process(t), 3, 1) + "]"
	p.write(t, opsName, text)
	set := startContained(t, true, "set", p.dir, testStore, "offline")
	if got := set.hear(t); got != "refused" {
		t.Errorf("offline was set: %q", got)
	}
	track := startContained(t, true, "track", p.dir, testStore)
	if got := track.hear(t); !strings.Contains(got, "cannot be seen") {
		t.Errorf("registering: got %q", got)
	}
	if got := p.read(t, opsName); got != text {
		t.Errorf("the file is now %s", got)
	}
}

// A process that happens to have the number of a daemon is not one.
func TestCoincidenceIsNotTheServer(t *testing.T) {
	p := newPlace(t)
	p.write(t, "run/proxy.pid", fmt.Sprint(startOther(t, "sleep").pid()))
	p.look(t)
	daemons, err := pbs.Daemons(p.host)
	if len(daemons) > 0 {
		t.Errorf("got %v, %v", daemons, err)
	}
}

// A server in a container has other numbers here.
func TestServerInAContainerIsFound(t *testing.T) {
	inside := startContained(t, true, "daemon")
	p := newPlace(t)
	p.write(t, "run/proxy.pid", "1")
	p.look(t)
	if _, err := pbs.Daemons(p.host); err == nil || !strings.Contains(err.Error(), fmt.Sprint(inside.pid())) {
		t.Errorf("got %v, want an error that names process %d", err, inside.pid())
	}
	if err := CheckTracking(t.Context(), p.host, testStore); !errors.Is(err, ErrUncounted) {
		t.Errorf("CheckTracking: %v", err)
	}
	text := "[" + entryText(procfs.Process{PID: 1, StartTime: 1}, 2, 0) + "]" // of the server's
	p.write(t, opsName, text)
	if err := SetMode(t.Context(), p.host, testStore, cfg.Offline, SetOptions{}); !errors.Is(err, ErrConflict) {
		t.Errorf("SetMode while the server reads: %v", err)
	}
	if got := p.read(t, opsName); got != text {
		t.Errorf("the file is now %s", got)
	}
}

// Where the server is in the same container, it is as if there was none.
func TestServerInTheSameContainer(t *testing.T) {
	p := newPlace(t)
	p.write(t, "run/proxy.pid", "1")
	p.write(t, "run/api.pid", "77") // has ended
	inside := startContained(t, true, "server", p.dir, testStore)
	if got := inside.hear(t); got != "<nil>" {
		t.Errorf("registering: got %s", got)
	}
	if got := p.read(t, opsName); !strings.HasPrefix(got, `[{"pid":1,`) {
		t.Errorf("got the file %s, want the server's daemon in it", got)
	}
}

// A container with a server of its own that is shown the directories of the host's:
// even where pid and name are the same, it is another server.
func TestAnotherServerWithTheSamePID(t *testing.T) {
	p := newPlace(t)
	p.write(t, "run/proxy.pid", "1")
	text := "[" + entryText(procfs.Process{PID: 1, StartTime: 12}, 3, 1) + "]"
	p.write(t, opsName, text)
	inside := startContained(t, true, "server", p.dir, testStore)
	if got := inside.hear(t); !strings.Contains(got, "cannot be seen") {
		t.Errorf("registering: got %s", got)
	}
	if got := p.read(t, opsName); got != text {
		t.Errorf("the file is now %s", got)
	}
}

// helpServer is a server's daemon that registers an operation: DIR STORE.
func helpServer(args []string) {
	contain()
	nameDaemon()
	ops := must(NewOperations(Options{Store: args[1], Host: must(dirsHost(args[0])), Linger: -1}))
	cmd := exec.Command("sleep", "1000") // another process of the container
	must(0, cmd.Start())
	_, err := ops.Begin(context.Background(), cfg.Read)
	fmt.Println("ready")
	fmt.Println(err)
	io.Copy(io.Discard, os.Stdin)
}

// The mode of an unmount in another pid namespace is not taken back.
func TestUnmountInAnotherNamespaceGoesOn(t *testing.T) {
	here, err := processPlace()
	if err != nil {
		t.Fatal(err)
	}
	gone := startOther(t, "sleep")
	p := gone.process(t)
	gone.kill()
	for place, want := range map[string]bool{
		here:                    true,
		here[:8] + "n1234567":   false,
		"0000ffff" + "n1234567": true, // before this boot
		"0123456789abcdef":      true,
	} {
		u := unmounting{pid: p.PID, starttime: p.StartTime, place: place, readOnly: true}
		m := cfg.Mode{Type: cfg.Unmount, Message: u.String()}
		if back, ok := ownUnmounting(m); !ok || back != u || len(m.Message) > cfg.MaxMessage {
			t.Errorf("%q: read as %+v, %v", m.Message, back, ok)
		}
		if got := Abandoned(m); got != want {
			t.Errorf("%q: abandoned: %v, want %v", m.Message, got, want)
		}
	}
}

func TestMarks(t *testing.T) {
	me, err := procfs.MarkSelf()
	if err != nil {
		t.Fatal(err)
	}
	ended := startOther(t, "sleep")
	gone := ended.process(t)
	ended.kill()
	elsewhere, unknown := me, me
	elsewhere.Namespace, unknown.Namespace = "pid:[1]", "unknown"
	for _, tt := range []struct {
		what string
		mark procfs.ProcessMark
		want procfs.Sight
	}{
		{"this process", me, procfs.Runs},
		{"one that has ended", procfs.ProcessMark{PID: gone.PID, StartTime: gone.StartTime, Namespace: me.Namespace}, procfs.Ended},
		{"another with its pid", procfs.ProcessMark{PID: me.PID, StartTime: me.StartTime + 5, Namespace: me.Namespace}, procfs.Ended},
		{"another namespace", elsewhere, procfs.Unseen},
		{"one that was not known", unknown, procfs.Unseen},
	} {
		if got := tt.mark.Look(); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.what, got, tt.want)
		}
	}
}

// Who lives in another time namespace has the same start time all the same.
func TestTimeNamespace(t *testing.T) {
	if _, err := os.Stat("/proc/self/ns/time"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root, and time namespaces")
	}
	p := newPlace(t)
	startOtherBy(t, []string{"unshare", "--time", "--boottime", "100000", "--fork", "--kill-child"}, "hold", p.dir, testStore, "read")
	ops := p.operations(t, nil)
	begin(t, ops, cfg.Read)
	if got := p.sum(t); got != (opsfile.Counts{Read: 2}) {
		t.Errorf("got %v, want ours and the other's: %s", got, p.read(t, opsName))
	}
	set := startOtherBy(t, []string{"unshare", "--time", "--boottime", "100000", "--fork", "--kill-child"}, "set", p.dir, testStore, "offline")
	if got := set.hear(t); got != "refused" {
		t.Errorf("from there offline was set: %q", got)
	}
	if got := p.sum(t); got != (opsfile.Counts{Read: 2}) {
		t.Errorf("got %v afterwards", got)
	}
}
