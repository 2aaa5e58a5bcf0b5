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
	"time"

	"golang.org/x/sys/unix"
)

// What was seen stays, however long the maintenance takes.
func TestOfflineKeepsWhatWasSeen(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	seen := []string{"", "host", "host/alpha", alpha, alpha + "/etc.pxar", conf, diskImage, "ns/prod"}
	before := make(map[string]unix.Stat_t)
	for _, path := range seen {
		var st unix.Stat_t
		must(t, lstat(m.path(path), &st))
		before[path] = st
	}
	m.host.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
	throughout(t, 2500*time.Millisecond, "offline", func() error {
		for _, path := range seen {
			var st unix.Stat_t
			if err := lstat(m.path(path), &st); err != nil {
				return fmt.Errorf("stat of %q, which was seen: %w", path, err)
			}
			if old := before[path]; st.Ino != old.Ino || st.Mode != old.Mode || st.Size != old.Size || st.Mtim != old.Mtim {
				return unlike("stat of %q: got %+v, before %+v", path, st, old)
			}
		}
		return nil
	})
	for _, path := range []string{conf, diskImage, alpha, alpha + "/etc.pxar", "host"} {
		_, err := os.Open(m.path(path))
		wantErrno(t, "opening "+path, err, unix.EHOSTDOWN)
	}
	_, err := os.Lstat(m.path("host/never-seen"))
	wantErrno(t, "a name that memory cannot answer", err, unix.EHOSTDOWN)
	out, err := exec.Command("cat", m.path(conf)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Host is down") {
		t.Errorf("cat: got %v and %q", err, out)
	}
	m.host.run("maintenance", "clear", tank).want(t, 0)
	want := truthOf(t, "ds-basic", alpha+"/etc.pxar")
	reportDifferences(t, want.name, compare(m.path(want.name), want))
}

// forced are modes that only others set, and what opening a file then gives.
var forced = []struct {
	value string
	errno error
	shown string // the type
}{
	{"offline", unix.EHOSTDOWN, "offline"},
	{`type=offline,message="a \"b\", c"`, unix.EHOSTDOWN, "offline"},
	{"s3-refresh", unix.EHOSTDOWN, "s3-refresh"},
	{"unmount", unix.ENOMEDIUM, "unmount"},
	{"delete", unix.ESTALE, "delete"},
	{"hibernate", unix.EHOSTDOWN, "unknown"},
	{"offline,message=a,b", unix.EHOSTDOWN, "unknown"},
	{"read-only", nil, "read-only"},
}

// What somebody else writes into datastore.cfg holds for a mount soon.
func TestForcedModesTakeEffect(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	path := m.path(conf)
	must(t, opens(path))
	for _, f := range forced {
		t.Run(f.value, func(t *testing.T) {
			m.host.force(f.value)
			eventually(t, "the mode taking effect", func() error {
				if err := opens(path); f.errno != nil && err == nil {
					return unlike("the file can be opened")
				}
				return nil
			})
			err := opens(path)
			if f.errno != nil {
				wantErrno(t, "opening a file", err, f.errno)
			} else if err != nil {
				t.Error(err)
			}
			if s := m.host.status(); s.Mode == nil || *s.Mode != f.shown {
				t.Errorf("status: got %+v, want the mode %s", s, f.shown)
			}
			shown := m.host.run("maintenance", "show", tank)
			shown.want(t, 0)
			if !strings.HasPrefix(shown.stdout, f.shown) || f.shown == "unknown" && !strings.Contains(shown.stdout, m.host.configFile()) {
				t.Errorf("maintenance show: got %q, want %s and why", shown.stdout, f.shown)
			}
			if f.errno != nil {
				m.host.run("mount", tank, tempDir(t)).want(t, 4)
			}
			m.host.force("")
			eventually(t, "the mount being back", func() error { return opens(path) })
		})
	}
}

// A mode that is forced on open files: they go on until they are closed, nothing
// new begins, and then nothing keeps the disk from being unmounted.
func TestForcedOfflineLetsGoOfTheDisk(t *testing.T) {
	d := newDisk(t, 128)
	store := filepath.Join(d.dir, "store")
	tool(t, "cp", "-a", fixture(t, "ds-basic"), store)
	m := newTank(t, store)
	image := truthOf(t, "ds-basic", diskImage)
	a := startActor(t, "hold", m.path(diskImage))
	must(t, opens(m.path(conf)))
	m.host.force("offline,message=disk swap")
	if err := within(5*time.Second, func() error {
		if opens(m.path(conf)) == nil {
			return unlike("files can be opened")
		}
		return nil
	}); err != nil {
		t.Errorf("5 s after offline was forced: %v", err)
	}
	wantErrno(t, "opening a file", opens(m.path(conf)), unix.EHOSTDOWN)
	if sum := a.ask("read"); sum != image.entries[0].SHA256 {
		t.Errorf("reading what was open before: got %s, want %s", sum, image.entries[0].SHA256)
	}
	if s := m.host.status(); s.reads() != 1 || s.Message != "disk swap" {
		t.Errorf("with an open file: got the status %+v, want one read, and the message", s)
	}
	wantErrno(t, "unmounting the disk under an open file", unix.Unmount(d.dir, 0), unix.EBUSY)

	a.end()
	eventually(t, "the count being zero", func() error {
		if n := m.host.status().reads(); n > 0 {
			return unlike("there are %d reads", n)
		}
		return nil
	})
	d.umount() // at once: what is not counted is not in use
	if _, err := os.Lstat(m.path(diskImage)); err != nil {
		t.Errorf("a name that was seen, without the disk: %v", err)
	}
	d.mount()
	m.host.run("maintenance", "clear", tank).want(t, 0)
	eventually(t, "the datastore being back", func() error { return opens(m.path(conf)) })
	reportDifferences(t, image.name, compare(m.path(image.name), image))
	m.unmount()
}

// What the server has set for itself is not ours to change.
func TestModesOfTheServerStay(t *testing.T) {
	h := newHost(t)
	h.run("datastore", "add", tank, fixture(t, "ds-basic")).want(t, 0)
	for _, value := range []string{"delete", "unmount", "s3-refresh", "hibernate", "unmount,message=by the server"} {
		h.force(value)
		config := h.config()
		for _, args := range [][]string{
			{"set", tank, "offline"},
			{"set", tank, "read-only"},
			{"set", tank, "offline", "--drain"},
			{"clear", tank},
			{"clear", tank, "--force"},
		} {
			forced := len(args) == 3 && args[2] == "--force" && strings.HasPrefix(value, "unmount")
			got := h.run(append([]string{"maintenance"}, args...)...)
			if forced {
				got.want(t, 0)
				if now := h.config(); strings.Contains(now, "maintenance-mode") {
					t.Errorf("%s, %q: got %q, want no mode", value, args, now)
				}
				continue
			}
			got.want(t, 4)
			if now := h.config(); now != config {
				t.Errorf("%s, %q: datastore.cfg changed to %q", value, args, now)
			}
		}
	}
}

// messages come back as they were given, and lie in datastore.cfg so that the
// server shows them as they were given.
var messages = []struct{ message, value string }{
	{"", "offline"},
	{"disk swap", "offline,message=disk swap"},
	{"disk swap, then fsck", `offline,message="disk swap, then fsck"`},
	{"100 % done, 50%2c", `offline,message="100 %25 done, 50%252c"`},
	{`say "now"`, `offline,message="say \"now\""`},
	{`C:\backup`, `offline,message="C:\\backup"`},
	{"a=b", "offline,message=a=b"},
	{"Wartung für Fräulein Süß", ""},
	{strings.Repeat("x", 64), ""},
}

func TestMessagesRoundTrip(t *testing.T) {
	h := newHost(t)
	h.run("datastore", "add", tank, fixture(t, "ds-basic"), "--comment", "not, touched").want(t, 0)
	plain := h.config()
	for _, c := range messages {
		got := h.run("maintenance", "set", tank, "offline", "--message", c.message, "--json")
		got.want(t, 0)
		var shown struct {
			Datastore string
			Type      *string
			Message   string
		}
		must(t, json.Unmarshal([]byte(h.run("maintenance", "show", tank, "--json").stdout), &shown))
		if shown.Datastore != tank || shown.Type == nil || *shown.Type != "offline" || shown.Message != c.message {
			t.Errorf("message %q: got %+v", c.message, shown)
		}
		if line := "\tmaintenance-mode " + c.value + "\n"; c.value != "" && !strings.Contains(h.config(), line) {
			t.Errorf("message %q: got %q, want the line %q", c.message, h.config(), line)
		}
	}
	h.run("maintenance", "clear", tank).want(t, 0)
	if now := h.config(); now != plain {
		t.Errorf("set and cleared: got %q, want %q again", now, plain)
	}
	if got := h.run("maintenance", "show", tank, "--json").stdout; !strings.Contains(got, `"type":null`) {
		t.Errorf("without a mode: got %s", got)
	}
}

// What is wrong in a maintenance command, and then nothing has changed.
var wrongModes = []struct {
	args []string
	code int
	says string
}{
	{[]string{"set", "nothing", "offline"}, 1, "nothing"},
	{[]string{"clear", "nothing"}, 1, "nothing"},
	{[]string{"show", "nothing"}, 1, "nothing"},
	{[]string{"set", tank, "delete"}, 2, "delete"},
	{[]string{"set", tank, "hibernate"}, 2, "hibernate"},
	{[]string{"set", tank, "unmount"}, 2, "unmount"},
	{[]string{"set", tank, ""}, 2, ""},
	{[]string{"set", tank}, 2, ""},
	{[]string{"set", tank, "offline", "--wait=-1s"}, 2, "--wait"},
	{[]string{"set", tank, "offline", "--message", strings.Repeat("x", 65)}, 2, "64"},
	{[]string{"set", tank, "offline", "--message", "a\nb"}, 2, "control"},
	{[]string{"set", tank, "offline", "--message", "a\x1b[31m"}, 2, "control"},
	{[]string{"set", tank, "offline", "--message", "a\xff"}, 2, ""},
	{[]string{"sing", tank}, 2, ""},
}

func TestWrongMaintenanceCommands(t *testing.T) {
	h := newHost(t)
	h.run("datastore", "add", tank, fixture(t, "ds-basic")).want(t, 0)
	config := h.config()
	for _, w := range wrongModes {
		got := h.run(append([]string{"maintenance"}, w.args...)...)
		got.want(t, w.code)
		got.says(t, w.says)
		if now := h.config(); now != config {
			t.Errorf("%q: datastore.cfg changed to %q", w.args, now)
		}
	}
	other := fixture(t, "ds-split")
	got := h.run("maintenance", "set", other, "offline")
	got.want(t, 1)
	got.says(t, "first: pbsfs datastore add", other)
}

// --drain sets the mode at once, and then waits for what is open.
func TestDrain(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	a := startActor(t, "hold", m.path(diskImage))
	must(t, opens(m.path(conf)))
	want := truthOf(t, "ds-basic", diskImage).entries[0].SHA256
	for _, c := range []struct {
		name string
		args []string
		stop func(*running)
		code int
		says string
	}{
		{"wait is over", []string{"--wait", "1s"}, func(*running) {}, 3, "stays so"},
		{"interrupted", nil, func(r *running) { must(t, r.cmd.Process.Signal(os.Interrupt)) }, 3, "stays so"},
		{"closed", nil, func(*running) { a.end() }, 0, "waiting for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := m.host.start(append([]string{"maintenance", "set", tank, "offline", "--drain"}, c.args...)...)
			eventually(t, "the mode being set", func() error {
				if err := opens(m.path(conf)); err == nil {
					return unlike("files can be opened")
				}
				return nil
			})
			wantErrno(t, "opening while it drains", opens(m.path(conf)), unix.EHOSTDOWN)
			if sum := a.ask("read"); sum != want {
				t.Errorf("reading while it drains: got %s, want %s", sum, want)
			}
			c.stop(r)
			text := r.end(c.code)
			if !strings.Contains(text, c.says) || c.code == 3 && !strings.Contains(text, a.who()+" (descriptor): "+m.path(diskImage)) {
				t.Errorf("got this on stderr, want it to say %q, and who remains:\n%s", c.says, text)
			}
			wantErrno(t, "opening afterwards", opens(m.path(conf)), unix.EHOSTDOWN)
			m.host.run("maintenance", "clear", tank).want(t, 0)
			must(t, opens(m.path(conf)))
		})
	}
}

// A mode that was taken back while it drains does not hold.
func TestDrainFailsWhenItsModeIsTakenBack(t *testing.T) {
	m := newTank(t, copyFixture(t, "ds-basic"))
	a := startActor(t, "hold", m.path(conf))
	for _, change := range [][]string{{"clear", tank}, {"set", tank, "read-only"}} {
		r := m.host.start("maintenance", "set", tank, "offline", "--drain")
		eventually(t, "the mode being set", func() error {
			if !strings.Contains(m.host.config(), "offline") {
				return unlike("the configuration is %s", m.host.config())
			}
			return nil
		})
		m.host.run(append([]string{"maintenance"}, change...)...).want(t, 0)
		if text := r.end(1); !strings.Contains(text, "taken back") {
			t.Errorf("%v: got %q", change, text)
		}
	}
	// Set once more, a mode is refused while something is open.
	if r := m.host.run("maintenance", "set", tank, "offline", "--drain", "--wait", "50ms"); r.code != 3 {
		t.Errorf("got exit code %d and %s, want 3", r.code, r.stderr)
	}
	again := m.host.run("maintenance", "set", tank, "offline", "--wait", "50ms")
	again.want(t, 3)
	again.says(t, "stays so", a.who())
	a.end()
	m.host.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
}

// Who reads is not in the way of read-only.
func TestReadOnlyNamesWritersOnly(t *testing.T) {
	m := newTank(t, copyFixture(t, "ds-basic"))
	reader := startActor(t, "hold", m.path(conf))
	writer := startActor(t, "idle")
	file := filepath.Join(m.host.dir, "run", "active-operations", tank)
	text, err := os.ReadFile(file)
	must(t, err)
	replace(t, file, strings.Replace(string(text), "[", "["+writer.operation(0, 1).line()+",", 1))
	got := m.host.run("maintenance", "set", tank, "read-only", "--wait", "50ms")
	got.want(t, 3)
	got.says(t, writer.who())
	if strings.Contains(got.stderr, m.path(conf)) || strings.Contains(got.stderr, reader.who()) {
		t.Errorf("who reads is named: %s", got.stderr)
	}
	writer.end()
	m.host.run("maintenance", "set", tank, "read-only", "--wait", patience.String()).want(t, 0)
	reader.end()
}

// privateEnv names the test that this process runs with mounts of its own.
const privateEnv = "PBSFS_INTEGRATION_PRIVATE"

// alone runs a test once more, in a process where /etc and /run are the test's
// own, and reports whether this is that process.
func alone(t *testing.T) bool {
	t.Helper()
	needRoot(t)
	if os.Getenv(privateEnv) == t.Name() {
		return true
	}
	if _, err := os.Lstat("/etc/proxmox-backup"); err == nil {
		t.Skip("needs a machine without a Proxmox Backup Server")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), privateEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("%v:\n%s", err, out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Skipf("%s", out)
	}
	return false
}

// defaultHosts returns hosts without overrides: root's, and that of a user with
// a run-time directory where a login makes it.
func defaultHosts(t *testing.T) (root, user *host) {
	t.Helper()
	user = newUserHost(t)
	root = &host{t: t, dir: user.dir, uid: 0}
	must(t, unix.Mount("none", "/run", "tmpfs", 0, "mode=755"))
	for _, dir := range []string{"/run/upper", "/run/work", "/run/user/65534"} {
		must(t, os.MkdirAll(dir, 0o755))
	}
	if err := unix.Mount("none", "/etc", "overlay", 0, "lowerdir=/etc,upperdir=/run/upper,workdir=/run/work"); err != nil {
		t.Skipf("needs overlay mounts: %v", err)
	}
	at := fmt.Sprintf("/run/user/%d", nobody)
	must(t, unix.Mount(filepath.Join(user.dir, "runtime"), at, "", unix.MS_BIND, ""))
	user.vars = append(user.vars, "XDG_RUNTIME_DIR="+at)
	return root, user
}

// A mode that root sets binds users, whose open files are in root's way.
func TestUsersObeyRoot(t *testing.T) {
	if !alone(t) {
		return
	}
	needUserMounts(t)
	root, user := defaultHosts(t)
	store := copyFixture(t, "ds-basic")
	tool(t, "chown", "-R", fmt.Sprint(nobody), store)
	root.run("datastore", "add", tank, store).want(t, 0)
	m := user.mount(store)
	file := make(chan *os.File, 1)
	openConf := func() error {
		f, err := os.Open(m.path(conf))
		file <- f
		return err
	}
	must(t, asUser(nobody, openConf))
	config, err := os.ReadFile("/etc/pbsfs/datastore.cfg")
	must(t, err)
	for _, args := range [][]string{{"maintenance", "set", tank, "offline"}, {"maintenance", "clear", tank}} {
		user.run(args...).want(t, 1)
	}
	user.run("datastore", "remove", tank).want(t, 3) // it is mounted
	refused := root.run("maintenance", "set", tank, "offline", "--wait", "100ms")
	refused.want(t, 3)
	refused.says(t, fmt.Sprintf("process %d pbsfs: 1 read", m.process.pid), m.path(conf))
	if now, err := os.ReadFile("/etc/pbsfs/datastore.cfg"); err != nil || string(now) != string(config) {
		t.Errorf("refused, but datastore.cfg changed to %q, %v", now, err)
	}
	if s := root.status(); s.reads() != 1 || len(s.Mounts) != 1 || s.Mounts[0].Mountpoint != m.dir || len(s.Handles) != 1 {
		t.Errorf("root's status: got %+v, want the user's mount and its open file", s)
	}
	must(t, (<-file).Close())
	root.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
	wantErrno(t, "a user opening a file in root's offline maintenance", asUser(nobody, openConf), unix.EHOSTDOWN)
	<-file
	if got := user.run("maintenance", "show", tank).stdout; got != "offline\n" {
		t.Errorf("a user is shown the mode %q", got)
	}
	root.run("maintenance", "clear", tank).want(t, 0)
	must(t, asUser(nobody, openConf))
	must(t, (<-file).Close())
	m.unmount()
}
