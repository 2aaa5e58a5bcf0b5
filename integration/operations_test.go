package integration

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// uncounted waits until the operations file has no entry of the mount.
func (m *mount) uncounted() {
	m.t.Helper()
	eventually(m.t, "the mount not being counted", func() error {
		for _, o := range m.host.operations() {
			if o.PID == m.process.pid {
				return unlike("it has the entry %s", o.line())
			}
		}
		return nil
	})
}

// Each open handle of a snapshot is one read operation of the serving process,
// in the form that the server reads.
func TestOpenHandlesAreOperations(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	paths := []string{conf, diskImage, diskImage, alpha, alpha + "/etc.pxar", "host/alpha", "host", ""}
	const counted = 5 // the last three are above the snapshots
	var open []*os.File
	for _, path := range paths {
		f, err := os.Open(m.path(path))
		must(t, err)
		open = append(open, f)
	}
	eventually(t, "the number of handles being shown", func() error {
		all := m.host.operations()
		if len(all) != 1 {
			return unlike("got %d entries, want 1", len(all))
		}
		want := operation{PID: m.process.pid}
		must(t, second(fmt.Sscan(m.process.start, &want.StartTime)))
		want.Active.Read = counted
		if all[0] != want {
			return unlike("got the entry %+v, want %+v", all[0], want)
		}
		return nil
	})
	if got := m.host.status(); got.reads() != counted {
		t.Errorf("status: got %+v, want %d reads", got.Processes, counted)
	}
	for i, f := range open {
		if len(m.host.operations()) == 0 && i < counted {
			t.Errorf("%d handles are open, and none is counted", counted-i)
		}
		must(t, f.Close())
	}
	m.uncounted()
	if text, err := os.ReadFile(m.host.operationsFile()); err != nil || string(text) != "[]" {
		t.Errorf("with nothing open: got the operations file %q, %v, want an empty list", text, err)
	}
}

func second[T any](_ T, err error) error { return err }

// What other processes have under way is as good a reason to refuse a mode as
// what we have, if they live.
func TestOperationsOfOthers(t *testing.T) {
	h := newHost(t)
	h.run("datastore", "add", tank, fixture(t, "ds-basic")).want(t, 0)
	a := startActor(t, "idle")
	dead := startActor(t, "idle")
	dead.end()
	again := a.operation(1, 1)
	again.StartTime++
	must(t, os.Mkdir(filepath.Dir(h.operationsFile()), 0o750))
	for _, c := range []struct {
		name              string
		op                operation
		offline, readOnly int // exit codes
	}{
		{"reads", a.operation(1, 0), 3, 0},
		{"writes", a.operation(0, 2), 3, 3},
		{"is idle", a.operation(0, 0), 0, 0},
		{"counts below zero", a.operation(-1, 0), 0, 0},
		{"is dead", dead.operation(1, 1), 0, 0},
		{"had its pid before", again, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := "[" + c.op.line() + "]"
			for mode, code := range map[string]int{"offline": c.offline, "read-only": c.readOnly} {
				replace(t, h.operationsFile(), text)
				config := h.config()
				got := h.run("maintenance", "set", tank, mode, "--wait", "50ms")
				got.want(t, code)
				if code != 0 {
					got.says(t, fmt.Sprintf("%s: %d read, %d write", a.who(), c.op.Active.Read, c.op.Active.Write))
					if now := h.config(); now != config {
						t.Errorf("refused, but datastore.cfg changed to %q", now)
					}
				}
				h.run("maintenance", "clear", tank).want(t, 0)
			}
		})
	}
}

// What others wrote stays as they wrote it, whatever is in it.
func TestEntriesOfOthersStay(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	a := startActor(t, "idle")
	op := a.operation(0, 0)
	theirs := fmt.Sprintf(`{ "pid": %d,	"starttime":%d, "active_operations":{"write":0, "read":2},"note":"\u00e9" }`, op.PID, op.StartTime)
	must(t, opens(m.path(conf)))
	m.uncounted()
	replace(t, m.host.operationsFile(), "[\n"+theirs+"\n]\n")
	f, err := os.Open(m.path(conf))
	must(t, err)
	ours := findProcess(t, m.process.pid)
	text, err := os.ReadFile(m.host.operationsFile())
	must(t, err)
	if want := fmt.Sprintf(`[%s,{"pid":%d,"starttime":%s,"active_operations":{"read":1,"write":0}}]`, theirs, ours.pid, ours.start); string(text) != want {
		t.Errorf("with a file open: got %s, want %s", text, want)
	}
	must(t, f.Close())
	eventually(t, "our entry going", func() error {
		if text, err := os.ReadFile(m.host.operationsFile()); err != nil || string(text) != "["+theirs+"]" {
			return unlike("got %s, %v, want [%s]", text, err, theirs)
		}
		return nil
	})
}

// What cannot be counted is not read, and nobody's counts are overwritten.
func TestGarbledOperationsFile(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	must(t, opens(m.path(conf)))
	m.uncounted()
	for _, text := range []string{"[{", "{}", "null", `[{"pid":1}]`, `[{"pid":"1","starttime":1,"active_operations":{"read":1,"write":0}}]`, "[] trailing"} {
		replace(t, m.host.operationsFile(), text)
		wantErrno(t, "opening a file", opens(m.path(conf)), unix.EIO)
		for _, args := range [][]string{{"maintenance", "set", tank, "offline", "--wait", "0s"}, {"status", tank}, {"cat", tank, conf}} {
			got := m.host.run(args...)
			got.want(t, 1)
			got.says(t, m.host.operationsFile(), "remove the file")
		}
		if now, err := os.ReadFile(m.host.operationsFile()); err != nil || string(now) != text {
			t.Errorf("%q: the operations file is now %q, %v", text, now, err)
		}
		if strings.Contains(m.host.config(), "offline") {
			t.Errorf("%q: the mode was set", text)
		}
	}
	if len(m.logLines("level=ERROR", m.host.operationsFile())) == 0 {
		t.Error("the log does not name the operations file")
	}
	must(t, os.Remove(m.host.operationsFile()))
	must(t, opens(m.path(conf)))
}

// Who does not give a lock back is named.
func TestStuckLocks(t *testing.T) {
	reader, setter := newTank(t, fixture(t, "ds-basic")), newHost(t)
	setter.run("datastore", "add", tank, fixture(t, "ds-basic")).want(t, 0)
	must(t, opens(reader.path(conf)))
	reader.uncounted()
	config := setter.config()
	ops := startActor(t, "lock", reader.host.operationsFile()+".lock")
	cfg := startActor(t, "lock", filepath.Join(setter.dir, "config", ".datastore.lck"))

	set := setter.start("maintenance", "set", tank, "offline")
	out, err := exec.Command("cat", reader.path(conf)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Input/output error") {
		t.Errorf("reading while the operations lock is stuck: got %v and %q, want EIO", err, out)
	}
	if len(reader.logLines("level=ERROR", reader.host.operationsFile()+".lock", fmt.Sprintf("process %d ", ops.pid))) != 1 {
		t.Errorf("the log does not say once who holds the operations lock, process %d", ops.pid)
	}
	if text := set.end(1); !strings.Contains(text, fmt.Sprintf("process %d ", cfg.pid)) || !strings.Contains(text, ".datastore.lck") {
		t.Errorf("got this on stderr, want it to say that process %d has the lock: %s", cfg.pid, text)
	}
	if now := setter.config(); now != config {
		t.Errorf("datastore.cfg changed to %q", now)
	}
	ops.end()
	cfg.end()
	must(t, opens(reader.path(conf)))
	setter.run("maintenance", "set", tank, "offline").want(t, 0)
}

// olderUpdate is how a server before 4.0.21 counts: a process that is not listed
// is added only to an empty list.
func olderUpdate(list []operation, me operation, read int64) []operation {
	list = slices.DeleteFunc(slices.Clone(list), func(o operation) bool {
		state, start := process{pid: o.PID}.stat()
		return state == "" || state == "Z" || o.PID == me.PID && start != fmt.Sprint(o.StartTime)
	})
	for i := range list {
		if list[i].PID == me.PID {
			list[i].Active.Read += read
			return list
		}
	}
	if len(list) == 0 {
		me.Active.Read = 1
		list = append(list, me)
	}
	return list
}

// With our entry in the list, an older server still counts both its daemons.
func TestOlderServerIsCounted(t *testing.T) {
	store := fixture(t, "ds-basic")
	h, proxy, api := newServerHost(t, store)
	m := h.mount(store)
	f, err := os.Open(m.path(conf))
	must(t, err)
	update := func(a *actor, read int64) {
		var out []string
		for _, o := range olderUpdate(h.operations(), a.operation(0, 0), read) {
			out = append(out, o.line())
		}
		replace(t, h.operationsFile(), "["+strings.Join(out, ",")+"]")
	}
	update(proxy, 1)
	update(api, 1)
	update(api, 1)
	must(t, f.Close())
	m.uncounted()
	want := []operation{proxy.operation(1, 0), api.operation(2, 0)}
	if got := h.operations(); !slices.Equal(got, want) {
		t.Errorf("got the entries %+v, want %+v", got, want)
	}
	refused := h.run("maintenance", "set", tank, "offline", "--wait", "0s")
	refused.want(t, 3)
	refused.says(t, proxy.who()+": 1 read", api.who()+": 2 read")
	update(proxy, -1)
	update(api, -1)
	update(api, -1)
	h.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 0)
}

// A server trusts what it knows of datastore.cfg unless it is told.
func TestServerIsToldOfModes(t *testing.T) {
	h, proxy, _ := newServerHost(t, fixture(t, "ds-basic"))
	counters := make([]byte, 4096)
	binary.BigEndian.PutUint64(counters, 0x19c6a8e69a848f83)
	file := filepath.Join(subdir(t, filepath.Join(h.dir, "run"), "shmem"), "config-versions")
	must(t, os.WriteFile(file, counters, 0o600))
	for i, args := range [][]string{{"set", tank, "offline"}, {"set", tank, "offline", "--message", "more"}, {"clear", tank}} {
		h.run(append([]string{"maintenance"}, args...)...).want(t, 0)
		var told struct{ Command, Args string }
		if line := proxy.hear(); json.Unmarshal([]byte(line), &told) != nil || told.Command != "update-datastore-cache" || told.Args != tank {
			t.Errorf("%q: the server was told %q", args, line)
		}
		text, err := os.ReadFile(file)
		must(t, err)
		if got := binary.NativeEndian.Uint64(text[24:]); got != uint64(i)+1 {
			t.Errorf("%q: got generation %d, want %d", args, got, i+1)
		}
	}
	// The server's user must be able to use what we made.
	for name, mode := range map[string]os.FileMode{"config/.datastore.lck": 0o660, "config/datastore.cfg": 0o640} {
		var st unix.Stat_t
		must(t, lstat(filepath.Join(h.dir, name), &st))
		if got := os.FileMode(st.Mode & 0o7777); got != mode {
			t.Errorf("%s: got mode %o, want %o", name, got, mode)
		}
	}
}

// A serving process that is killed counts nothing, and its mount can be cleaned
// up while files are still open there.
func TestKilledServerCountsNothing(t *testing.T) {
	needRoot(t)
	m := newTank(t, fixture(t, "ds-basic"))
	a := startActor(t, "hold", m.path(diskImage))
	if n := m.host.status().reads(); n != 1 {
		t.Errorf("with an open file: got %d reads, want 1", n)
	}
	m.process.signal(t, syscall.SIGKILL)
	eventually(t, "the last thread of the serving process being gone", func() error {
		if threads, _ := filepath.Glob(m.process.proc("task/*")); len(threads) > 1 {
			return unlike("there are %d threads", len(threads))
		}
		return m.process.ended()
	})
	s := m.host.status()
	if s.reads() != 0 || len(s.Locked) != 0 {
		t.Errorf("after it was killed: got the status %+v, want nothing to be counted", s)
	}
	if len(s.Mounts) != 1 || s.Mounts[0].PID != 0 || len(s.Problems) != 1 {
		t.Errorf("after it was killed: got the status %+v, want the mount, and that nobody answers for it", s)
	}
	m.host.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 0)
	m.host.run("maintenance", "clear", tank).want(t, 0)
	got := m.host.run("unmount", m.dir, "--wait", "200ms")
	got.want(t, 0)
	if mountsAt(t, m.dir) != 0 {
		t.Error("the dead mount is still there")
	}
	if sum := a.ask("read"); !strings.Contains(sum, "not connected") && !strings.Contains(sum, "aborted") {
		t.Errorf("reading from a dead mount: got %s", sum)
	}
	a.end()
	m.run().want(t, 0)
	m.process = m.findServer()
	must(t, opens(m.path(diskImage)))
	m.unmount()
}

// Where operations cannot be registered, nothing is mounted unless it is asked
// for, and then it is said.
func TestMountThatCannotRegister(t *testing.T) {
	store := fixture(t, "ds-basic")
	h, _, _ := newServerHost(t, store)
	must(t, os.WriteFile(filepath.Dir(h.operationsFile()), nil, 0o600)) // no directory
	m := h.unmounted(store)
	refused := m.run()
	refused.want(t, 1)
	refused.says(t, filepath.Dir(h.operationsFile()))
	m.run("--untracked").want(t, 0)
	m.process = m.findServer()
	must(t, opens(m.path(conf)))
	value := make([]byte, 16)
	n, err := lgetxattr(m.dir, "user.pbs.untracked", value)
	if err != nil || string(value[:n]) != "yes" {
		t.Errorf("user.pbs.untracked of the root: got %q, %v, want yes", value[:max(n, 0)], err)
	}
	must(t, os.Remove(filepath.Dir(h.operationsFile())))
	if s := h.status(); len(s.Mounts) != 1 || !s.Mounts[0].Untracked {
		t.Errorf("got the mounts %+v, want one that is untracked", s.Mounts)
	}
	if got := h.run("status", tank); !strings.Contains(got.stdout, "UNTRACKED") {
		t.Errorf("status does not say that the mount is untracked: %s", got.stdout)
	}
	m.idle(nil) // it holds nothing between requests
	m.unmount()

	needTool(t, "unshare")
	hidden := h.command("mount", store, m.dir)
	hidden.Args = append([]string{"unshare", "--pid", "--fork", "--mount-proc", program}, hidden.Args[1:]...)
	hidden.Path, err = exec.LookPath("unshare")
	must(t, err)
	out, err := hidden.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cannot be seen from here") {
		t.Errorf("mounting where the server's processes cannot be seen: got %v and %q", err, out)
	}
	must(t, os.Chtimes(m.dir, time.Now(), time.Now())) // no mount is in the way
}
