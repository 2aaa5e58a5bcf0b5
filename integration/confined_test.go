package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The capabilities with which datastores are read, as /proc shows them.
const (
	capReading   = 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER
	capElsewhere = capReading | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_CHOWN
	capMounting  = capElsewhere | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_MKNOD | 1<<unix.CAP_KILL
	capRestoring = capElsewhere | 1<<unix.CAP_FSETID | 1<<unix.CAP_MKNOD | 1<<unix.CAP_SETFCAP | 1<<unix.CAP_LINUX_IMMUTABLE | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_RESOURCE
)

// rightsOf reads a line of the status of each thread of a process.
func (p process) rightsOf(t *testing.T, field string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(p.proc("task/*/status"))
	must(t, err)
	out := make(map[string]string)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has just ended
		}
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, field+":"); ok {
				out[f] = strings.TrimSpace(v)
			}
		}
	}
	if len(out) < 2 {
		t.Fatalf("%s: %d threads of process %d have it: %v", field, len(out), p.pid, out)
	}
	return out
}

// holds checks that no thread of a process has capabilities besides those, or may get
// any, and whether its system calls are filtered.
func (p process) holds(t *testing.T, most uint64, filtered bool) {
	t.Helper()
	for _, field := range []string{"CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd"} {
		for thread, text := range p.rightsOf(t, field) {
			have, err := strconv.ParseUint(text, 16, 64)
			must(t, err)
			if field == "CapBnd" && !p.ofRoot(t) {
				continue // only root can change it, and nothing gets what is in it
			}
			if have&^most != 0 {
				t.Errorf("%s: %s is %x, want no more than %x", thread, field, have, most)
			}
		}
	}
	want := map[string]string{"NoNewPrivs": "1", "Seccomp": "0"}
	if filtered {
		want["Seccomp"] = "2"
	}
	for field, value := range want {
		for thread, got := range p.rightsOf(t, field) {
			if got != value {
				t.Errorf("%s: %s is %s, want %s", thread, field, got, value)
			}
		}
	}
}

func (p process) ofRoot(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile(p.proc("status"))
	must(t, err)
	return strings.Contains(string(text), "\nUid:\t0\t")
}

// usherOf returns the other process of a mount.
func (p process) usherOf(t *testing.T) process {
	t.Helper()
	children, err := filepath.Glob(p.proc("task/*/children"))
	must(t, err)
	for _, f := range children {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for child := range strings.FieldsSeq(string(text)) {
			line, err := os.ReadFile("/proc/" + child + "/cmdline")
			if err == nil && strings.Contains(string(line), "\x00usher\x00") {
				pid, err := strconv.Atoi(child)
				must(t, err)
				return findProcess(t, pid)
			}
		}
	}
	t.Fatalf("process %d has no usher", p.pid)
	return process{}
}

// The process that decodes what is in a datastore may do little else, in each of its
// threads, and nothing that it could run may do more.
func TestServingProcessHoldsLeast(t *testing.T) {
	needRoot(t)
	root := func(t *testing.T, args ...string) *mount { return newHost(t).mount(fixture(t, "ds-basic"), args...) }
	for name, c := range map[string]struct {
		mount func(t *testing.T) *mount
		most  uint64
	}{
		"root":        {func(t *testing.T) *mount { return root(t) }, capReading},
		"allow_other": {func(t *testing.T) *mount { return root(t, "-o", "allow_other,noexec") }, capReading},
		"with a key": {func(t *testing.T) *mount {
			h := newHost(t)
			h.vars = append(h.vars, "PBS_ENCRYPTION_PASSWORD="+password(t, keyScrypt))
			return h.mount(fixture(t, "ds-crypt"), "--keyfile", h.keyFile(keyScrypt))
		}, capReading},
		"where files are another user's": {func(t *testing.T) *mount {
			h := newHost(t)
			must(t, os.Chown(filepath.Join(h.dir, "run"), nobody, nobody))
			return h.mount(fixture(t, "ds-basic"))
		}, capElsewhere},
		"ordinary user": {func(t *testing.T) *mount {
			return mountOf(t, true)
		}, 0},
		"removable": {func(t *testing.T) *mount {
			r, h := newRemovable(t, "ext4"), newHost(t)
			r.plug()
			r.configure(h)
			m := h.mountBy(r.name)
			t.Cleanup(func() { h.run("unmount", r.name) }) // which keeps the device mounted
			return m
		}, capReading},
		"rescue": {func(t *testing.T) *mount {
			r := newRemovable(t, "ext4")
			return newHost(t).mountBy("--device", r.plug())
		}, capReading},
		"not there yet": {func(t *testing.T) *mount {
			r, h := newRemovable(t, "ext4"), newHost(t)
			where := []string{"--standby", "--device", r.uuid, "--path", "store"}
			m := h.mountBy(where...)
			r.plug()
			h.run(append(append([]string{"mount"}, where...), m.dir)...).want(t, 0) // which has another process mount it
			return m
		}, capReading},
	} {
		t.Run(name, func(t *testing.T) {
			m := c.mount(t)
			m.process.holds(t, c.most, true)
			u := m.process.usherOf(t)
			if u.ofRoot(t) {
				u.holds(t, capMounting, false)
			}
			readAll(t, m) // with all threads that this takes
			m.process.holds(t, c.most, true)
			m.unmount()
			eventually(t, "the other process ending", u.ended)
		})
	}
}

// btrfsNeeds returns what tells where on a disk with btrfs a directory lies, if there is
// one.
func btrfsNeeds(t *testing.T) uint64 {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if strings.Contains(string(table), " - btrfs ") {
		return 1 << unix.CAP_SYS_ADMIN
	}
	return 0
}

// hostOf returns a host of root or of another user, with a datastore of that user.
func hostOf(t *testing.T, user bool) (h *host, store string) {
	t.Helper()
	if !user {
		return newHost(t), fixture(t, "ds-basic")
	}
	needUserMounts(t)
	store = copyFixture(t, "ds-basic")
	tool(t, "chown", "-R", fmt.Sprint(nobody), store)
	return newUserHost(t), store
}

func mountOf(t *testing.T, user bool) *mount {
	t.Helper()
	h, store := hostOf(t, user)
	return h.mount(store)
}

// readAll has programs read in a mount, at once.
func readAll(t *testing.T, m *mount) {
	t.Helper()
	who := exec.Command("find", m.dir, "-maxdepth", "6", "-type", "f", "-size", "-64k", "-exec", "cat", "{}", "+")
	if m.host.uid != 0 {
		who.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(m.host.uid), Gid: uint32(m.host.uid)}}
	}
	out, _ := who.Output() // some of the fixtures cannot be read without a key
	if len(out) == 0 {
		t.Error("nothing could be read")
	}
}

// The API may mount and take away, and no more; commands that read, what reading takes.
func TestOtherReadersHoldLeast(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	store := copyFixture(t, "ds-basic")
	s := h.serve(store)
	s.process.holds(t, capMounting|1<<unix.CAP_NET_BIND_SERVICE, true)
	for name, c := range map[string]struct {
		args []string
		most uint64
	}{
		"cat":     {[]string{"cat", store, diskImage}, capReading | btrfsNeeds(t)},
		"restore": {[]string{"restore", store, diskImage, "-"}, capRestoring},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := h.command(c.args...)
			out, err := cmd.StdoutPipe() // which is not read at first, so that it waits
			must(t, err)
			must(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			_, err = out.Read(make([]byte, 1))
			must(t, err)
			findProcess(t, cmd.Process.Pid).holds(t, c.most, true)
			must(t, cmd.Process.Kill())
			_ = cmd.Wait()
		})
	}
}

// Whatever takes a tree away, of root or of another user, nothing of it is left, and
// neither process.
func TestAllWaysToEndAMount(t *testing.T) {
	needRoot(t)
	for _, user := range []bool{false, true} {
		for name, end := range map[string]func(t *testing.T, m *mount){
			"SIGTERM":       func(t *testing.T, m *mount) { m.process.signal(t, syscall.SIGTERM) },
			"SIGINT":        func(t *testing.T, m *mount) { m.process.signal(t, syscall.SIGINT) },
			"pbsfs unmount": func(t *testing.T, m *mount) { m.host.run("unmount", m.dir).want(t, 0) },
			"root unmounts": func(t *testing.T, m *mount) { tool(t, "umount", m.dir) },
			"fusermount3": func(t *testing.T, m *mount) {
				cmd := exec.Command("fusermount3", "-u", m.dir)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(m.host.uid), Gid: uint32(m.host.uid)}}
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("fusermount3: %v: %s", err, out)
				}
			},
		} {
			t.Run(fmt.Sprintf("%s, user %v", name, user), func(t *testing.T) {
				m := mountOf(t, user)
				u := m.process.usherOf(t)
				end(t, m)
				eventually(t, "the process ending", m.process.ended)
				eventually(t, "the other process ending", u.ended)
				m.gone()
			})
		}
	}
}

// A terminal sends its signal to all processes of a mount in the foreground.
func TestInterruptReachesAForegroundMountOnce(t *testing.T) {
	for _, user := range []bool{false, true} {
		h, store := hostOf(t, user)
		m := h.unmounted(store)
		cmd := h.command("mount", "--foreground", m.store, m.dir)
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Setpgid = true
		must(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		eventually(t, "the mount", func() error {
			if len(m.records()) != 1 || mountsAt(t, m.dir) != 1 {
				return unlike("there is no record")
			}
			return nil
		})
		must(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
		select {
		case err := <-ended:
			must(t, err)
		case <-time.After(patience):
			t.Fatal("the process goes on")
		}
		m.gone()
	}
}

// Without its usher, a process serves on, and the command that unmounts does it all.
func TestMountOutlivesItsUsher(t *testing.T) {
	for _, user := range []bool{false, true} {
		h, store := hostOf(t, user)
		m := h.mount(store, "--stop-timeout", "100ms")
		u := m.process.usherOf(t)
		u.signal(t, syscall.SIGKILL)
		eventually(t, "the other process ending", u.ended)
		readAll(t, m)
		m.unmount()

		m = h.mount(store, "--stop-timeout", "100ms")
		m.process.usherOf(t).signal(t, syscall.SIGKILL)
		m.process.signal(t, syscall.SIGTERM) // which it cannot follow to the end
		eventually(t, "the process ending", m.process.ended)
		m.process = process{} // it has been dead for a moment, and that is no news
		h.run("unmount", m.dir).want(t, 0)
	}
}

// What it holds is enough for a datastore that only its owner can read, and that owner
// finds it as it was, down to the access times by which chunks are kept.
func TestConfinedProcessReadsWhatIsOfOthers(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	store := copyFixture(t, "ds-basic")
	must(t, filepath.WalkDir(store, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o640)
		if d.IsDir() {
			mode = 0o750
		}
		old := time.Unix(1_600_000_000, 0)
		must(t, os.Chown(path, nobody, nobody))
		must(t, os.Chmod(path, mode))
		return os.Chtimes(path, old, old)
	}))
	before := atimes(t, store)
	m := h.mount(store)
	m.show()
	readAll(t, m)
	m.unmount()
	for path, want := range before {
		if got := atimes(t, store)[path]; got != want {
			t.Errorf("%s: accessed at %d, was %d", path, got, want)
			break
		}
	}
}

func atimes(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	out := make(map[string]int64)
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		out[path] = st.Atim.Nano()
		return nil
	}))
	return out
}

// A user who keeps root's config lock hinders no process of root for long, also not one
// that cannot see who that is.
func TestConfinedProcessesGetRootsLock(t *testing.T) {
	needRoot(t)
	needTool(t, "flock")
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != "pid:[4026531836]" {
		t.Skip("locks are taken only where all processes can be seen")
	}
	for _, what := range []string{"mount", "cat"} {
		h := newHost(t)
		m := h.mount(fixture(t, "ds-basic"))
		lock := filepath.Join(h.dir, "config", ".datastore.lck")
		must(t, os.WriteFile(lock, nil, 0o644))
		for path, mode := range map[string]os.FileMode{h.dir: 0o755, filepath.Dir(lock): 0o755, lock: 0o644} {
			must(t, os.Chmod(path, mode))
		}
		eventually(t, "the mount not being counted, so that what comes needs the lock", func() error {
			files, err := filepath.Glob(filepath.Join(h.dir, "run", "active-operations", "*"))
			for _, f := range files {
				if text, err := os.ReadFile(f); err != nil || strings.Contains(string(text), fmt.Sprintf(`"pid":%d,`, m.process.pid)) {
					return unlike("%s is %s, %v", f, text, err)
				}
			}
			return err
		})
		holder := exec.Command("flock", "-s", lock, "sh", "-c", "echo held; sleep 100")
		holder.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Setpgid: true}
		out, err := holder.StdoutPipe()
		must(t, err)
		must(t, holder.Start())
		_, err = out.Read(make([]byte, 5))
		must(t, err)
		if what == "mount" {
			must(t, opens(m.path(conf)))
		} else {
			h.run("cat", m.store, conf).want(t, 0)
		}
		_ = syscall.Kill(-holder.Process.Pid, syscall.SIGKILL)
		_ = holder.Wait()
	}
}
