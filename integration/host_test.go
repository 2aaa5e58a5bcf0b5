package integration

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// host is where the program keeps its state in one test: nothing is shared
// with other tests or with the machine.
type host struct {
	t    *testing.T
	dir  string
	uid  int // who runs the program
	vars []string
	own  string // where mount records are, if not where a test's host has them

	program string // "": that of all tests
}

// newHost returns a host whose commands run as the user of the test.
func newHost(t *testing.T) *host {
	t.Helper()
	dir := tempDir(t)
	return &host{t: t, dir: dir, uid: os.Geteuid(), vars: []string{
		"PBSFS_CONFIG_DIR=" + subdir(t, dir, "config"),
		"PBSFS_RUN_DIR=" + subdir(t, dir, "run"),
		"XDG_CACHE_HOME=" + subdir(t, dir, "cache"),
	}}
}

// newUserHost returns a host whose commands run as nobody, who has a run-time
// directory as a login gives one.
func newUserHost(t *testing.T) *host {
	t.Helper()
	needRoot(t)
	dir := tempDir(t)
	h := &host{t: t, dir: dir, uid: nobody}
	for name, env := range map[string]string{"runtime": "XDG_RUNTIME_DIR", "config": "XDG_CONFIG_HOME", "home": "HOME"} {
		sub := subdir(t, dir, name)
		must(t, os.Chown(sub, nobody, nobody))
		must(t, os.Chmod(sub, 0o700))
		h.vars = append(h.vars, env+"="+sub)
	}
	return h
}

// runDir is where mount records are.
func (h *host) runDir() string {
	if h.own != "" {
		return h.own
	}
	if h.uid == nobody {
		return filepath.Join(h.dir, "runtime", "pbsfs")
	}
	return filepath.Join(h.dir, "run")
}

// result is how a command ended.
type result struct {
	args           []string
	code           int
	stdout, stderr string
}

// command prepares a command of the program.
func (h *host) command(args ...string) *exec.Cmd {
	cmd := exec.Command(cmp.Or(h.program, program), args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PBSFS_") && !strings.HasPrefix(v, "XDG_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, h.vars...)
	cmd.Dir = "/"
	if h.uid != os.Geteuid() {
		id := uint32(h.uid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	}
	return cmd
}

// run runs a command to its end.
func (h *host) run(args ...string) result {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := h.command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("pbsfs %s: %v", strings.Join(args, " "), err)
	}
	return result{args, cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// want fails the test unless the command ended with that code, and, if that is
// not 0, with one line that begins as all errors do. A refusal because of what
// is open may go on with a list of it, which is indented.
func (r result) want(t *testing.T, code int) {
	t.Helper()
	if r.code != code {
		t.Errorf("pbsfs %s: got exit code %d, want %d; stderr: %s", strings.Join(r.args, " "), r.code, code, r.stderr)
	}
	if code == 0 {
		return
	}
	lines := strings.SplitAfter(r.stderr, "\n")
	one := strings.HasPrefix(lines[0], "pbsfs: ") && lines[len(lines)-1] == ""
	for _, l := range lines[1 : len(lines)-1] {
		one = one && code == 3 && strings.HasPrefix(l, "  ")
	}
	if !one {
		t.Errorf("pbsfs %s: got this on stderr, want one line that begins with \"pbsfs: \":\n%s", strings.Join(r.args, " "), r.stderr)
	}
}
