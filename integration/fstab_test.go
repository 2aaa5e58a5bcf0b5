package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// installHelpers makes the program mount(8)'s helper until the test ends, in the mount
// table of the tests alone.
func installHelpers(t *testing.T) {
	t.Helper()
	needRoot(t)
	if os.Getenv(spaceEnv) == "" {
		t.Skip("needs a mount table of its own")
	}
	dir := tempDir(t)
	for _, name := range []string{"mount.pbsfs", "mount.fuse.pbsfs"} {
		must(t, os.Symlink(program, filepath.Join(dir, name)))
	}
	sbin, err := filepath.EvalSymlinks("/sbin")
	must(t, err)
	must(t, unix.Mount("overlay", sbin, "overlay", 0, "lowerdir="+dir+":"+sbin))
	t.Cleanup(func() { must(t, unix.Unmount(sbin, unix.MNT_DETACH)) })
}

// words are the options that every line of a test's fstab has.
func (m *mount) words(more ...string) string {
	return strings.Join(append([]string{
		"config_dir=" + filepath.Join(m.host.dir, "config"), "run_dir=" + m.host.runDir(), "log=" + m.log,
	}, more...), ",")
}

// fstab writes a table with one line for the mount.
func (m *mount) fstab(spec, fstype string, options ...string) string {
	m.t.Helper()
	file := filepath.Join(filepath.Dir(m.dir), "fstab")
	line := fmt.Sprintf("%s %s %s %s 0 0\n", spec, m.dir, fstype, m.words(options...))
	must(m.t, os.WriteFile(file, []byte(line), 0o644))
	return file
}

// system runs a program of the system as another user may, and returns its result.
func (h *host) system(name string, args ...string) result {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := h.command()
	path, err := exec.LookPath(name)
	must(h.t, err)
	cmd.Path, cmd.Args = path, append([]string{name}, args...)
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("%s %q: %v", name, args, err)
	}
	return result{cmd.Args, cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// wantSystem fails the test unless a program ended with that code and said these texts.
func (r result) wantSystem(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Fatalf("%q: got exit code %d, want %d; output: %s%s", r.args, r.code, code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("%q: got this on stderr, want it to say %q:\n%s", r.args, text, r.stderr)
		}
	}
	if code == 0 && r.stderr != "" {
		t.Errorf("%q: it says %q", r.args, r.stderr)
	}
}

// A line in fstab mounts a tree, more than once without harm, and umount(8) takes it away.
func TestMountFromFstab(t *testing.T) {
	installHelpers(t)
	for _, fstype := range []string{"pbsfs", "fuse.pbsfs"} {
		t.Run(fstype, func(t *testing.T) {
			h := newHost(t)
			m := h.unmounted(fixture(t, "ds-basic"))
			table := m.fstab(m.store, fstype, "noauto,nofail,_netdev,user,exec,x-systemd.automount,x-systemd.requires=network-online.target",
				"allow_other,uid=1234,cache_size=64MiB,max_inodes=5000")
			h.system("mount", "-T", table, m.dir).wantSystem(t, 0)
			m.process = m.findServer()
			if lines := mountInfo(t, m.dir); len(lines) != 1 || !strings.Contains(lines[0], " - fuse.pbsfs "+m.store+" ro,") || !strings.Contains(lines[0], "allow_other") {
				t.Errorf("got this in the mount table: %q", lines)
			}
			var st unix.Stat_t
			must(t, lstat(m.path("host"), &st))
			if st.Uid != 1234 {
				t.Errorf("got owner %d, want 1234", st.Uid)
			}
			h.system("mount", "-t", fstype, m.store, m.dir, "-o", m.words()).wantSystem(t, 0) // it is there already
			if n := mountsAt(t, m.dir); n != 1 {
				t.Errorf("got %d mounts, want 1", n)
			}
			h.system("mount", "-T", table, m.dir, "-o", "remount").wantSystem(t, 0) // changes nothing
			h.system("mount", "-T", table, m.dir, "-o", "remount,uid=5,cache_size=1MiB").wantSystem(t, 32, "remount cannot change uid, cache_size", "unmount "+m.dir, "key add")
			h.system("umount", m.dir).wantSystem(t, 0)
			eventually(t, "the serving process ending", m.process.ended)
			if lines := m.logLines("msg=unmounted"); len(lines) != 1 {
				t.Errorf("got %d lines in the log that say that it was unmounted, want 1", len(lines))
			}
			m.gone()
		})
	}
}

// 'mount -a' mounts what is missing, and can be given again.
func TestMountAllFromFstab(t *testing.T) {
	installHelpers(t)
	h := newHost(t)
	m := h.unmounted(fixture(t, "ds-basic"))
	h.run("datastore", "add", "tank", m.store).want(t, 0)
	table := m.fstab("pbsfs#tank", "pbsfs", "nofail")
	for range 2 {
		h.system("mount", "-a", "-T", table).wantSystem(t, 0)
	}
	m.process = m.findServer()
	if n := mountsAt(t, m.dir); n != 1 {
		t.Errorf("got %d mounts, want 1", n)
	}
	h.system("umount", m.dir).wantSystem(t, 0)
	eventually(t, "the serving process ending", m.process.ended)
}

// A line may name a disk, as its first field or, for a disk that is not there yet, as an
// option. umount(8) lets go of the disk as well.
func TestDiskInFstab(t *testing.T) {
	installHelpers(t)
	h := newHost(t)
	r := newRemovable(t, "ext4")
	dev := r.plug()
	for spec, options := range map[string]string{dev: "path=store", "none": "device=" + r.uuid + ",path=store"} {
		m := h.unmounted("")
		h.system("mount", "-T", m.fstab(spec, "pbsfs", options), m.dir).wantSystem(t, 0)
		m.process = m.findServer()
		m.show()
		h.system("umount", m.dir).wantSystem(t, 0)
		eventually(t, "the serving process ending", m.process.ended)
		eventually(t, "the disk being free", func() error {
			table, err := os.ReadFile("/proc/self/mountinfo")
			if err == nil && strings.Contains(string(table), dev+" ") {
				return errors.New("it is mounted")
			}
			return err
		})
	}
	m := h.unmounted("")
	h.system("mount", "-t", "pbsfs", dev, m.dir, "-o", m.words("device="+r.uuid)).wantSystem(t, 1, "write none in its place")
}

// What cannot be mounted is told in one line, with mount(8)'s exit codes.
func TestMountHelperFailures(t *testing.T) {
	installHelpers(t)
	h := newHost(t)
	m := h.unmounted(fixture(t, "ds-basic"))
	for _, c := range []struct {
		spec, options string
		flags         []string
		code          int
		text          string
	}{
		{m.store, "nosuchword", nil, 1, "pbsfs: unknown mount option nosuchword"},
		{m.store, "cache_size=much", nil, 1, "pbsfs: mount option cache_size=much: "},
		{m.store, "allow_root", nil, 1, "pbsfs: mount option allow_root is not possible"},
		{m.store, "keyfile=/none", nil, 32, "pbsfs: key file: "},
		{"/none", "ro", nil, 32, "pbsfs: "},
		{"pbsfs#none", "ro", nil, 32, "pbsfs: no datastore none in "},
		{"UUID=", "ro", nil, 32, ""},
		{m.store, "nosuchword", []string{"-f"}, 1, "pbsfs: unknown mount option nosuchword"},
		{m.store, "ro", []string{"-f"}, 0, ""},
		{m.store, "nosuchword,ro", []string{"-f", "-s"}, 0, ""},
		{m.store, "ro", []string{"-N", "/proc/self/ns/mnt"}, 1, "nsenter --mount="},
	} {
		r := h.system("mount", append(append([]string{"-t", "pbsfs"}, c.flags...), c.spec, m.dir, "-o", m.words(c.options))...)
		if c.spec == "UUID=" { // mount(8) itself refuses it
			if r.code == 0 {
				t.Errorf("%q: got exit code 0", r.args)
			}
			continue
		}
		r.wantSystem(t, c.code, c.text)
		if n := mountsAt(t, m.dir); n != 0 {
			t.Fatalf("%q: mounted", r.args)
		}
	}
}

// With 'user' in fstab, an ordinary user mounts a tree, and unmounts it.
func TestUserMountsFromFstab(t *testing.T) {
	installHelpers(t)
	needUserMounts(t)
	h := newUserHost(t)
	m := h.unmounted(copyFixture(t, "ds-basic"))
	tool(t, "chown", "-R", fmt.Sprint(nobody), m.store)
	file := filepath.Join(filepath.Dir(m.dir), "fstab")
	must(t, os.WriteFile(file, []byte(fmt.Sprintf("%s %s pbsfs noauto,user,log=%s 0 0\n", m.store, m.dir, m.log)), 0o644))
	must(t, unix.Mount(file, "/etc/fstab", "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount("/etc/fstab", unix.MNT_DETACH)) })
	h.system("mount", m.dir).wantSystem(t, 0)
	m.process = m.findServer()
	if lines := mountInfo(t, m.dir); len(lines) != 1 || !strings.Contains(lines[0], fmt.Sprintf("user_id=%d", nobody)) {
		t.Errorf("got this in the mount table: %q", lines)
	}
	h.system("ls", m.path("host")).wantSystem(t, 0)
	h.system("umount", m.dir).wantSystem(t, 0)
	eventually(t, "the serving process ending", m.process.ended)
	m.gone()
}

// A mount in the foreground ends well after umount(8), and as failed if it was cut off.
func TestUnmountIsToldFromACrash(t *testing.T) {
	needRoot(t)
	control := tempDir(t)
	must(t, unix.Mount("none", control, "fusectl", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(control, 0)) })
	for name, c := range map[string]struct {
		end  func(m *mount)
		code int
		text string
	}{
		"umount": {func(m *mount) { m.host.system("umount", m.dir).wantSystem(t, 0) }, 0, ""},
		"lazy umount": {func(m *mount) {
			held, err := os.Open(m.path(diskImage))
			must(t, err)
			m.host.system("umount", "-l", m.dir).wantSystem(t, 0)
			must(t, held.Close())
		}, 0, ""},
		"abort": {func(m *mount) {
			var st unix.Stat_t
			must(t, lstat(m.dir, &st))
			must(t, os.WriteFile(filepath.Join(control, fmt.Sprint(unix.Minor(st.Dev)), "abort"), []byte("1"), 0o600))
		}, 1, "dead; 'pbsfs unmount "},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			m := h.unmounted(fixture(t, "ds-basic"))
			server := h.start("mount", "--foreground", m.store, m.dir)
			eventually(t, "the tree", func() error { _, err := os.Stat(m.path("host")); return err })
			c.end(m)
			if said := server.end(c.code); !strings.Contains(said, c.text) {
				t.Errorf("it says %q, want %q in it", said, c.text)
			}
			if c.code != 0 {
				h.run("unmount", m.dir).want(t, 0)
			}
		})
	}
}

// A question to a tree always reaches the process that serves it.
func TestTreeIsAsked(t *testing.T) {
	m := mountAt(t, fixture(t, "ds-basic"))
	for range 2 {
		m.host.run("answers", m.dir).want(t, 0)
	}
	m.process.signal(t, syscall.SIGSTOP)
	asking := m.host.start("answers", m.dir)
	asked := findProcess(t, asking.cmd.Process.Pid)
	eventually(t, "the question waiting", func() error {
		for _, task := range asked.tasks(t) {
			if strings.Contains(task, "fuse") || strings.Contains(task, "request_wait_answer") {
				return nil
			}
		}
		if !asked.alive() {
			t.Fatal("it was answered although the serving process is stopped")
		}
		return errors.New("no thread waits for FUSE")
	})
	m.process.signal(t, syscall.SIGCONT)
	asking.end(0)
}

// tasks returns where the threads of a process wait in the kernel.
func (p process) tasks(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(p.proc("task/*/wchan"))
	must(t, err)
	var out []string
	for _, f := range files {
		text, _ := os.ReadFile(f)
		out = append(out, string(text))
	}
	return out
}
