package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const unitDir = "../dist/systemd"

// units returns the names of the units, with their texts.
func units(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(unitDir, "*"))
	must(t, err)
	out := make(map[string]string)
	for _, f := range files {
		text, err := os.ReadFile(f)
		must(t, err)
		out[filepath.Base(f)] = string(text)
	}
	if len(out) == 0 {
		t.Fatal("there are no units")
	}
	return out
}

// setting returns the value of a line of a unit.
func setting(unit, name string) (value string, ok bool) {
	for line := range strings.Lines(unit) {
		if v, found := strings.CutPrefix(strings.TrimSpace(line), name+"="); found {
			value, ok = v, true
		}
	}
	return value, ok
}

// systemd finds nothing wrong with the units.
func TestUnitsAreValid(t *testing.T) {
	needTool(t, "systemd-analyze")
	dir := tempDir(t)
	for name, text := range units(t) {
		text = strings.ReplaceAll(text, "/usr/bin/pbsfs", program) // which must be there
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	for name := range units(t) {
		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", filepath.Join(dir, name)).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if !strings.HasSuffix(name, ".service") {
			continue
		}
		// What is left open in systemd's reckoning is what a mount needs.
		if out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=55", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, lastLines(string(out), 3))
		}
	}
}

// Whatever makes a mount namespace for a service would keep its tree from all others, and
// some of systemd's other limits take away what pbsfs needs.
func TestUnitsLeaveMountsAlone(t *testing.T) {
	apart := []string{
		"ProtectSystem", "ProtectHome", "ProtectProc", "ProcSubset", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
		"PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateUsers", "PrivateNetwork", "PrivateIPC", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "ExecPaths",
		"NoExecPaths", "TemporaryFileSystem", "BindPaths", "BindReadOnlyPaths", "RootDirectory", "RootImage", "MountFlags", "DynamicUser",
		"ProtectClock", "DevicePolicy", "DeviceAllow", // which would keep it from the device of FUSE
		"RestrictSUIDSGID", // which refuses openat2(2)
	}
	for name, text := range units(t) {
		for _, s := range apart {
			if v, ok := setting(text, s); ok {
				t.Errorf("%s has %s=%s", name, s, v)
			}
		}
	}
}

// Its capabilities are enough for a mount, and nothing it runs gets more.
func TestUnitHasEnoughCapabilities(t *testing.T) {
	needRoot(t)
	needTool(t, "setpriv")
	text := units(t)["pbsfs@.service"]
	list, ok := setting(text, "CapabilityBoundingSet")
	if !ok {
		t.Fatal("the unit has no CapabilityBoundingSet")
	}
	set := "-all"
	for c := range strings.FieldsSeq(list) {
		set += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	confined := func(h *host, args ...string) {
		t.Helper()
		h.system("setpriv", append([]string{"--bounding-set", set, "--inh-caps", "-all", "--no-new-privs", program}, args...)...).wantSystem(t, 0)
	}
	t.Run("directory", func(t *testing.T) {
		h := newHost(t)
		m := h.unmounted(fixture(t, "ds-basic"))
		confined(h, "mount", m.store, m.dir, "--log", m.log)
		m.process = m.findServer()
		m.show()
		confined(h, "unmount", m.dir)
		m.gone()
	})
	t.Run("device", func(t *testing.T) {
		h := newHost(t)
		r := newRemovable(t, "ext4")
		dev := r.plug()
		m := h.unmounted("")
		confined(h, "mount", "--device", dev, m.dir, "--log", m.log)
		m.process = m.findServer()
		m.show()
		confined(h, "unmount", m.dir)
		m.gone()
	})
}

// manager is the socket on which a service manager listens.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(tempDir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, os.Chmod(path, 0o777))
	return &manager{t: t, conn: conn, path: path}
}

// hears waits for that message. Others that come before are passed over if they are
// allowed.
func (m *manager) hears(want string, allowed ...string) {
	m.t.Helper()
	must(m.t, m.conn.SetReadDeadline(time.Now().Add(patience)))
	for {
		buf := make([]byte, 4096)
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("waiting for %s: %v", want, err)
		}
		got := string(buf[:n])
		if got == want {
			return
		}
		if !slices.Contains(allowed, got) {
			m.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// A mount in the foreground tells the service manager when the tree answers, that it goes
// on answering, and that it ends.
func TestServiceManagerIsTold(t *testing.T) {
	h, sys := newHost(t), newManager(t)
	h.vars = append(h.vars, "NOTIFY_SOCKET="+sys.path, "WATCHDOG_USEC=600000")
	m := h.unmounted(fixture(t, "ds-basic"))
	server := h.start("mount", "--foreground", m.store, m.dir)
	sys.hears("READY=1")
	if _, err := os.ReadDir(m.dir); err != nil || mountsAt(t, m.dir) != 1 {
		t.Errorf("it says that it is ready, and is not: %v", err)
	}
	for range 3 {
		sys.hears("WATCHDOG=1")
	}
	must(t, server.cmd.Process.Signal(syscall.SIGTERM))
	sys.hears("STOPPING=1", "WATCHDOG=1")
	server.end(0)
	if mountsAt(t, m.dir) != 0 {
		t.Error("the tree is left")
	}
}

// With a key, the process starts anew before it serves, and is the same for the manager.
func TestServiceManagerIsToldByWhoHasKeys(t *testing.T) {
	h, sys := newHost(t), newManager(t)
	secrets := tempDir(t)
	must(t, os.WriteFile(filepath.Join(secrets, "proxmox-backup-client.encryption-password"), []byte(password(t, keyScrypt)), 0o600))
	h.vars = append(h.vars, "NOTIFY_SOCKET="+sys.path, "CREDENTIALS_DIRECTORY="+secrets)
	m := h.unmounted(fixture(t, "ds-crypt"))
	server := h.start("mount", "--foreground", "-o", "keyfile="+h.keyFile(keyScrypt), m.store, m.dir)
	sys.hears("READY=1")
	h.run("unmount", m.dir).want(t, 0)
	server.end(0)
}

// A mount without a manager that wants to hear from it pings nobody.
func TestDetachedMountTellsNoManager(t *testing.T) {
	h, sys := newHost(t), newManager(t)
	h.vars = append(h.vars, "NOTIFY_SOCKET="+sys.path, "WATCHDOG_USEC=600000")
	m := h.mount(fixture(t, "ds-basic"))
	must(t, sys.conn.SetReadDeadline(time.Now()))
	if n, err := sys.conn.Read(make([]byte, 100)); err == nil {
		t.Errorf("got %d bytes", n)
	}
	m.unmount()
}

func TestServeTellsServiceManager(t *testing.T) {
	h, sys := newHost(t), newManager(t)
	h.vars = append(h.vars, "NOTIFY_SOCKET="+sys.path)
	s := h.serve()
	sys.hears("READY=1")
	s.process.signal(t, syscall.SIGTERM)
	sys.hears("STOPPING=1")
	<-s.ended
}

// autoMount writes the file of a mount.
func (m *mount) autoMount(name string, lines ...string) {
	m.t.Helper()
	dir := filepath.Join(m.host.dir, "config", "mounts")
	must(m.t, os.MkdirAll(dir, 0o755))
	text := fmt.Sprintf("MOUNTPOINT=%s\n%s\n", m.dir, strings.Join(lines, "\n"))
	must(m.t, os.WriteFile(filepath.Join(dir, name+".conf"), []byte(text), 0o600))
}

// What stands in files, with AUTO=yes, is mounted when its disk is there.
func TestMountAuto(t *testing.T) {
	h := newHost(t)
	named, byDevice, other := newRemovable(t, "ext4"), newRemovable(t, "xfs"), newRemovable(t, "btrfs")
	dev := named.plug()
	named.configure(h)
	one, two, off, away := h.unmounted(""), h.unmounted(""), h.unmounted(""), h.unmounted("")
	one.autoMount("one", "DATASTORE="+named.name, "OPTIONS=log="+one.log, "AUTO=yes")
	two.autoMount("two", "OPTIONS=\"device=UUID="+byDevice.uuid+",log="+two.log+"\"", "AUTO=yes")
	off.autoMount("off", "DATASTORE="+named.name, "AUTO=no")
	away.autoMount("away", "OPTIONS=device=UUID="+other.uuid, "AUTO=yes")

	h.run("mount", "--auto", dev).want(t, 0)
	one.process = one.findServer()
	one.show()
	h.run("mount", "--auto", dev).want(t, 0) // again, and nothing more
	second := byDevice.plug()
	h.run("mount", "--auto").want(t, 0)
	two.process = two.findServer()
	two.show()
	for _, m := range []*mount{off, away} {
		if mountsAt(t, m.dir) != 0 {
			t.Errorf("%s: mounted", m.dir)
		}
	}
	off.autoMount("wrong", "DATASTORE="+named.name, "OPTIONS=nosuchword", "AUTO=yes")
	r := h.run("mount", "--auto", dev)
	r.want(t, 2)
	r.says(t, "wrong: ", "unknown mount option nosuchword")
	h.run("mount", "--auto", second).want(t, 0) // which has nothing to do with it
	two.unmount()
	h.run("unmount", named.name).want(t, 0)
	one.gone()
	named.nothingLeft(h)
}
