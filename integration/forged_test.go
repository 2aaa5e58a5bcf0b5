package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What an ordinary user writes about mounts that are not that user's is told to
// root, and has root do nothing.
func TestForgedRecordsOfUsers(t *testing.T) {
	if !alone(t) {
		return
	}
	root, _ := defaultHosts(t)
	root.own = "/run/pbsfs"
	store := copyFixture(t, "ds-basic")
	root.run("datastore", "add", tank, store).want(t, 0)
	m := root.mount(store)
	sleeper := exec.Command("sleep", "1000")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	must(t, sleeper.Start())
	defer func() { _, _ = sleeper.Process.Kill(), sleeper.Wait() }()

	var genuine map[string]any
	text, err := os.ReadFile(fmt.Sprintf("/run/pbsfs/mounts/%d.json", m.process.pid))
	must(t, err)
	must(t, json.Unmarshal(text, &genuine))
	dir := fmt.Sprintf("/run/user/%d/pbsfs/mounts", nobody)
	must(t, asUser(nobody, func() error { return os.MkdirAll(dir, 0o755) }))
	_, start := findProcess(t, sleeper.Process.Pid).stat()
	for i := range 20 {
		forged := map[string]any{}
		for k, v := range genuine {
			forged[k] = v
		}
		if i%2 == 0 {
			forged["pid"], forged["starttime"] = sleeper.Process.Pid, json.Number(start)
		}
		switch i % 5 {
		case 1:
			forged["datastore"] = "tank\x1b]0;owned\x07\n  mode: none"
		case 2:
			forged["mountpoint"] = "/nowhere\x1b[2J"
		case 3:
			forged["device"] = ""
		}
		text, err := json.Marshal(forged)
		must(t, err)
		must(t, asUser(nobody, func() error {
			name := filepath.Join(dir, fmt.Sprint(i))
			l, err := net.Listen("unix", name+".sock") // who never answers
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = l.Close() })
			return os.WriteFile(name+".json", text, 0o644)
		}))
	}
	for _, args := range [][]string{{"status"}, {"status", tank}, {"maintenance", "set", tank, "offline", "--wait", patience.String()}, {"maintenance", "clear", tank}} {
		got := root.run(args...)
		got.want(t, 0)
		if strings.ContainsAny(got.stdout+got.stderr, "\x1b\x07") {
			t.Errorf("%q: a user's text comes to root's terminal: %q %q", args, got.stdout, got.stderr)
		}
	}
	if s := root.status(); len(s.Mounts) != 1 || s.Mounts[0].PID != m.process.pid {
		t.Errorf("got the mounts %+v, want root's alone", s.Mounts)
	}
	if got := root.run("status"); !strings.Contains(got.stderr, "warning: "+dir) {
		t.Errorf("status does not say what is wrong in %s: %s", dir, got.stderr)
	}
	m.unmount()
}
