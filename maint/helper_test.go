package maint

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// The test binary is also the other processes of the tests: with helperEnv set
// it runs one of these instead of tests.
const helperEnv = "PBSFS_MAINT_TEST_HELPER"

var helpers = map[string]func(args []string){
	"sleep":  func([]string) { io.Copy(io.Discard, os.Stdin) },
	"daemon": func([]string) { contain(); nameDaemon(); ready() },
	"hold":   helpHold,
	"lock":   helpLock,
	"set":    helpSet,
	"track":  helpTrack,
	"server": helpServer,
	"churn":  helpChurn,
	"open":   helpOpen,
	"mmap":   helpMmap,
	"cwd":    helpCwd,
}

func TestMain(m *testing.M) {
	if help, ok := helpers[os.Getenv(helperEnv)]; ok {
		help(os.Args[1:])
		os.Exit(0)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // tests provoke warnings
	os.Exit(m.Run())
}

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, "helper:", err)
		os.Exit(1)
	}
	return v
}

// ready tells the test, and waits until the test closes our stdin.
func ready() {
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// nameDaemon gives this process the name of a server's.
func nameDaemon() { must(0, os.WriteFile("/proc/self/comm", []byte("proxmox-backup-proxy"), 0)) }

func dirsHost(dir string) (hosts.Host, error) {
	return hosts.NewHost(hosts.HostOptions{
		ConfigDir: filepath.Join(dir, "etc"), RunDir: filepath.Join(dir, "run"),
		Getenv: func(string) string { return "" }, UID: os.Geteuid(),
	})
}

// helpHold holds an operation: DIR STORE read|write.
func helpHold(args []string) {
	contain()
	ops := must(NewOperations(Options{Store: args[1], Host: must(dirsHost(args[0]))}))
	op := cfg.Read
	if args[2] == "write" {
		op = cfg.Write
	}
	guard := must(ops.Begin(context.Background(), op))
	ready()
	guard.Release()
	must(0, ops.Close())
}

// helpTrack reports whether operations can be registered: DIR STORE.
func helpTrack(args []string) {
	contain()
	err := CheckTracking(context.Background(), must(dirsHost(args[0])), args[1])
	fmt.Println("ready")
	fmt.Println(err)
}

// helpLock holds a lock file.
func helpLock(args []string) {
	must(statefile.LockFile(context.Background(), args[0], statefile.Owner{}, statefile.LockMode))
	ready()
}

// helpChurn opens and closes until it is killed: DIR STORE WITNESS. While an
// operation is active it has a shared lock on WITNESS, which the kernel takes
// back with the process.
func helpChurn(args []string) {
	contain()
	ctx := context.Background()
	ops := must(NewOperations(Options{Store: args[1], Host: must(dirsHost(args[0])), Linger: time.Millisecond}))
	fmt.Println("ready")
	for {
		guard, err := ops.Begin(ctx, cfg.Operation(1+rand.IntN(2)))
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		f := must(os.Open(args[2]))
		must(0, unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB))
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		f.Close()
		guard.Release()
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
	}
}

func helpOpen(args []string) {
	f := must(os.Open(args[0]))
	defer f.Close()
	ready()
}

func helpMmap(args []string) {
	f := must(os.Open(args[0]))
	must(unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED))
	f.Close()
	ready()
}

func helpCwd(args []string) {
	must(0, os.Chdir(args[0]))
	ready()
}

// other is a running helper process.
type other struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
	wait  sync.Once
}

// startOther starts a helper and waits until it is ready.
func startOther(t testing.TB, what string, args ...string) *other {
	t.Helper()
	return startOtherWith(t, nil, what, args...)
}

func startOtherWith(t testing.TB, attr *syscall.SysProcAttr, what string, args ...string) *other {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.SysProcAttr = attr
	return startCommand(t, cmd, what)
}

// startOtherBy has a helper started by another program.
func startOtherBy(t testing.TB, by []string, what string, args ...string) *other {
	t.Helper()
	by = append(by, append([]string{os.Args[0]}, args...)...)
	return startCommand(t, exec.Command(by[0], by[1:]...), what)
}

func startCommand(t testing.TB, cmd *exec.Cmd, what string) *other {
	t.Helper()
	cmd.Env = append(os.Environ(), helperEnv+"="+what, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	switch err := cmd.Start(); {
	case errors.Is(err, syscall.EPERM):
		t.Skipf("needs namespaces: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	o := &other{cmd: cmd, stdin: in, out: bufio.NewReader(out)}
	t.Cleanup(o.kill)
	if what == "sleep" {
		return o
	}
	if line, err := o.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("helper %s %q: said %q, %v", what, cmd.Args, line, err)
	}
	return o
}

// hear returns the next line that the helper says.
func (o *other) hear(t testing.TB) string {
	t.Helper()
	line, err := o.out.ReadString('\n')
	if err != nil {
		t.Fatalf("helper said %q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (o *other) pid() int { return o.cmd.Process.Pid }

// end lets the helper end by itself.
func (o *other) end() { o.stdin.Close(); o.reap() }

func (o *other) reap() { o.wait.Do(func() { o.cmd.Wait() }) }

func (o *other) kill() {
	o.cmd.Process.Kill()
	o.reap()
}

// process is the helper as the operations file names it.
func (o *other) process(t testing.TB) procfs.Process {
	t.Helper()
	p, ok := procfs.LookProcess(o.pid())
	if !ok {
		t.Fatalf("helper %d does not run", o.pid())
	}
	return p
}

const testStore = "tank"

// place is a host of the test's own with one datastore.
type place struct {
	dir  string
	host hosts.Host
}

const plainConfig = "datastore: tank\n\tpath /srv/tank\n\tcomment a test\n\ndatastore: other\n\tpath /srv/other\n"

func newPlace(t testing.TB) place {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"etc", "run"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := place{dir: dir}
	p.writeConfig(t, plainConfig)
	p.look(t)
	return p
}

// look finds out again what kind of host the place is.
func (p *place) look(t testing.TB) {
	t.Helper()
	host, err := dirsHost(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	p.host = host
}

// newPBSPlace is a host that a PBS shares: proxy and api are helper processes.
func newPBSPlace(t testing.TB) (p place, proxy, api *other) {
	t.Helper()
	p = newPlace(t)
	proxy, api = startOther(t, "daemon"), startOther(t, "daemon")
	p.write(t, "run/proxy.pid", fmt.Sprintf("%d\n", proxy.pid()))
	p.write(t, "run/api.pid", fmt.Sprintf("%d\n", api.pid()))
	p.look(t)
	if !p.host.IsPBS() {
		t.Fatal("not taken for a PBS host")
	}
	return p, proxy, api
}

func (p place) write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	// In one step, as PBS does.
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func (p place) writeConfig(t testing.TB, text string) {
	t.Helper()
	p.write(t, "etc/datastore.cfg", text)
}

func (p place) read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (p place) config(t testing.TB) string { t.Helper(); return p.read(t, "etc/datastore.cfg") }

// opsName is the operations file of the test's datastore.
const opsName = "run/active-operations/" + testStore

func (p place) operations(t testing.TB, change func(*Options)) *Operations {
	t.Helper()
	opts := Options{Store: testStore, Host: p.host}
	if change != nil {
		change(&opts)
	}
	ops, err := NewOperations(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ops.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return ops
}

func begin(t testing.TB, ops *Operations, op cfg.Operation) *Guard {
	t.Helper()
	g, err := ops.Begin(context.Background(), op)
	if err != nil {
		t.Fatalf("Begin(%v): %v", op, err)
	}
	t.Cleanup(g.Release)
	return g
}

func (p place) sum(t testing.TB) opsfile.Counts {
	t.Helper()
	c, err := Sum(p.host, testStore)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p place) setMode(t testing.TB, mode cfg.ModeType, opts SetOptions) {
	t.Helper()
	if err := SetMode(context.Background(), p.host, testStore, mode, opts); err != nil {
		t.Fatalf("SetMode(%s): %v", mode, err)
	}
}

func (p place) clearMode(t testing.TB) {
	t.Helper()
	if err := ClearMode(context.Background(), p.host, testStore, SetOptions{}); err != nil {
		t.Fatalf("ClearMode: %v", err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// checkLeaks fails the test if it ends with more goroutines or descriptors than
// it began with. Call it before anything else registers a cleanup.
func checkLeaks(t *testing.T) {
	t.Helper()
	goroutines, fds := runtime.NumGoroutine(), countFDs(t)
	t.Cleanup(func() {
		eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
		eventually(t, "descriptors are closed", func() bool { return countFDs(t) <= fds })
	})
}

func countFDs(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && !strings.Contains(target, "[event") && !strings.HasSuffix(target, "/fd") {
			n++
		}
	}
	return n
}

func mkfifo(path string) error { return unix.Mkfifo(path, 0o600) }
