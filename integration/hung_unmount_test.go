package integration

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// endsWithin is how long a command may take that waits for nobody, on however slow
// a machine. Without a bound it would take for ever.
const endsWithin = time.Minute

// bounded runs a command, and fails the test if it does not end.
func (h *host) bounded(args ...string) result {
	h.t.Helper()
	done := make(chan result, 1)
	go func() { done <- h.run(args...) }()
	select {
	case r := <-done:
		return r
	case <-time.After(endsWithin):
		h.t.Fatalf("pbsfs %q has not ended", args)
	}
	return result{}
}

// A process that does not answer holds up no unmount: it is refused, and nothing
// has changed, or forced, and the mount is gone.
func TestUnmountWhileTheProcessDoesNotAnswer(t *testing.T) {
	needRoot(t)
	h, store := newHost(t), copyFixture(t, "ds-basic")
	m, idle := h.mount(store), h.mount(store)
	a := startActor(t, "hold", m.path(conf)) // opened before
	m.process.signal(t, syscall.SIGSTOP)
	defer m.process.signal(t, syscall.SIGCONT)
	eventually(t, "the process being stopped", func() error {
		if state, _ := m.process.stat(); state != "T" {
			return unlike("its state is %s", state)
		}
		return nil
	})
	waiting := make(chan error, 1)
	go func() { // for a name that the kernel does not know
		_, err := os.Stat(m.path("host/nobody/knows/this"))
		waiting <- err
	}()
	for _, args := range [][]string{{m.dir}, {m.dir + "/"}, {store}} {
		got := h.bounded(append([]string{"unmount", "--wait", "100ms"}, args...)...)
		got.want(t, 1)
		got.says(t, "does not answer", "--force")
	}
	if mountsAt(t, m.dir) != 1 || mountsAt(t, idle.dir) != 1 {
		t.Error("something was unmounted")
	}
	idle.show()
	got := h.bounded("unmount", "--force", "--wait", "0s", m.dir)
	got.want(t, 0)
	if mountsAt(t, m.dir) != 0 {
		t.Error("it is still mounted")
	}
	select {
	case err := <-waiting:
		if err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("who waited for the process got %v, want that the connection is cut", err)
		}
	case <-time.After(endsWithin):
		t.Fatal("who waits for the process still does")
	}
	a.end()
	m.process.signal(t, syscall.SIGCONT)
	eventually(t, "the process ending", m.process.ended)
	idle.unmount()
}

// The first signal ends a command, whatever it waits for.
func TestFirstSignalEndsACommand(t *testing.T) {
	m := newTank(t, copyFixture(t, "ds-basic"))
	a := startActor(t, "hold", m.path(conf))
	for _, args := range [][]string{
		{"unmount", m.dir, "--wait", "1h"},
		{"unmount", tank, "--wait", "1h"},
		{"maintenance", "set", tank, "offline", "--wait", "1h"},
		{"maintenance", "set", tank, "offline", "--drain"},
		{"status", tank, "--watch"},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			cmd := m.host.command(args...)
			must(t, cmd.Start())
			p := findProcess(t, cmd.Process.Pid)
			eventually(t, "the command catching signals", func() error { return catches(p, sig) })
			must(t, cmd.Process.Signal(sig))
			ended := make(chan struct{})
			go func() { _ = cmd.Wait(); close(ended) }()
			select {
			case <-ended:
			case <-time.After(endsWithin):
				_ = cmd.Process.Kill()
				t.Fatalf("pbsfs %q goes on after %s", args, sig)
			}
		}
		m.host.run("maintenance", "clear", tank).want(t, 0)
	}
	if mountsAt(t, m.dir) != 1 {
		t.Error("it is no longer mounted")
	}
	a.end()
}

// catches is nil when a process catches a signal.
func catches(p process, sig syscall.Signal) error {
	text, err := os.ReadFile(p.proc("status"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		mask, ok := strings.CutPrefix(line, "SigCgt:\t")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
		if err != nil || n&(1<<(uint(sig)-1)) == 0 {
			return unlike("it catches %s, %v", mask, err)
		}
		return nil
	}
	return unlike("it does not say what it catches")
}
