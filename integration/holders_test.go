package integration

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// holding is a way to have a file in use.
type holding struct {
	name string
	how  string // as messages say it
	// hold begins, and returns who messages name and how to end it.
	hold func(t *testing.T, path string) (who string, free func())
}

// byActor is a holding by another process.
func byActor(name, how, role string) holding {
	return holding{name, how, func(t *testing.T, path string) (string, func()) {
		a := startActor(t, role, path)
		return a.who(), a.end
	}}
}

// holdings keep a file open.
var holdings = []holding{
	byActor("another process", "descriptor", "hold"),
	byActor("a thread that ended", "descriptor", "thread"),
	byActor("inherited from a process that ended", "descriptor", "inherit"),
	byActor("a mapping of a closed file", "mapping", "map"),
	{"a loop device", "loop device", func(t *testing.T, path string) (string, func()) {
		needLoop(t)
		dev := strings.TrimSpace(tool(t, "losetup", "--find", "--show", "--read-only", path))
		detach := func() { _ = exec.Command("losetup", "--detach", dev).Run() }
		t.Cleanup(detach)
		return dev, detach
	}},
}

// presences are in the way of an unmount without an open file. Each is about a
// directory.
var presences = []holding{
	byActor("a working directory", "cwd", "cwd"),
	byActor("a working directory of a thread", "cwd", "cwd of a thread"),
	{"a nested mount", "nested mount", func(t *testing.T, path string) (string, func()) {
		must(t, unix.Mount("none", path, "tmpfs", 0, "size=64k"))
		free := func() { _ = unix.Unmount(path, unix.MNT_DETACH) }
		t.Cleanup(free)
		return "tmpfs", free
	}},
}

func TestRefusalsNameWhoHoldsAFile(t *testing.T) {
	needRoot(t)
	m := newTank(t, fixture(t, "ds-basic"))
	path := m.path(diskImage)
	for _, c := range holdings {
		t.Run(c.name, func(t *testing.T) {
			who, free := c.hold(t, path)
			line := "\n  " + who + " (" + c.how + "): " + path + "\n"
			config := m.host.config()

			refused := m.host.run("maintenance", "set", tank, "offline", "--wait", "200ms")
			refused.want(t, 3)
			refused.says(t, line)
			if got := m.host.config(); got != config {
				t.Errorf("refused, but datastore.cfg changed from %q to %q", config, got)
			}
			if err := opens(m.path(conf)); err != nil {
				t.Errorf("refused, but: %v", err)
			}
			refused = m.host.run("unmount", m.dir, "--wait", "0s")
			refused.want(t, 3)
			refused.says(t, line)

			free()
			m.host.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
			wantErrno(t, "opening in offline maintenance", opens(path), unix.EHOSTDOWN)
			m.host.run("maintenance", "clear", tank).want(t, 0)
			if err := opens(path); err != nil {
				t.Errorf("after the maintenance: %v", err)
			}
		})
	}
}

// The refusal comes after --wait and not later, and a file that is closed
// meanwhile is no reason for one.
func TestSetWaitsForOpenFile(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	a := startActor(t, "hold", m.path(conf))
	set := m.host.start("maintenance", "set", tank, "offline", "--wait", "1m")
	throughout(t, 300*time.Millisecond, "waiting with the file open", func() error {
		if strings.Contains(m.host.config(), "offline") {
			return unlike("datastore.cfg has %q", m.host.config())
		}
		return nil
	})
	a.end()
	set.end(0)
	m.host.run("maintenance", "clear", tank).want(t, 0)
}

// read-only maintenance is in no reader's way.
func TestReadersDoNotHinderReadOnly(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	a := startActor(t, "hold", m.path(diskImage))
	m.host.run("maintenance", "set", tank, "read-only", "--wait", "0s").want(t, 0)
	if err := opens(m.path(conf)); err != nil {
		t.Errorf("in read-only maintenance: %v", err)
	}
	m.host.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 3)
	if mode := m.host.status().Mode; mode == nil || *mode != "read-only" {
		t.Errorf("got the mode %v after a refusal, want read-only", mode)
	}
	a.end()
	m.host.run("maintenance", "clear", tank).want(t, 0)
}

// Who is merely there is in the way of an unmount, but not of maintenance.
func TestUnmountNamesWhoIsThere(t *testing.T) {
	needRoot(t)
	m := newTank(t, fixture(t, "ds-basic"))
	path := m.path("host/alpha")
	for _, c := range presences {
		t.Run(c.name, func(t *testing.T) {
			who, free := c.hold(t, path)
			refused := m.host.run("unmount", m.dir, "--wait", "100ms")
			refused.want(t, 3)
			refused.says(t, "\n  "+who+" ("+c.how+"): "+path+"\n")
			if mountsAt(t, m.dir) != 1 || !m.process.alive() {
				t.Fatal("it is no longer mounted")
			}
			m.host.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
			m.host.run("maintenance", "clear", tank).want(t, 0)
			free()
		})
	}
	m.unmount()
}

// A descriptor on its way between processes is nobody's: then all that is known
// is who opened the file.
func TestOpenerIsNamedWhereNobodyHolds(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	path := m.path(conf)
	a := startActor(t, "transit", path)
	s := m.host.status()
	if len(s.Handles) != 1 || s.Handles[0].Path != path || s.Handles[0].PID != a.pid || !strings.Contains(s.Handles[0].How, "opened by") {
		t.Errorf("got the handles %+v, want one of %s, opened by %d", s.Handles, path, a.pid)
	}
	refused := m.host.run("maintenance", "set", tank, "offline", "--wait", "0s")
	refused.want(t, 3)
	refused.says(t, a.who(), "opened by", path)
	a.end()
	eventually(t, "nothing being open", func() error {
		if s := m.host.status(); len(s.Handles) > 0 {
			return unlike("there is %+v", s.Handles)
		}
		return nil
	})
}

func TestForcedUnmountSaysWhatItLeaves(t *testing.T) {
	needRoot(t)
	m := newTank(t, fixture(t, "ds-basic"))
	path := m.path(diskImage)
	a := startActor(t, "hold", path)
	got := m.host.run("unmount", m.dir, "--force", "--wait", "0s")
	got.want(t, 0)
	got.says(t, a.who(), path)
	if mountsAt(t, m.dir) != 0 {
		t.Error("it is still mounted")
	}
	if s := m.host.status(); len(s.Mounts) != 1 || !s.Mounts[0].TakenAway {
		t.Errorf("status: got the mounts %+v, want one that was taken away", s.Mounts)
	}
	// It is counted until it is closed, and can be read.
	if n := m.host.status().reads(); n != 1 {
		t.Errorf("got %d reads after a forced unmount with an open file, want 1", n)
	}
	refused := m.host.run("maintenance", "set", tank, "offline", "--wait", "0s")
	refused.want(t, 3)
	refused.says(t, a.who(), path)
	want := truthOf(t, "ds-basic", diskImage).entries[0].SHA256
	if sum := a.ask("read"); sum != want {
		t.Errorf("reading after a forced unmount: got %s, want %s", sum, want)
	}
	a.end()
	eventually(t, "the serving process ending", m.process.ended)
	m.host.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 0)
	if _, err := os.Stat(m.dir); err != nil {
		t.Error(err)
	}
}
