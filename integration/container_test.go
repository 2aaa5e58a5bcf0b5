package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// inside prepares a command of the program in a container, which has processes and
// mounts of its own, and shares the directories of the host.
func (h *host) inside(args ...string) *exec.Cmd {
	h.t.Helper()
	needRoot(h.t)
	needTool(h.t, "unshare")
	cmd := h.command(args...)
	path, err := exec.LookPath("unshare")
	must(h.t, err)
	cmd.Path = path
	cmd.Args = append([]string{"unshare", "--pid", "--fork", "--mount-proc", "--propagation", "slave", "--kill-child", program}, args...)
	return cmd
}

// runInside runs a command in a container to its end.
func (h *host) runInside(args ...string) result {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := h.inside(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return result{args, cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// contained is a mount in a container.
type contained struct {
	host *host
	cmd  *exec.Cmd
	dir  string // its tree, as seen from here
}

// mountInside mounts a datastore in a container.
func (h *host) mountInside(store string) *contained {
	h.t.Helper()
	needFUSE(h.t)
	at := subdir(h.t, tempDir(h.t), "mnt")
	c := &contained{host: h, cmd: h.inside("mount", "--foreground", store, at)}
	must(h.t, c.cmd.Start())
	h.t.Cleanup(c.kill)
	eventually(h.t, "the mount in the container answering", func() error {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.cmd.Process.Pid, c.cmd.Process.Pid))
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return err
		}
		c.dir = filepath.Join("/proc", strconv.Itoa(pid), "root", at)
		_, err = os.Lstat(filepath.Join(c.dir, "host"))
		return err
	})
	return c
}

func (c *contained) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// Whatever is done in a container that shares the directories, what lives outside
// stays counted, recorded and reachable.
func TestContainerTakesNothingAway(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	f, err := os.Open(m.path(conf))
	must(t, err)
	must(t, countedIn(m.host, m.process))
	for _, args := range [][]string{
		{"status"},
		{"cat", tank, conf},
		{"ls", tank},
		{"maintenance", "show", tank},
		{"datastore", "list"},
		{"maintenance", "set", tank, "offline", "--wait", "0s"},
		{"maintenance", "clear", tank},
		{"datastore", "remove", tank},
	} {
		got := m.host.runInside(args...)
		if refused := slices.Contains(args, "set") || slices.Contains(args, "remove"); refused && got.code != 3 {
			t.Errorf("%q in the container: got exit code %d, want 3; stderr: %s", args, got.code, got.stderr)
		}
		if err := countedIn(m.host, m.process); err != nil {
			t.Errorf("after %q in the container: %v", args, err)
		}
		if s := m.host.status(); len(s.Mounts) != 1 || s.Mounts[0].PID != m.process.pid || len(s.Handles) != 1 || len(s.Problems) > 0 {
			t.Errorf("after %q in the container: got the status %+v", args, s)
		}
	}
	must(t, f.Close())
	m.unmount()
}

// countedIn reports whether the operations file of a host counts a process.
func countedIn(h *host, p process) error {
	for _, o := range h.operations() {
		if o.PID == p.pid && fmt.Sprint(o.StartTime) == p.start && o.Active.Read > 0 {
			return nil
		}
	}
	return unlike("process %d is not counted", p.pid)
}

// A mount in a container is counted for those outside, whoever came first.
func TestMountInAContainerIsCounted(t *testing.T) {
	store := fixture(t, "ds-basic")
	for _, first := range []string{"the container", "the host"} {
		t.Run(first, func(t *testing.T) {
			h := newHost(t)
			h.run("datastore", "add", tank, store).want(t, 0)
			var outside *os.File
			if first == "the host" {
				m := h.mount(store)
				f, err := os.Open(m.path(conf))
				must(t, err)
				outside = f
			}
			c := h.mountInside(tank)
			f, err := os.Open(filepath.Join(c.dir, conf))
			must(t, err)
			if outside != nil {
				must(t, outside.Close())
			}
			eventually(t, "the container alone being counted", func() error {
				if n := h.status().reads(); n != 1 {
					return unlike("there are %d reads", n)
				}
				return nil
			})
			h.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 3)
			if got := h.runInside("maintenance", "set", tank, "offline", "--wait", "0s"); got.code != 3 {
				t.Errorf("in another container: got exit code %d: %s", got.code, got.stderr)
			}
			c.kill()
			_ = f.Close()
			h.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
			h.run("maintenance", "clear", tank).want(t, 0)
			if s := h.status(); s.reads() != 0 || len(s.Problems) > 0 {
				t.Errorf("after the container was killed: got the status %+v", s)
			}
		})
	}
}
