package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// foreground is a serving process in the foreground, as a child of the test.
type foreground struct {
	*mount
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan error
}

// serve mounts in the foreground until the test ends.
func serve(t *testing.T, store string, args ...string) *foreground {
	t.Helper()
	h := newHost(t)
	s := &foreground{mount: h.unmounted(store), done: make(chan error, 1)}
	s.cmd = h.command(append([]string{"mount", store, s.dir, "--foreground", "--log", s.log}, args...)...)
	s.cmd.Stderr = &s.stderr
	must(t, s.cmd.Start())
	s.process = findProcess(t, s.cmd.Process.Pid)
	go func() { s.done <- s.cmd.Wait() }()
	eventually(t, "the mount being served", func() error {
		if len(s.records()) == 0 {
			return errors.New("there is no record of it")
		}
		_, err := os.Lstat(s.path("host"))
		return err
	})
	return s
}

// end waits for the end of the process, and checks its exit code and that
// nothing is left.
func (s *foreground) end(code int) {
	s.t.Helper()
	eventually(s.t, "the serving process ending", func() error {
		select {
		case err := <-s.done:
			s.done <- err
			return nil
		default:
			return errors.New("it runs")
		}
	})
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("got exit code %d, want %d; stderr: %s", got, code, s.stderr.String())
	}
	s.gone()
}

// ending waits until the process has taken notice of a signal.
func (s *foreground) ending() {
	s.t.Helper()
	eventually(s.t, "the process ending its mount", func() error {
		if len(s.logLines("msg=ending")) == 0 {
			return errors.New("it does not say so")
		}
		return nil
	})
}

func TestMountReturnsWhenTreeAnswers(t *testing.T) {
	m := mountAt(t, fixture(t, "ds-basic"))
	must(t, shown(diskImage)(m)) // at once
	info := mountInfo(t, m.dir)
	if len(info) != 1 || !strings.Contains(info[0], " - fuse.pbsfs "+m.store+" ro") {
		t.Errorf("got the mount %q, want one of type fuse.pbsfs of %s, read-only", info, m.store)
	}
	for _, flag := range []string{"ro", "nosuid", "nodev"} {
		if !strings.Contains(","+strings.Fields(info[0])[5]+",", ","+flag+",") {
			t.Errorf("the mount is not %s: %s", flag, info[0])
		}
	}
	if r := m.records(); len(r) != 1 || r[0].Path != m.store || r[0].PID != m.process.pid {
		t.Errorf("got the records %+v", r)
	}
	m.unmount()
}

func TestUnmountByDatastore(t *testing.T) {
	h, store := newHost(t), fixture(t, "ds-basic")
	other := h.mount(fixture(t, "ds-split"))
	mounts := []*mount{h.mount(store), h.mount(store)}
	h.run("unmount", store).want(t, 0)
	for _, m := range mounts {
		m.gone()
	}
	if mountsAt(t, other.dir) != 1 || !other.process.alive() {
		t.Error("a mount of another datastore is gone as well")
	}
	h.run("unmount", store).want(t, 1)
	h.run("unmount", mounts[0].dir).want(t, 1)
}

func TestUnmountRefusedWithOpenFile(t *testing.T) {
	m := mountAt(t, fixture(t, "ds-basic"))
	for _, path := range []string{diskImage, alpha + "/etc.pxar"} {
		f, err := os.Open(m.path(path))
		must(t, err)
		m.host.run("unmount", m.dir, "--wait", "100ms").want(t, 3)
		m.host.run("unmount", m.store, "--wait", "0s").want(t, 3)
		if mountsAt(t, m.dir) != 1 || !m.process.alive() {
			t.Error("it is no longer mounted")
		}
		must(t, f.Close())
	}
	must(t, shown(alpha+"/root.pxar")(m))
	m.unmount()
}

func TestUnmountWaitsForOpenFile(t *testing.T) {
	m := mountAt(t, fixture(t, "ds-basic"))
	f, err := os.Open(m.path(diskImage))
	must(t, err)
	cmd := m.host.command("unmount", m.dir, "--wait", "1m")
	must(t, cmd.Start())
	if mountsAt(t, m.dir) != 1 {
		t.Error("it is no longer mounted")
	}
	must(t, f.Close())
	if err := cmd.Wait(); err != nil {
		t.Errorf("unmount: %v", err)
	}
	m.gone()
}

// An administrator's umount(8) ends the serving process too.
func TestUmountEndsServer(t *testing.T) {
	needRoot(t)
	s := serve(t, fixture(t, "ds-basic"))
	tool(t, "umount", s.dir)
	s.end(0)
}

func TestTermEndsIdleMount(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := serve(t, fixture(t, "ds-basic"))
		s.process.signal(t, sig)
		s.end(0)
	}
}

func TestTermWaitsForOpenFile(t *testing.T) {
	s := serve(t, fixture(t, "ds-basic"), "--stop-timeout", "10m")
	f, err := os.Open(s.path(diskImage))
	must(t, err)
	s.process.signal(t, syscall.SIGTERM)
	s.ending()
	_, err = os.Open(s.path(vm100, "qemu-server.conf"))
	if err == nil {
		t.Error("a file can be opened while the mount ends")
	}
	content := make([]byte, 1<<20)
	if _, err := f.ReadAt(content, 40<<20); err != nil {
		t.Errorf("reading an open file while the mount ends: %v", err)
	}
	if !s.process.alive() || mountsAt(t, s.dir) != 1 {
		t.Error("the mount ended although a file is open")
	}
	must(t, f.Close())
	s.end(0)
}

func TestTermCutsOffOpenFiles(t *testing.T) {
	s := serve(t, fixture(t, "ds-basic"), "--stop-timeout", "200ms")
	f, err := os.Open(s.path(diskImage))
	must(t, err)
	defer f.Close() // its mount is gone by then
	s.process.signal(t, syscall.SIGTERM)
	s.end(1)
	if text := s.stderr.String(); !strings.HasPrefix(text, "pbsfs: ") || !strings.Contains(text, "/"+diskImage) {
		t.Errorf("got this on stderr, want a list with the open file:\n%s", text)
	}
	if _, err := f.ReadAt(make([]byte, 4096), 40<<20); err == nil {
		t.Error("what was cut off can still be read")
	}
}

func TestSecondTermEndsAtOnce(t *testing.T) {
	s := serve(t, fixture(t, "ds-basic"), "--stop-timeout", "10m")
	f, err := os.Open(s.path(diskImage))
	must(t, err)
	defer f.Close() // its mount is gone by then
	s.process.signal(t, syscall.SIGTERM)
	s.ending()
	s.process.signal(t, syscall.SIGTERM)
	s.end(1)
	if text := s.stderr.String(); !strings.Contains(text, "/"+diskImage) {
		t.Errorf("got this on stderr, want a list with the open file:\n%s", text)
	}
}

func TestUnmountAfterCrash(t *testing.T) {
	h, store := newHost(t), fixture(t, "ds-basic")
	m := h.mount(store)
	m.process.signal(t, syscall.SIGKILL)
	eventually(t, "the process being gone", m.process.ended)
	eventually(t, "the tree of a killed process being gone", func() error {
		// The kernel remembers the top for half a second.
		if _, err := os.Stat(m.dir); !errors.Is(err, unix.ENOTCONN) {
			return unlike("stat gives %v, want %v", err, unix.ENOTCONN)
		}
		return nil
	})
	got := m.run()
	got.want(t, 1)
	if !strings.Contains(got.stderr, "pbsfs unmount") {
		t.Errorf("got the message %q, want one that says how to clean up", got.stderr)
	}
	m.unmount()
	m.run().want(t, 0)
	m.process = m.findServer()
	must(t, shown(diskImage)(m))
}

// When a user's mount ends, nothing is left either.
func TestLifeOfUserMount(t *testing.T) {
	h := newUserHost(t)
	needUserMounts(t)
	store := copyFixture(t, "ds-basic")
	tool(t, "chown", "-R", fmt.Sprint(nobody), store)
	m := h.mount(store)
	file := make(chan *os.File, 1)
	must(t, asUser(nobody, func() error {
		f, err := os.Open(m.path(vm100, "qemu-server.conf"))
		file <- f
		return err
	}))
	h.run("unmount", m.dir, "--wait", "100ms").want(t, 3)
	must(t, (<-file).Close())
	m.unmount()

	m = h.mount(store)
	m.process.signal(t, syscall.SIGTERM)
	eventually(t, "the process being gone", m.process.ended)
	m.gone()
}
