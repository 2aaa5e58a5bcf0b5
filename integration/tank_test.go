package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tank is what the datastore of a test is called where it is configured.
const tank = "tank"

// conf is a small file, read without a chunk.
const conf = vm100 + "/qemu-server.conf"

// newTank mounts a datastore on a host where it is configured, until the test
// ends.
func newTank(t *testing.T, store string, args ...string) *mount {
	t.Helper()
	h := newHost(t)
	h.run("datastore", "add", tank, store).want(t, 0)
	return h.mount(store, args...)
}

// newServerHost returns a host that a Proxmox Backup Server shares: it has the
// server's key, its configuration of one datastore, and the pid files of both
// its daemons. What lies in its run directory belongs to another user.
func newServerHost(t *testing.T, store string) (h *host, proxy, api *actor) {
	t.Helper()
	needRoot(t)
	h = newHost(t)
	proxy, api = startActor(t, "proxy", filepath.Join(h.dir, "run")), startActor(t, "api")
	for name, text := range map[string]string{
		"config/authkey.key":   "not a key",
		"config/datastore.cfg": fmt.Sprintf("datastore: %s\n\tpath %s\n\tcomment it's the server's\n", tank, store),
		"run/proxy.pid":        fmt.Sprintln(proxy.pid),
		"run/api.pid":          fmt.Sprintln(api.pid),
	} {
		must(t, os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o640))
	}
	must(t, os.Chown(filepath.Join(h.dir, "run"), nobody, nobody))
	return h, proxy, api
}

func (h *host) configFile() string { return filepath.Join(h.dir, "config", "datastore.cfg") }

func (h *host) operationsFile() string {
	return filepath.Join(h.dir, "run", "active-operations", tank)
}

// config returns the bytes of datastore.cfg.
func (h *host) config() string {
	h.t.Helper()
	text, err := os.ReadFile(h.configFile())
	must(h.t, err)
	return string(text)
}

// force sets the maintenance mode as the server's own interface does, without
// asking anybody: datastore.cfg is replaced in one step. "" is none.
func (h *host) force(value string) {
	h.t.Helper()
	var out strings.Builder
	for line := range strings.Lines(h.config()) {
		if strings.Contains(line, "maintenance-mode") {
			continue
		}
		out.WriteString(line)
		if value != "" && line == "datastore: "+tank+"\n" {
			fmt.Fprintf(&out, "\tmaintenance-mode %s\n", value)
		}
	}
	replace(h.t, h.configFile(), out.String())
}

// replace gives a file another content in one step.
func replace(t *testing.T, file, text string) {
	t.Helper()
	must(t, os.WriteFile(file+".new", []byte(text), 0o640))
	must(t, os.Rename(file+".new", file))
}

// operation is an entry of an operations file, as the server writes it.
type operation struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"starttime"`
	Active    struct {
		Read  int64 `json:"read"`
		Write int64 `json:"write"`
	} `json:"active_operations"`
}

// operations returns what the operations file says.
func (h *host) operations() []operation {
	h.t.Helper()
	text, err := os.ReadFile(h.operationsFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	must(h.t, err)
	return decodeOperations(h.t, text)
}

func decodeOperations(t *testing.T, text []byte) []operation {
	t.Helper()
	var out []operation
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(&out); err != nil {
		t.Fatalf("operations file %q: %v", text, err)
	}
	return out
}

// line returns how the server writes an operation.
func (o operation) line() string {
	return fmt.Sprintf(`{"pid":%d,"starttime":%d,"active_operations":{"read":%d,"write":%d}}`,
		o.PID, o.StartTime, o.Active.Read, o.Active.Write)
}

// status is what is shown of one datastore.
type status struct {
	Datastore string
	Path      string
	Mode      *string
	Message   string
	Mounts    []struct {
		Mountpoint string
		PID        int
		Since      time.Time
		Untracked  bool
		Elsewhere  bool
		TakenAway  bool `json:"taken_away"`
	}
	Processes []struct {
		PID         int
		StartTime   uint64
		Name        string
		Read, Write int64
	}
	Handles []struct {
		Path string
		PID  int
		Name string
		How  string
		Age  *float64 `json:"age_s"`
	}
	Locked []struct {
		Snapshot   string
		Mountpoint string
		Since      time.Time
	} `json:"locked_snapshots"`
	Problems []struct {
		Time time.Time
		Text string
	}
}

// status asks for what is shown of the datastore.
func (h *host) status() status {
	h.t.Helper()
	return h.statusOf(tank)
}

// statusOf asks for what is shown of one datastore.
func (h *host) statusOf(store string) status {
	h.t.Helper()
	got := h.run("status", store, "--json")
	got.want(h.t, 0)
	var all []status
	if err := json.Unmarshal([]byte(got.stdout), &all); err != nil || len(all) != 1 {
		h.t.Fatalf("status --json: got %q, want a list of one datastore: %v", got.stdout, err)
	}
	return all[0]
}

// idle waits until no operation on a datastore is active: what was just closed
// takes a moment.
func (h *host) idle(store string) {
	h.t.Helper()
	file := filepath.Join(filepath.Dir(h.operationsFile()), store)
	eventually(h.t, "nothing being open", func() error {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, o := range decodeOperations(h.t, text) {
			if o.Active.Read+o.Active.Write > 0 && runs(o.PID) {
				return unlike("there is %s", o.line())
			}
		}
		return nil
	})
}

// reads returns how many read operations all processes have.
func (s status) reads() (n int64) {
	for _, p := range s.Processes {
		n += p.Read
	}
	return n
}

// opens is nil when a file can be opened and read.
func opens(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Read(make([]byte, 1))
	return err
}

// throughout fails the test unless check returns nil for as long as d.
func throughout(t *testing.T, d time.Duration, what string, check func() error) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := check(); err != nil {
			t.Fatalf("%s, after %s of %s: %v", what, d-time.Until(end), d, err)
		}
	}
}

// says fails the test unless the command complained with all of the texts.
func (r result) says(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("pbsfs %s: got this on stderr, want it to say %q:\n%s", strings.Join(r.args, " "), text, r.stderr)
		}
	}
}

// running is a command that has not ended yet.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr bytes.Buffer
}

// start starts a command.
func (h *host) start(args ...string) *running {
	h.t.Helper()
	r := &running{t: h.t, cmd: h.command(args...)}
	r.cmd.Stderr = &r.stderr
	out, err := r.cmd.StdoutPipe()
	must(h.t, err)
	r.stdout = bufio.NewReader(out)
	must(h.t, r.cmd.Start())
	h.t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	return r
}

// end waits for the end of the command, whose exit code must be that.
func (r *running) end(code int) string {
	r.t.Helper()
	late := time.AfterFunc(patience, func() { _ = r.cmd.Process.Kill() })
	defer late.Stop()
	_ = r.cmd.Wait()
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		r.t.Errorf("%q: got exit code %d (%v), want %d; stderr: %s", r.cmd.Args[1:], got, r.cmd.ProcessState, code, r.stderr.String())
	}
	return r.stderr.String()
}

// flocked takes a lock of a file or directory without waiting, and returns how
// to give it back. The error is EWOULDBLOCK when somebody else has it.
func flocked(path string, how int) (free func(), err error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(fd, how|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return func() { _ = unix.Close(fd) }, nil
}

// actor is another process of a test: this program, in a role.
type actor struct {
	process
	t     *testing.T
	stdin *os.File
	said  *bufio.Reader
	out   *os.File
}

// startActor starts a process in a role and waits until it is ready. It is
// killed when the test ends.
func startActor(t *testing.T, role string, args ...string) *actor {
	t.Helper()
	inRead, inWrite, err := os.Pipe()
	must(t, err)
	outRead, outWrite, err := os.Pipe()
	must(t, err)
	cmd := roleCommand(role, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inRead, outWrite, os.Stderr
	err = cmd.Start()
	_, _ = inRead.Close(), outWrite.Close()
	must(t, err)
	a := &actor{t: t, stdin: inWrite, out: outRead, said: bufio.NewReader(outRead)}
	a.process = findProcess(t, cmd.Process.Pid)
	go func() { _ = cmd.Wait() }()
	t.Cleanup(func() {
		a.signal(t, syscall.SIGKILL)
		_, _ = inWrite.Close(), outRead.Close()
	})
	pid := 0
	if _, err := fmt.Sscanf(a.hear(), "ready %d", &pid); err != nil {
		t.Fatalf("role %s: %v", role, err)
	}
	if pid != a.pid { // somebody who goes on in its place
		eventually(t, "the first process ending", a.ended)
		a.process = findProcess(t, pid)
	}
	return a
}

// hear returns the next line that the process says.
func (a *actor) hear() string {
	a.t.Helper()
	must(a.t, a.out.SetReadDeadline(time.Now().Add(patience)))
	line, err := a.said.ReadString('\n')
	if err != nil {
		a.t.Fatalf("process %d: said %q, then %v", a.pid, line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// ask tells the process to do something, and returns what it says then.
func (a *actor) ask(what string) string {
	a.t.Helper()
	_, err := fmt.Fprintln(a.stdin, what)
	must(a.t, err)
	return a.hear()
}

// end lets the process end, which closes whatever it has.
func (a *actor) end() {
	a.t.Helper()
	_ = a.stdin.Close()
	eventually(a.t, "the process ending", a.ended)
}

// who is how messages name the process.
func (a *actor) who() string {
	a.t.Helper()
	name := filepath.Base(os.Args[0])
	comm, err := os.ReadFile(a.proc("comm"))
	must(a.t, err)
	if own := strings.TrimSpace(string(comm)); !strings.HasPrefix(name, own) {
		name = own // of a daemon of the server's
	}
	return fmt.Sprintf("process %d %s", a.pid, name)
}

// operation is what the server would write of the process.
func (a *actor) operation(read, write int64) operation {
	o := operation{PID: a.pid}
	_, _ = fmt.Sscan(a.start, &o.StartTime)
	o.Active.Read, o.Active.Write = read, write
	return o
}
