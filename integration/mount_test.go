package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// mount is a mounted datastore.
type mount struct {
	t       *testing.T
	host    *host
	store   string // path of the datastore
	dir     string // where it is mounted
	log     string // what the serving process logs
	process process
}

// mountAt mounts a datastore on a host of its own until the test ends.
func mountAt(t *testing.T, store string, args ...string) *mount {
	t.Helper()
	return newHost(t).mount(store, args...)
}

// mount mounts a datastore until the test ends, which must leave nothing.
func (h *host) mount(store string, args ...string) *mount {
	h.t.Helper()
	m := h.unmounted(store)
	m.run(args...).want(h.t, 0)
	if h.t.Failed() {
		h.t.FailNow()
	}
	m.process = m.findServer()
	return m
}

// unmounted prepares a mount: a directory, a log, and the end of both.
func (h *host) unmounted(store string) *mount {
	h.t.Helper()
	needFUSE(h.t)
	base, err := os.MkdirTemp(h.dir, "mount-")
	must(h.t, err)
	must(h.t, os.Chmod(base, 0o755))
	m := &mount{t: h.t, host: h, store: store, dir: subdir(h.t, base, "mnt"), log: filepath.Join(base, "log")}
	for _, p := range []string{base, m.dir} {
		must(h.t, os.Chown(p, h.uid, -1))
	}
	h.t.Cleanup(m.clean)
	return m
}

// run runs the mount command.
func (m *mount) run(args ...string) result {
	m.t.Helper()
	return m.host.run(append([]string{"mount", m.store, m.dir, "--log", m.log}, args...)...)
}

// path returns a path below the mount point.
func (m *mount) path(below ...string) string {
	return filepath.Join(append([]string{m.dir}, below...)...)
}

// record is what a mount leaves in the run directory.
type record struct {
	PID        int    `json:"pid"`
	Datastore  string `json:"datastore"`
	Path       string `json:"path"`
	Mountpoint string `json:"mountpoint"`
}

// records returns those of this mount.
func (m *mount) records() []record {
	m.t.Helper()
	files, err := filepath.Glob(filepath.Join(m.host.runDir(), "mounts", "*.json"))
	must(m.t, err)
	var out []record
	for _, f := range files {
		var r record
		text, err := os.ReadFile(f)
		if err != nil || json.Unmarshal(text, &r) != nil {
			continue // it is just being written, or removed
		}
		if r.Mountpoint == m.dir {
			out = append(out, r)
		}
	}
	return out
}

// findServer returns the process that serves the mount.
func (m *mount) findServer() process {
	m.t.Helper()
	all := m.records()
	if len(all) != 1 {
		m.t.Fatalf("%s: got %d records of the mount, want 1", m.dir, len(all))
	}
	return findProcess(m.t, all[0].PID)
}

// name is what the datastore is called in messages.
func (m *mount) name() string {
	m.t.Helper()
	all := m.records()
	if len(all) != 1 {
		m.t.Fatalf("%s: got %d records of the mount, want 1", m.dir, len(all))
	}
	return all[0].Datastore
}

// unmount unmounts, and expects that to work.
func (m *mount) unmount() {
	m.t.Helper()
	m.host.run("unmount", m.dir).want(m.t, 0)
	m.gone()
}

// gone checks that nothing is left of the mount.
func (m *mount) gone() {
	m.t.Helper()
	if n := mountsAt(m.t, m.dir); n != 0 {
		m.t.Errorf("%s: still mounted", m.dir)
	}
	if m.process.pid != 0 && m.process.alive() {
		m.t.Errorf("%s: process %d still serves it", m.dir, m.process.pid)
	}
	if m.process.pid == 0 {
		return
	}
	left, err := filepath.Glob(filepath.Join(m.host.runDir(), "mounts", fmt.Sprintf("%d.*", m.process.pid)))
	must(m.t, err)
	if len(left) > 0 {
		m.t.Errorf("%s: its record is left: %q", m.dir, left)
	}
}

// clean ends the mount after a test, and checks that nothing is left of it.
func (m *mount) clean() {
	if mountsAt(m.t, m.dir) > 0 {
		if m.process.pid != 0 && !m.process.alive() {
			m.t.Errorf("%s: process %d died while it served the mount", m.dir, m.process.pid)
		}
		m.host.run("unmount", m.dir, "--wait", "10s").want(m.t, 0)
	}
	m.gone()
	if m.t.Failed() {
		if text, err := os.ReadFile(m.log); err == nil && len(text) > 0 {
			m.t.Logf("log of %s:\n%s", m.dir, lastLines(string(text), 20))
		}
	}
	// A test that failed must not trip the next one.
	for mountsAt(m.t, m.dir) > 0 {
		if unix.Unmount(m.dir, unix.MNT_DETACH) != nil && exec.Command("fusermount3", "-uz", m.dir).Run() != nil {
			break
		}
	}
	if m.process.pid != 0 {
		m.process.signal(m.t, syscall.SIGKILL)
	}
}

// logLines returns the lines of the log that hold all of the texts.
func (m *mount) logLines(texts ...string) []string {
	m.t.Helper()
	log, err := os.ReadFile(m.log)
	must(m.t, err)
	var out []string
lines:
	for line := range strings.Lines(string(log)) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		out = append(out, strings.TrimSuffix(line, "\n"))
	}
	return out
}

// mountInfo returns the lines of the mount table for a mount point.
func mountInfo(t *testing.T, dir string) []string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	var out []string
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == dir {
			out = append(out, line)
		}
	}
	return out
}

// mountsAt returns how many mounts there are on a directory.
func mountsAt(t *testing.T, dir string) int {
	t.Helper()
	return len(mountInfo(t, dir))
}

func needFUSE(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	if os.Geteuid() != 0 {
		needUserMounts(t)
	}
}

// needUserMounts skips the test where ordinary users cannot mount.
func needUserMounts(t *testing.T) {
	t.Helper()
	needTool(t, "fusermount3")
	info, err := os.Stat("/dev/fuse")
	must(t, err)
	if info.Mode().Perm()&0o006 != 0o006 {
		t.Skipf("needs /dev/fuse open to ordinary users, as udev makes it; it has mode %o", info.Mode().Perm())
	}
}
