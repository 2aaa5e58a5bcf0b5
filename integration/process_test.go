package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// process is one that a test looks at. A pid alone may come again.
type process struct {
	pid   int
	start string
}

// findProcess returns the process that now has the pid.
func findProcess(t *testing.T, pid int) process {
	t.Helper()
	p := process{pid: pid}
	state, start := p.stat()
	if state == "" {
		t.Fatalf("there is no process %d", pid)
	}
	p.start = start
	return p
}

// stat returns the state and the start time of whatever has the pid, nothing
// when nothing has.
func (p process) stat() (state, start string) {
	text, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		return "", ""
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	return fields[0], fields[19]
}

// proc returns the path of one of its files in /proc.
func (p process) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", p.pid, name) }

// alive reports whether the process runs.
func (p process) alive() bool {
	state, start := p.stat()
	return start == p.start && state != "" && state != "Z" && state != "X"
}

// ended is nil when the process no longer runs.
func (p process) ended() error {
	if p.alive() {
		return fmt.Errorf("process %d runs", p.pid)
	}
	return nil
}

// signal sends a signal, if the process still runs.
func (p process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if p.alive() {
		must(t, syscall.Kill(p.pid, s))
	}
}

// descriptors returns what the process's descriptors refer to.
func (p process) descriptors(t *testing.T) []string {
	t.Helper()
	links, err := filepath.Glob(p.proc("fd/*"))
	must(t, err)
	var out []string
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil { // it may just have been closed
			out = append(out, to)
		}
	}
	return out
}
