package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk is plugged in, looked into, and taken away.
func TestLifeOfRemovableDatastore(t *testing.T) {
	for _, fstype := range diskTypes {
		t.Run(fstype, func(t *testing.T) {
			r, h := newRemovable(t, fstype), newHost(t)
			r.configure(h)
			r.plug()
			m := h.mountBy("--device", r.uuid) // configured: it is mounted as by its name
			m.show()
			held := startActor(t, "hold", m.path(diskImage))
			got := h.run("unmount", r.name, "--wait", "100ms")
			got.want(t, 3)
			got.says(t, held.who(), m.path(diskImage))
			m.show()
			held.end()
			h.run("unmount", r.name).want(t, 0)
			r.unplug()
			m.gone()
			r.nothingLeft(h)
		})
	}
}

func TestRescueByDeviceLeavesNothing(t *testing.T) {
	r, h := newRemovable(t, "xfs"), newHost(t)
	must(t, os.WriteFile(h.configFile(), nil, 0o600))
	for _, arg := range []string{r.uuid, "PBSFSxfs", "LABEL=PBSFSxfs", ""} {
		dev := r.plug()
		if arg == "" {
			arg = dev
		}
		m, second := h.mountBy("--device", arg), h.mountBy("--device", arg, "--path", "/store/")
		m.show()
		m.unmount()
		second.show()
		second.unmount()
		r.unplug()
		r.nothingLeft(h)
	}
	// The serving process is killed: the next command unmounts the device.
	r.plug()
	m := h.mountBy("--device", r.uuid)
	m.process.signal(t, syscall.SIGKILL)
	eventually(t, "the process being gone", m.process.ended)
	m.unmount()
	r.unplug()
	r.nothingLeft(h)
	// It ends by a signal, with a file open.
	r.plug()
	m = h.mountBy("--device", r.uuid, "--stop-timeout", "50ms")
	held := startActor(t, "hold", m.path(conf))
	m.process.signal(t, syscall.SIGTERM)
	eventually(t, "the process being gone", m.process.ended)
	held.end()
	h.run("device", "list").want(t, 0)
	r.unplug()
	r.nothingLeft(h)
}

func TestUnmountCountsWhoeverIsAlive(t *testing.T) {
	r, h := newRemovable(t, "ext4"), newHost(t)
	r.configure(h)
	r.plug()
	m := h.mountBy(r.name)
	other := startActor(t, "idle")
	file := filepath.Join(h.dir, "run", "active-operations", r.name)
	write := func(o operation) { replace(t, file, "["+o.line()+"]") }
	write(other.operation(1, 0))
	h.run("unmount", r.name, "--wait", "50ms").want(t, 3)
	write(other.operation(0, 1))
	got := h.run("unmount", r.name, "--wait", "50ms")
	got.want(t, 3)
	got.says(t, other.who())
	m.show()
	write(other.operation(1, 0))
	other.end()
	h.run("unmount", r.name).want(t, 0)
	r.unplug()
	r.nothingLeft(h)
}

// Who keeps the device or the tree busy without an operation is named, and then
// nothing has changed.
func TestUnmountNamesWhoIsInTheWay(t *testing.T) {
	r, h := newRemovable(t, "ext4"), newHost(t)
	r.configure(h)
	r.plug()
	m := h.mountBy(r.name)
	refused := func(what string, texts ...string) {
		t.Helper()
		h.idle(r.name)
		got := h.run("unmount", r.name, "--wait", "100ms")
		got.want(t, 3)
		got.says(t, texts...)
		if strings.Contains(h.config(), "maintenance-mode") {
			t.Errorf("%s: the mode stays:\n%s", what, h.config())
		}
		if mountsAt(t, r.place()) != 1 || mountsAt(t, m.dir) != 1 {
			t.Errorf("%s: got %d mounts of the device and %d of the tree, want 1 of each", what, mountsAt(t, r.place()), mountsAt(t, m.dir))
		}
		m.show()
	}
	on := startActor(t, "cwd", filepath.Join(r.place(), "host"))
	refused("a working directory on the device", on.who(), "cwd")
	on.end()
	in := startActor(t, "cwd", m.path("host"))
	refused("a working directory in the tree", in.who(), "cwd")
	in.end()

	// A copy of all mounts, in a namespace that hears nothing of ours.
	copied := exec.Command("unshare", "--mount", "--propagation", "private", "sleep", "1000")
	must(t, copied.Start())
	defer func() { _ = copied.Process.Kill(); _ = copied.Wait() }()
	eventually(t, "the copy being made", func() error {
		own, _ := os.Readlink("/proc/self/ns/mnt")
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", copied.Process.Pid)); err != nil || ns == own {
			return unlike("process %d is in %s, %v", copied.Process.Pid, ns, err)
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", copied.Process.Pid))
		if string(comm) != "sleep\n" {
			return unlike("it is %q, %v", comm, err)
		}
		return nil
	})
	refused("a copied namespace", fmt.Sprintf("process %d sleep", copied.Process.Pid), "namespace")
	must(t, copied.Process.Kill())
	_ = copied.Wait()
	h.run("unmount", r.name).want(t, 0)
	r.unplug()
	r.nothingLeft(h)
}

// A device that somebody else has mounted is used there; it is unmounted only by
// the datastore's name.
func TestDeviceThatIsMountedIsUsedWhereItIs(t *testing.T) {
	r, h := newRemovable(t, "ext4"), newHost(t)
	must(t, os.WriteFile(h.configFile(), nil, 0o600))
	dev, at := r.plug(), tempDir(t)
	must(t, unix.Mount(dev, at, "ext4", 0, ""))
	m := h.mountBy("--device", r.uuid)
	if want := filepath.Join(at, "store"); m.store != want {
		t.Errorf("got the datastore in %s, want %s", m.store, want)
	}
	m.show()
	m.unmount()
	if mountsAt(t, at) != 1 {
		t.Fatal("the device was unmounted")
	}
	r.configure(h)
	m = h.mountBy(r.name)
	if want := filepath.Join(at, "store"); m.store != want {
		t.Errorf("got the datastore in %s, want %s", m.store, want)
	}
	m.unmount()
	if mountsAt(t, at) != 1 {
		t.Fatal("the device was unmounted")
	}
	m = h.mountBy(r.name)
	h.run("unmount", r.name).want(t, 0)
	m.gone()
	if mountsAt(t, at) != 0 {
		t.Error("the device was not unmounted by the datastore's name")
	}
	r.unplug()
	r.nothingLeft(h)
	got := h.run("unmount", r.name)
	got.want(t, 1)
	got.says(t, "not mounted")
}

// faultProgram builds the program with places where it can be killed.
func faultProgram(t *testing.T) string {
	t.Helper()
	file := filepath.Join(tempDir(t), "pbsfs")
	tool(t, "env", "CGO_ENABLED=0", "go", "build", "-tags", "pbsfs_faults", "-o", file, "../cmd/pbsfs")
	return file
}

// killed runs a command that kills itself at a step.
func (h *host) killed(program, step string, args ...string) {
	h.t.Helper()
	cmd := h.command(args...)
	cmd.Path = program
	cmd.Env = append(cmd.Env, "PBSFS_FAULT="+step)
	out, err := cmd.CombinedOutput()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || status.Signal() != syscall.SIGKILL {
		h.t.Fatalf("pbsfs %q, to be killed at %q: got %v\n%s", args, step, err, out)
	}
}

// Whatever step it is killed at, the command that comes next finds, or makes, a
// consistent state.
func TestKilledUnmountLeavesNothingStuck(t *testing.T) {
	faults := faultProgram(t)
	r, h := newRemovable(t, "ext4"), newHost(t)
	r.configure(h)
	for _, step := range []string{"mode set", "trees unused", "device unmounted here", "device unmounted", "tree unmounted", "done"} {
		for name, next := range map[string]func() *mount{
			"status":      func() *mount { h.run("status", r.name).want(t, 0); return nil },
			"maintenance": func() *mount { h.run("maintenance", "show", r.name).want(t, 0); return nil },
			"unmount":     func() *mount { h.run("unmount", r.name); return nil },
			"mount":       func() *mount { return h.mountBy(r.name) },
		} {
			r.plug()
			m := h.mountBy(r.name)
			h.killed(faults, step, "unmount", r.name)
			if !strings.Contains(h.config(), "maintenance-mode unmount,message=pbsfs unmount ") {
				t.Errorf("%s: got the configuration %s, want the mode of the command that was killed", step, h.config())
			}
			second := next()
			if strings.Contains(h.config(), "maintenance-mode") {
				t.Errorf("killed at %q, then %s: the mode is stuck:\n%s", step, name, h.config())
			}
			if second != nil {
				second.show()
			}
			if mountsAt(t, m.dir) > 0 && mountsAt(t, r.place()) > 0 {
				m.show()
			} else if mountsAt(t, m.dir) > 0 {
				must(t, m.missing())
			}
			h.run("unmount", r.name)
			h.run("unmount", r.name).want(t, 1) // nothing is left to unmount
			eventually(t, "the tree's process ending", m.process.ended)
			r.unplug()
			r.nothingLeft(h)
		}
	}
}

// A mount that is killed before its tree is there leaves nothing that the next
// command does not put in order.
func TestKilledMountLeavesNothingStuck(t *testing.T) {
	faults := faultProgram(t)
	r, h := newRemovable(t, "ext4"), newHost(t)
	must(t, os.WriteFile(h.configFile(), nil, 0o600))
	for _, step := range []string{"disk recorded", "disk mounted", "tree mounted"} {
		r.plug()
		m := h.unmounted("")
		h.killed(faults, step, "mount", "--foreground", "--device", r.uuid, m.dir)
		h.run("device", "list").want(t, 0)
		if step == "tree mounted" {
			h.run("unmount", m.dir).want(t, 0)
		}
		r.unplug()
		r.nothingLeft(h)
	}
}

// A mode that PBS has set is PBS's.
func TestUnmountLeavesServersModeAlone(t *testing.T) {
	r, h := newRemovable(t, "ext4"), newHost(t)
	r.configure(h)
	r.plug()
	m := h.mountBy(r.name)
	for _, value := range []string{"unmount", "delete", "s3-refresh"} {
		text := h.config() + "\tmaintenance-mode " + value + "\n"
		replace(t, h.configFile(), text)
		got := h.run("unmount", r.name)
		got.want(t, 4)
		h.run("status", r.name).want(t, 0)
		if h.config() != text || mountsAt(t, r.place()) != 1 || mountsAt(t, m.dir) != 1 {
			t.Errorf("%s: something changed: %s", value, h.config())
		}
		replace(t, h.configFile(), strings.Replace(text, "\tmaintenance-mode "+value+"\n", "", 1))
	}
	h.run("maintenance", "set", r.name, "read-only", "--message", "a note").want(t, 0)
	before := h.config()
	h.run("unmount", r.name).want(t, 0)
	if h.config() != before {
		t.Errorf("got the configuration %q, want %q", h.config(), before)
	}
	r.unplug()
}
