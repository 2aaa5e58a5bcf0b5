package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests hold what SECURITY.md promises against others on the machine, and against
// who wrote the datastore. docs/reliability.md says which promise is held where.

// secret is what a datastore must not lead to.
const secret = "pbsfs-test: this is no part of the datastore"

// Wherever a symbolic link lies in a datastore, it leads nowhere: not out of the
// datastore, not to another one, and not to what was in its place.
func TestLinksInADatastoreLeadNowhere(t *testing.T) {
	outside := tempDir(t)
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte(secret), 0o600))
	const snapshot = "host/alpha/2023-11-15T22:13:27Z"
	for name, places := range map[string][]string{
		"chunks":      {".chunks/*/*"},
		"prefixes":    {".chunks/*"},
		"all chunks":  {".chunks"},
		"files":       {snapshot + "/etc.pxar.didx", snapshot + "/client.log.blob", "host/alpha/owner", "host/alpha/notes", "host/void/*", "vm/100", "ns"},
		"manifest":    {snapshot + "/index.json.blob", "vm", "ns/*"},
		"group, type": {"host/alpha", "vm"},
		"types":       {"host", "vm", "ct"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			store := copyFixture(t, "ds-basic")
			var replaced []string
			for _, place := range places {
				at, err := filepath.Glob(filepath.Join(store, place))
				must(t, err)
				if len(at) == 0 {
					t.Errorf("the fixture has no %s", place)
				}
				for i, path := range at {
					leadElsewhere(t, path, outside, i%2 == 0)
				}
				replaced = append(replaced, at...)
			}
			if r := h.run("ls", store); r.code != 0 && name == "all chunks" {
				return // it is no datastore
			}
			m := h.mount(store)
			if name == "chunks" || name == "prefixes" || name == "all chunks" {
				if text, err := os.ReadFile(m.path(snapshot, "etc.pxar", "alpha-9.conf")); err == nil {
					t.Errorf("%d bytes are read through links", len(text))
				}
			}
			for _, path := range replaced {
				shown := m.path(strings.TrimSuffix(strings.TrimSuffix(path[len(store)+1:], ".didx"), ".blob"))
				if names, err := os.ReadDir(shown); err == nil && len(names) > 0 {
					t.Errorf("%s: a link is followed, to %v", shown, names)
				}
				if text, err := os.ReadFile(shown); err == nil && len(text) > 0 {
					t.Errorf("%s: a link is followed, to %q", shown, text[:min(len(text), 100)])
				}
			}
			out, _ := exec.Command("grep", "-rl", secret, m.path("host"), m.path("ns")).Output() // much of it is damaged
			if len(out) > 0 {
				t.Errorf("a link leads out of the datastore: %s", out)
			}
			m.unmount()
		})
	}
}

// leadElsewhere puts a link in the place of a file or directory: to what was there, which
// would be valid in another datastore, or to what is no part of one.
func leadElsewhere(t *testing.T, path, outside string, valid bool) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	away := filepath.Join(tempDir(t), "away")
	must(t, os.Rename(path, away))
	switch {
	case valid:
		outside = away
	case !info.IsDir():
		outside = filepath.Join(outside, "secret")
	}
	must(t, os.Symlink(outside, path))
}

// withinTree makes a snapshot of a directory, and returns the datastore and the path of
// the archive.
func withinTree(t *testing.T, h *host, dir string) (store, archive string) {
	t.Helper()
	in := tempDir(t)
	must(t, os.Chmod(in, 0o755))
	store = bareStore(t, in)
	return store, h.create("tree.pxar:"+dir, store, "--id", "evil") + "/tree.pxar"
}

// A program with a set-user-id bit in a backup gives nobody rights, and a device node
// leads to no device.
func TestBackupsGiveNoPrivileges(t *testing.T) {
	needRoot(t)
	tree := tempDir(t)
	must(t, os.Chmod(tree, 0o755))
	program, err := exec.LookPath("id")
	must(t, err)
	text, err := os.ReadFile(program)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(tree, "id"), text, 0o755))
	must(t, os.Chmod(filepath.Join(tree, "id"), 0o755|os.ModeSetuid|os.ModeSetgid))
	if err := unix.Mknod(filepath.Join(tree, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("needs device nodes: %v", err)
	}
	must(t, os.Chmod(filepath.Join(tree, "null"), 0o666))
	h := newHost(t)
	store, archive := withinTree(t, h, tree)
	m := h.mount(store, "-o", "allow_other")
	for _, flag := range []string{"nosuid", "nodev"} {
		if info := mountInfo(t, m.dir); len(info) != 1 || !strings.Contains(info[0], flag) {
			t.Errorf("the mount is not %s: %v", flag, info)
		}
	}
	var st unix.Stat_t
	must(t, lstat(m.path(archive, "id"), &st))
	if st.Mode&unix.S_ISUID == 0 {
		t.Errorf("its mode is %o, which proves nothing", st.Mode)
	}
	cmd := exec.Command(m.path(archive, "id"), "-u")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(nobody) {
		t.Errorf("run by user %d, it is user %q, %v", nobody, out, err)
	}
	must(t, lstat(m.path(archive, "null"), &st))
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		t.Errorf("the device node has mode %o, which proves nothing", st.Mode)
	}
	wantErrno(t, "opening a device node", opens(m.path(archive, "null")), unix.EACCES)
	m.unmount()
}

// evilName is what a file may be called, and must not do to a terminal or a log.
const evilName = "a\x1b]0;owned\x07b\x1b[2J\r\nlevel=ERROR msg=forged \u202e\x9b"

// harmless reports what in a text could do something to a terminal, or forge a line.
func harmless(text string) error {
	if i := strings.IndexAny(text, "\x1b\x07\u202e\u009b"); i >= 0 {
		return fmt.Errorf("%q", text[max(0, i-40):min(len(text), i+40)])
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "level=ERROR") || strings.HasPrefix(line, "b") {
			return fmt.Errorf("a line is forged: %q", line)
		}
	}
	return nil
}

// Names in backups do nothing to a terminal, nor to a log, whatever prints them.
func TestNamesDoNothingToATerminal(t *testing.T) {
	h := newHost(t)
	tree := tempDir(t)
	must(t, os.WriteFile(filepath.Join(tree, evilName), []byte("content"), 0o644))
	store, archive := withinTree(t, h, tree)
	must(t, os.WriteFile(filepath.Join(tree, evilName), []byte("changed"), 0o644))
	h.create("tree.pxar:"+tree, store, "--id", "evil")
	to := tempDir(t)
	shown := func(what string, args ...string) {
		t.Helper()
		term := newTerminal(t)
		cmd := h.command(args...)
		term.attach(cmd)
		must(t, cmd.Start())
		_ = cmd.Wait() // some of them fail, and say why
		said := strings.ReplaceAll(term.said(), "\r\n", "\n")
		// The progress of a command is told in place, in a line that it draws anew.
		for _, ours := range []string{"\x1b[2K", "\x1b[K", "\x1b[0K", "\x1b[J"} {
			said = strings.ReplaceAll(said, ours, "")
		}
		if err := harmless(said); err != nil {
			t.Errorf("%s shows %v", what, err)
		}
	}
	group := filepath.Dir(filepath.Dir(archive))
	shown("ls", "ls", store, archive)
	shown("ls -l", "ls", "-l", store, archive)
	shown("ls of what is not there", "ls", store, archive+"/"+evilName+"/x")
	shown("cat of a directory", "cat", store, archive+"/"+evilName+"x")
	shown("find", "find", store, group, "--name", "*owned*")
	shown("history", "history", store, group, "tree.pxar/"+evilName)
	shown("diff", "diff", store, archive, filepath.Join(group, "latest", "tree.pxar"))
	shown("restore", "restore", store, archive, to)
	shown("restore upon it", "restore", store, archive, to, "--verify")
	for _, format := range []string{"text", "json"} {
		m := h.mount(store, "--log-format", format, "--stop-timeout", "0s")
		f, err := os.Open(m.path(archive, evilName))
		must(t, err)
		shown("status", "status")
		r := h.run("status", "--json")
		r.want(t, 0)
		if !json.Valid([]byte(r.stdout)) || strings.ContainsAny(r.stdout, "\x1b\x07") {
			t.Errorf("status --json: %q", r.stdout)
		}
		shown("unmount", "unmount", m.dir)
		m.process.signal(t, syscall.SIGTERM) // which cuts off what is open, and says so
		eventually(t, "the process ending", m.process.ended)
		must(t, f.Close())
		m.gone()
		text, err := os.ReadFile(m.log)
		must(t, err)
		if err := harmless(string(text)); err != nil {
			t.Errorf("the log has %v", err)
		}
		if !strings.Contains(string(text), "owned") {
			t.Errorf("the log does not name the file, which proves nothing: %s", text)
		}
	}
	must(t, os.RemoveAll(filepath.Join(store, ".chunks")))
	must(t, os.Mkdir(filepath.Join(store, ".chunks"), 0o755))
	shown("verify", "verify", store)
	shown("restore of what is damaged", "restore", store, archive, tempDir(t))
}

// Whoever may not, cannot connect to the socket of a mount; and whoever may can keep it
// from nothing.
func TestControlSocketUnderAttack(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	m := h.mount(fixture(t, "ds-basic"))
	socket := filepath.Join(h.runDir(), "mounts", fmt.Sprintf("%d.sock", m.process.pid))
	must(t, asUser(nobody, func() error {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return errors.Join(errors.New("another user can connect"), conn.Close())
		}
		if !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("connecting fails by %w", err)
		}
		return nil
	}))
	before := m.process.memory(t)
	garbage := [][]byte{[]byte("garbage\n"), bytes.Repeat([]byte("["), 1<<20), []byte(`{"add":{"offered":"` + strings.Repeat("x", 32<<20)), {0}, []byte(`{"ping":`)}
	var open []net.Conn
	for i := range 1000 {
		conn, err := net.DialTimeout("unix", socket, time.Second)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, os.ErrDeadlineExceeded) {
			break // that is how many the kernel lets wait
		}
		must(t, err)
		open = append(open, conn)
		_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if i%50 < len(garbage) {
			_, _ = conn.Write(garbage[i%50]) // it need not be taken
		}
	}
	readAll(t, m)
	for _, conn := range open {
		_ = conn.Close()
	}
	eventually(t, "an answer", func() error {
		if r := h.run("status"); r.code != 0 || !strings.Contains(r.stdout, m.dir) {
			return unlike("status says %s %s", r.stdout, r.stderr)
		}
		return nil
	})
	if grown := m.process.memory(t) - before; grown > 150<<20 {
		t.Errorf("its memory grew by %d MiB", grown>>20)
	}
	m.unmount()
}

// memory returns what a process has of memory, in bytes.
func (p process) memory(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(p.proc("statm"))
	must(t, err)
	var size, resident int64
	_, err = fmt.Sscan(string(text), &size, &resident)
	must(t, err)
	return resident * int64(os.Getpagesize())
}

// What another user has put where the cache would be is neither read nor written to.
func TestCacheOfAnotherUserIsNotUsed(t *testing.T) {
	needRoot(t)
	for name, plant := range map[string]func(cache string) error{
		"a directory": func(cache string) error { return os.MkdirAll(filepath.Join(cache, "pbsfs", "metadata"), 0o777) },
		"a link": func(cache string) error {
			must(t, os.Mkdir(filepath.Join(cache, "target"), 0o777))
			return os.Symlink(filepath.Join(cache, "target"), filepath.Join(cache, "pbsfs"))
		},
		"a file": func(cache string) error { return os.WriteFile(filepath.Join(cache, "pbsfs"), nil, 0o666) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			cache := filepath.Join(h.dir, "cache")
			must(t, os.Chmod(h.dir, 0o755))
			must(t, os.Chmod(cache, 0o777|os.ModeSticky))
			must(t, asUser(nobody, func() error { return plant(cache) }))
			m := h.mount(fixture(t, "ds-basic"))
			readAll(t, m)
			if len(m.logLines("metadata is kept in memory alone")) != 1 {
				t.Error("the log does not say that the cache is not used")
			}
			m.unmount()
			must(t, filepath.WalkDir(cache, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() && filepath.Base(path) != "pbsfs" {
					t.Errorf("%s was written", path)
				}
				return err
			}))
		})
	}
}

// A log that somebody else has prepared, as a pipe or a link, is not waited for, and what
// it leads to is not changed.
func TestRunDirectoryOfAnotherUserMisleadsNobody(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	run := filepath.Join(h.dir, "run")
	must(t, os.Chmod(h.dir, 0o755))
	must(t, os.Chmod(run, 0o777|os.ModeSticky))
	victim := filepath.Join(h.dir, "victim")
	must(t, os.WriteFile(victim, []byte(secret), 0o600))
	m := h.unmounted(fixture(t, "ds-basic"))
	must(t, asUser(nobody, func() error {
		for _, dir := range []string{"mounts", "active-operations"} {
			if err := os.Mkdir(filepath.Join(run, dir), 0o777); err != nil {
				return err
			}
		}
		for _, name := range []string{"mounts/1.json", "mounts/2.sock", "mounts/3.json.new", "pbsfs.log"} {
			if err := os.Symlink(victim, filepath.Join(run, name)); err != nil {
				return err
			}
		}
		return unix.Mkfifo(filepath.Join(run, "mounts", "4.json"), 0o666)
	}))
	cmd := h.command("mount", m.store, m.dir, "--log", m.log)
	out, err := cmd.CombinedOutput() // it may refuse, and must not be misled
	if err == nil {
		h.run("status").want(t, 0)
		h.run("unmount", m.dir).want(t, 0)
	} else {
		t.Logf("it refuses: %s", out)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != secret {
		t.Errorf("what a link leads to was changed: %q, %v", text, err)
	}
}
