package packaging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen: far longer than it takes.
const patience = time.Minute

// machine is a fresh Debian of the test's own, in a directory. When it is on, its systemd
// runs in namespaces of its own, and it has a network with nobody else on it.
type machine struct {
	t    *testing.T
	root string
	init int    // its first process, as seen from here; 0 while it is off
	off  func() // as if its power were cut
}

// newMachine installs a Debian like the one that the test runs on, with packages.
func newMachine(t *testing.T, packages ...string) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"mmdebstrap", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	suite := run(t, "sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME")
	m := &machine{t: t, root: filepath.Join(t.TempDir(), "root")}
	args := []string{
		"--quiet", "--variant=minbase", "--include=" + strings.Join(packages, ","), "--dpkgopt=force-unsafe-io",
		"--aptopt=Acquire::Languages \"none\"", strings.TrimSpace(suite), m.root,
	}
	if sources := "/etc/apt/sources.list.d/debian.sources"; exists(sources) {
		args = append(args, sources) // this machine may have one nearer by than Debian's
	}
	run(t, "mmdebstrap", args...)
	return m
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// on starts the machine, and waits until it has started everything. It is off when the test
// ends.
func (m *machine) on() {
	m.t.Helper()
	group := "pbsfs-test-" + strconv.Itoa(os.Getpid())
	cmd := exec.Command("unshare", "--mount", "--fork", "--kill-child", "sh", "testdata/boot.sh", m.root, group)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr // what makes the machine says only what fails
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.off = func() {
		_ = syscall.Kill(m.init, syscall.SIGKILL) // all others go with it
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was ended, as intended
		m.init, m.off = 0, func() {}
		m.eventually("the control groups going", func() error {
			return exec.Command("unshare", "--mount", "sh", "-c", `mount -t cgroup2 cgroup2 "$0" && find "$0/$1" -depth -type d -exec rmdir {} +`,
				filepath.Join(m.root, "sys"), group).Run()
		})
	}
	m.t.Cleanup(func() { m.off() })
	m.eventually("the machine starting", func() error {
		m.init = descendant(cmd.Process.Pid, "systemd")
		if m.init == 0 {
			return errors.New("no systemd yet")
		}
		if state, _ := m.try("systemctl", "is-system-running"); state != "running\n" {
			failed, _ := m.try("systemctl", "--failed", "--no-legend")
			return fmt.Errorf("the system is %s%s", state, failed)
		}
		return nil
	})
}

// descendant returns the process of that name that a process started, or one of those that
// it started, or 0.
func descendant(pid int, name string) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	for _, child := range strings.Fields(string(text)) {
		id, err := strconv.Atoi(child)
		if err != nil {
			return 0
		}
		if comm, err := os.ReadFile("/proc/" + child + "/comm"); err == nil && strings.TrimSpace(string(comm)) == name {
			return id
		}
		if id := descendant(id, name); id != 0 {
			return id
		}
	}
	return 0
}

// try runs a program on the machine, as root, and returns what it prints on standard output.
func (m *machine) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	var cmd *exec.Cmd
	if m.init == 0 {
		cmd = exec.CommandContext(ctx, "chroot", append([]string{m.root, name}, args...)...)
	} else {
		cmd = exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(m.init), "--all", name}, args...)...)
	}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %q: %w\n%s%s", name, args, err, out, exit.Stderr)
	}
	return string(out), err
}

// sh runs a command line on the machine, as root, and fails the test if that fails.
func (m *machine) sh(line string) string {
	m.t.Helper()
	return m.as("root", line)
}

// as runs a command line as a user.
func (m *machine) as(user, line string) string {
	m.t.Helper()
	out, err := m.tryAs(user, line)
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.journal())
	}
	return out
}

func (m *machine) tryAs(user, line string) (string, error) {
	line = "cd; " + line
	if user == "root" {
		return m.try("sh", "-ec", line)
	}
	return m.try("runuser", "-u", user, "--", "sh", "-ec", line)
}

// journal returns the end of the machine's journal.
func (m *machine) journal() string {
	text, _ := m.try("journalctl", "--no-pager", "-b", "-n", "40") // if it is on
	return text
}

// refused fails the test unless the command line of a user fails, with that text.
func (m *machine) refused(user, line, text string) {
	m.t.Helper()
	out, err := m.tryAs(user, line)
	if err == nil || !strings.Contains(err.Error(), text) {
		m.t.Errorf("%s: got %s, %v, want it refused with %q", line, out, err, text)
	}
}

// write writes a file on the machine.
func (m *machine) write(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// take copies a file of this machine onto it.
func (m *machine) take(file, to string) {
	m.t.Helper()
	run(m.t, "cp", file, filepath.Join(m.root, to))
}

// eventually waits until a condition holds.
func (m *machine) eventually(what string, holds func() error) {
	m.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: %v\n%s", what, err, m.journal())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
