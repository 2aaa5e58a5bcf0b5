package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// secretsOf returns every secret of the fixtures' keys, as it might be shown.
func secretsOf(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{
		"passphrase of scrypt": password(t, keyScrypt), "passphrase of PBKDF2": password(t, keyPBKDF2),
		"passphrase of the master key": password(t, keyMaster), "another passphrase": otherSecret,
	}
	data := keyMembers(t, filepath.Join(fixtureDir(t), "keys", keyNone))["data"].(string)
	raw, err := base64.StdEncoding.DecodeString(data)
	must(t, err)
	out["key in base64"], out["key in hex"], out["key"] = data[:20], hex.EncodeToString(raw[:8]), string(raw[:8])
	list := strings.Trim(fmt.Sprintf("%d", raw[:6]), "[]")
	out["key in decimal"], out["key in JSON"] = list, strings.ReplaceAll(list, " ", ",")
	return out
}

// otherSecret is in a variable that is of no use here.
const otherSecret = "the server's own password"

// keyed prepares a host whose environment has passphrases of all kinds, and
// returns the arguments that name all keys.
func keyed(h *host) []string {
	h.vars = append(h.vars,
		"PBS_ENCRYPTION_PASSWORD="+password(h.t, keyScrypt), "PBS_PASSWORD="+otherSecret,
		"PBS_ENCRYPTION_PASSWORD_FILE="+h.file("unused", password(h.t, keyPBKDF2)),
		"PBSFS_MASTER_KEY_PASSWORD="+password(h.t, keyMaster), "UNTOUCHED=yes")
	return []string{
		"--keyfile", h.keyFile(keyNone), "--keyfile", h.keyFile(keyScrypt),
		"--keyfile", h.keyFile(keyPBKDF2) + ",password-file=" + h.file("pass", password(h.t, keyPBKDF2)),
		"--master-keyfile", h.keyFile(keyMaster),
	}
}

// Nothing that a serving process shows has a secret in it.
func TestSecretsShowNowhere(t *testing.T) {
	needRoot(t)
	t.Run("detached", func(t *testing.T) {
		h := newHost(t)
		args := keyed(h)
		checkSecrets(t, h.mount(fixture(t, "ds-crypt"), args...))
	})
	t.Run("foreground", func(t *testing.T) {
		s := serveOn(t, newHost(t), keyed)
		checkSecrets(t, s.mount)
		s.unmount()
		s.end(0)
	})
	// Keys may come later, when it is too late to clean the environment.
	t.Run("foreground without keys", func(t *testing.T) {
		s := serveOn(t, newHost(t), func(h *host) []string { keyed(h); return nil })
		s.host.run("key", "add", s.dir, "--keyfile", s.host.keyFile(keyNone)).want(t, 0)
		checkShown(t, s.mount)
		s.unmount()
		s.end(0)
	})
}

// serveOn mounts ds-crypt in the foreground, on a host that prepare has changed.
func serveOn(t *testing.T, h *host, prepare func(h *host) []string) *foreground {
	t.Helper()
	args := prepare(h)
	s := &foreground{mount: h.unmounted(fixture(t, "ds-crypt")), done: make(chan error, 1)}
	s.cmd = h.command(append([]string{"mount", s.store, s.dir, "--foreground", "--log", s.log}, args...)...)
	s.cmd.Stderr = &s.stderr
	must(t, s.cmd.Start())
	s.process = findProcess(t, s.cmd.Process.Pid)
	go func() { s.done <- s.cmd.Wait() }()
	eventually(t, "the mount being served", func() error {
		if len(s.records()) == 0 {
			return errors.New("there is no record of it")
		}
		_, err := os.Lstat(s.path("host"))
		return err
	})
	return s
}

// checkSecrets reads all of a mount that has all keys, and then looks for them.
func checkSecrets(t *testing.T, m *mount) {
	t.Helper()
	for _, a := range truth(t, "ds-crypt") {
		reportDifferences(t, a.name, compare(m.path(a.name), a))
	}
	checkShown(t, m)
}

func checkShown(t *testing.T, m *mount) {
	t.Helper()
	shown := map[string]string{}
	for _, name := range []string{"environ", "cmdline", "status", "comm"} {
		text, err := os.ReadFile(m.process.proc(name))
		must(t, err)
		shown["/proc/PID/"+name] = string(text)
	}
	environ := strings.Split(shown["/proc/PID/environ"], "\x00")
	for _, v := range environ {
		if strings.Contains(v, "PASSWORD") {
			t.Errorf("environment of the serving process: got %q, want no passphrases", v)
		}
	}
	if !strings.Contains(shown["/proc/PID/environ"], "UNTOUCHED=yes") {
		t.Errorf("environment of the serving process: got %q, want the rest of ours", environ)
	}
	log, err := os.ReadFile(m.log)
	must(t, err)
	shown["the log"] = string(log)
	for _, args := range [][]string{{"status"}, {"status", "--json"}} {
		got := m.host.run(args...)
		got.want(t, 0)
		shown[strings.Join(args, " ")] = got.stdout + got.stderr
	}
	must(t, filepath.WalkDir(m.host.runDir(), func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(p)
		shown[p] = string(text)
		return err
	}))
	for what, secret := range secretsOf(t) {
		for where, text := range shown {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows the %s:\n%q", where, what, text)
			}
		}
	}
	checkMemoryOnly(t, m)
	if limit := coreLimit(t, m.process); limit != [2]string{"0", "0"} {
		t.Errorf("limit of core dumps: got %q, want 0", limit)
	}
}

// checkMemoryOnly checks that what was decrypted went into no file: the process
// has none to write to but its log and what it keeps in the run directory.
func checkMemoryOnly(t *testing.T, m *mount) {
	t.Helper()
	fds, err := os.ReadDir(m.process.proc("fd"))
	must(t, err)
	for _, fd := range fds {
		to, err := os.Readlink(m.process.proc("fd/" + fd.Name()))
		info, ierr := os.ReadFile(m.process.proc("fdinfo/" + fd.Name()))
		if err != nil || ierr != nil { // it may just have been closed
			continue
		}
		var flags int
		for line := range strings.Lines(string(info)) {
			_, _ = fmt.Sscanf(line, "flags: %o", &flags)
		}
		if flags&unix.O_ACCMODE == unix.O_RDONLY || to == m.log || strings.HasPrefix(to, m.host.dir+"/run/") {
			continue
		}
		if strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "/dev/") || strings.HasPrefix(to, "/memfd:") {
			t.Errorf("the serving process can write to %s", to)
		}
	}
}

// coreLimit returns the soft and hard limit of core dumps of a process.
func coreLimit(t *testing.T, p process) [2]string {
	t.Helper()
	text, err := os.ReadFile(p.proc("limits"))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			fields := strings.Fields(rest)
			return [2]string{fields[0], fields[1]}
		}
	}
	t.Fatalf("process %d has no limit of core dumps", p.pid)
	return [2]string{}
}

// A process with a key cannot be looked into by others of its user: what /proc
// has of it is root's.
func TestProcessWithKeyIsClosed(t *testing.T) {
	h := newUserHost(t)
	needUserMounts(t)
	store := copyFixture(t, "ds-crypt")
	tool(t, "chown", "-R", fmt.Sprintf("%d:%d", nobody, nobody), store)
	for _, withKey := range []bool{false, true} {
		h := &host{t: t, dir: h.dir, uid: h.uid, vars: h.vars}
		var args []string
		if withKey {
			args = []string{"--keyfile", h.keyFile(keyNone)}
		}
		m := h.mount(store, args...)
		var st unix.Stat_t
		must(t, unix.Stat(m.process.proc("environ"), &st))
		if closed := st.Uid == 0; closed != withKey {
			t.Errorf("with key %v: environ of process %d belongs to user %d", withKey, m.process.pid, st.Uid)
		}
		for _, name := range []string{"environ", "mem", "maps"} {
			err := asUser(nobody, func() error {
				f, err := os.Open(m.process.proc(name))
				if err == nil {
					f.Close()
				}
				return err
			})
			if withKey {
				wantErrno(t, "opening "+name+" as the same user", err, unix.EACCES)
			} else if name == "environ" {
				must(t, err)
			}
		}
		if !withKey {
			continue
		}
		a := truthOf(t, "ds-crypt", encFirst+"/root.pxar")
		var found []difference
		must(t, asUser(nobody, func() error {
			c := comparison{}
			found = c.run(m.path(a.name), a)
			return nil
		}))
		reportDifferences(t, a.name, found)
		h.run("status", "--json").want(t, 0)
	}
}

// terminal is a terminal of a test's own.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File

	mu   sync.Mutex
	text bytes.Buffer
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a terminal: %v", err)
	}
	fd := int(master.Fd())
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	term := &terminal{t: t, master: master, slave: slave}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.text.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return // nobody has the other end any more
			}
		}
	}()
	t.Cleanup(func() {
		slave.Close()
		<-done
		master.Close()
	})
	return term
}

// attach makes it the terminal of a command.
func (term *terminal) attach(cmd *exec.Cmd) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.slave, term.slave, term.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
}

// said returns what was shown so far.
func (term *terminal) said() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.text.String()
}

// wait waits until a text is shown.
func (term *terminal) wait(text string) {
	term.t.Helper()
	eventually(term.t, "the terminal showing "+text, func() error {
		if got := term.said(); !strings.Contains(got, text) {
			return fmt.Errorf("it shows %q", got)
		}
		return nil
	})
	// The echo is switched off after the question was written.
	eventually(term.t, "what is typed not showing", func() error {
		mode, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
		if err == nil && mode.Lflag&unix.ECHO != 0 {
			err = errors.New("it shows")
		}
		return err
	})
}

// write types a text.
func (term *terminal) write(text string) {
	term.t.Helper()
	_, err := term.master.WriteString(text)
	must(term.t, err)
}

// mode returns how the terminal is set.
func (term *terminal) mode() unix.Termios {
	term.t.Helper()
	mode, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	must(term.t, err)
	return *mode
}
