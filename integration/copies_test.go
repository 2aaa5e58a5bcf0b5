package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pinned makes a namespace with a copy of all mounts, that no process is in and a
// file stands for. The result ends it.
func pinned(t *testing.T) (file string, end func()) {
	t.Helper()
	needTool(t, "unshare")
	dir := tempDir(t)
	// A namespace cannot be bound to a place that the namespace itself would see.
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", dir, "", unix.MS_PRIVATE, ""))
	file = filepath.Join(dir, "ns")
	must(t, os.WriteFile(file, nil, 0o600))
	ended := false
	end = func() {
		if !ended {
			ended = true
			_ = unix.Unmount(file, unix.MNT_DETACH)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	}
	t.Cleanup(end)
	pin(t, file)
	return file, end
}

// pin binds a new namespace to a file. The kernel allows that for namespaces that
// are younger than ours, and since Linux 6.18 tells their age by numbers that each
// processor hands out from a stock of its own.
func pin(t *testing.T, file string) {
	t.Helper()
	needTool(t, "taskset")
	var out []byte
	err := os.ErrNotExist
	for cpu := 0; cpu < runtime.NumCPU() && err != nil; cpu++ {
		out, err = exec.Command("taskset", "-c", fmt.Sprint(cpu), "unshare", "--mount="+file, "--propagation", "private", "true").CombinedOutput()
	}
	if err != nil {
		t.Skipf("needs a namespace that a file stands for: %v: %s", err, out)
	}
}

// spaced starts a process with a copy of all mounts of its own.
func spaced(t *testing.T) (who string, end func()) {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	end = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(end)
	_, err = out.Read(make([]byte, 16))
	must(t, err)
	return fmt.Sprintf("process %d", cmd.Process.Pid), end
}

// Copies of a tree in other namespaces are in the way of its unmount, with and
// without a process there.
func TestCopiesOfATreeAreInTheWay(t *testing.T) {
	needRoot(t)
	m := mountAt(t, copyFixture(t, "ds-basic"))
	refused := func(texts ...string) {
		t.Helper()
		for _, arg := range []string{m.dir, m.store} {
			got := m.host.run("unmount", arg, "--wait", "50ms")
			got.want(t, 3)
			got.says(t, append(texts, "copy of the mount in another namespace")...)
		}
		m.show()
	}
	file, end := pinned(t)
	refused(file)
	end()
	who, end := spaced(t)
	refused(who)
	end()
	m.unmount()
}

// So are overlays that have a directory of it as a layer, however that was written.
func TestOverlaysOfATreeAreInTheWay(t *testing.T) {
	needRoot(t)
	m := mountAt(t, copyFixture(t, "ds-basic"))
	base := filepath.Dir(m.dir)
	over := subdir(t, base, "over")
	must(t, unix.Mount("none", subdir(t, base, "rw"), "tmpfs", 0, "size=1m"))
	defer func() { must(t, unix.Unmount(filepath.Join(base, "rw"), unix.MNT_DETACH)) }()
	upper, work := subdir(t, filepath.Join(base, "rw"), "upper"), subdir(t, filepath.Join(base, "rw"), "work")
	group := filepath.Dir(filepath.Dir(conf))
	for _, lower := range []string{m.path(group), strings.TrimPrefix(m.path(group), filepath.Dir(base)+"/")} {
		cmd := exec.Command("mount", "-t", "overlay", "overlay", "-o", "lowerdir="+lower+",upperdir="+upper+",workdir="+work, over)
		cmd.Dir = filepath.Dir(base)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("needs overlays of FUSE: %v %s", err, out)
		}
		got := m.host.run("unmount", m.dir, "--wait", "50ms")
		got.want(t, 3)
		got.says(t, "overlay", over)
		m.show()
		// Also where the name of the layer leads elsewhere by now.
		file := cover(t, m.dir)
		got = m.host.run("unmount", m.dir, "--wait", "50ms")
		got.want(t, 3)
		got.says(t, "overlay", over)
		precious(t, file)
		must(t, unix.Unmount(m.dir, 0))
		// Taken away by somebody else, the tree is served to the overlay.
		must(t, unix.Unmount(m.dir, 0))
		must(t, opens(filepath.Join(over, strings.TrimPrefix(conf, group))))
		if !m.process.alive() {
			t.Error("the process ended while an overlay shows the tree")
		}
		must(t, unix.Unmount(over, 0))
		eventually(t, "the process ending", m.process.ended)
		m.run().want(t, 0)
		m.process = m.findServer()
	}
	m.unmount()
}

// Whatever would keep a disk in use is looked at before anything is unmounted.
func TestWhatKeepsADiskInUse(t *testing.T) {
	needRoot(t)
	r, h := newRemovable(t, "ext4"), newHost(t)
	r.configure(h)
	r.plug()
	m := h.mountBy(r.name)
	media := tempDir(t)
	keepers := map[string]func() (text string, end func()){
		"a bound mount": func() (string, func()) {
			must(t, unix.Mount(r.place(), media, "", unix.MS_BIND, ""))
			return media, func() { must(t, unix.Unmount(media, 0)) }
		},
		"another mount of the disk": func() (string, func()) {
			must(t, unix.Mount(r.dev, media, "ext4", unix.MS_RDONLY, ""))
			return media, func() { must(t, unix.Unmount(media, 0)) }
		},
		"a namespace without a process": func() (string, func()) { return pinned(t) },
		"a file of a lazy unmount": func() (string, func()) {
			must(t, unix.Mount(r.dev, media, "ext4", unix.MS_RDONLY, ""))
			f, err := os.Open(filepath.Join(media, "store"))
			must(t, err)
			must(t, unix.Unmount(media, unix.MNT_DETACH))
			return fmt.Sprintf("process %d ", os.Getpid()), func() { must(t, f.Close()) }
		},
		"a mount that is nowhere": func() (string, func()) {
			fd, err := unix.OpenTree(unix.AT_FDCWD, r.place(), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			must(t, err)
			return fmt.Sprintf("process %d ", os.Getpid()), func() { must(t, unix.Close(fd)) }
		},
	}
	for name, keep := range keepers {
		text, end := keep()
		h.idle(r.name)
		got := h.run("unmount", r.name, "--wait", "50ms")
		got.want(t, 3)
		got.says(t, text)
		if mountsAt(t, r.place()) != 1 || mountsAt(t, m.dir) != 1 || strings.Contains(h.config(), "maintenance-mode") {
			t.Errorf("%s: something changed: %d mounts of the disk, %d of the tree, configuration:\n%s",
				name, mountsAt(t, r.place()), mountsAt(t, m.dir), h.config())
		}
		m.show()
		end()
	}
	// Unmounted lazily by somebody else, the disk itself is not seen any more.
	f, err := os.Open(r.place())
	must(t, err)
	must(t, unix.Unmount(r.place(), unix.MNT_DETACH))
	h.idle(r.name)
	got := h.run("unmount", r.name, "--wait", "50ms")
	got.want(t, 3)
	got.says(t, fmt.Sprintf("process %d ", os.Getpid()))
	if mountsAt(t, m.dir) != 1 {
		t.Error("the tree was unmounted")
	}
	must(t, f.Close())
	h.run("unmount", r.name).want(t, 0)
	m.gone()

	m = h.mountBy(r.name)
	// What lies upon the place of the disk, or of the tree, stays.
	onDisk, onTree := coverWith(t, r.place()), coverWith(t, m.dir)
	h.run("unmount", r.name).want(t, 0)
	precious(t, onDisk)
	precious(t, onTree)
	must(t, unix.Unmount(r.place(), 0))
	must(t, unix.Unmount(m.dir, 0))
	fd, err := unix.Open(r.dev, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Errorf("the disk is said to be free, and cannot be opened exclusively: %v", err)
	} else {
		must(t, unix.Close(fd))
	}
	eventually(t, "the process ending", m.process.ended)
	r.unplug()
	r.nothingLeft(h)
}

// A disk and its copy have one UUID: the one is not taken for the other.
func TestUnmountOfOneOfTwoDisks(t *testing.T) {
	needRoot(t)
	r, h := newRemovable(t, "ext4"), newHost(t)
	r.configure(h)
	r.plug()
	m := h.mountBy(r.name)
	twin := &removable{t: t, fstype: r.fstype, file: r.file + ".twin", uuid: r.uuid, name: r.name + "-twin"}
	tool(t, "cp", "--sparse=always", r.file, twin.file)
	twin.plug()
	second := h.mountBy("--device", twin.dev, "--path", "store", "--rescue")
	h.run("unmount", r.name).want(t, 0)
	m.gone()
	second.show()
	second.unmount()
	twin.unplug()
	r.unplug()
	r.nothingLeft(h)
}

// A command is not in its own way through what it has inherited.
func TestUnmountLetsGoOfWhatItInherited(t *testing.T) {
	m := mountAt(t, copyFixture(t, "ds-basic"))
	cmd := m.host.command("unmount", m.dir)
	for range 2 {
		f, err := os.Open(m.path(conf))
		must(t, err)
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	in, err := os.Open(m.path(conf))
	must(t, err)
	cmd.Stdin = in
	cmd.Dir = m.path("host")
	must(t, cmd.Start())
	for _, f := range append(cmd.ExtraFiles, in) {
		must(t, f.Close())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("unmount with files of the tree open, and its working directory there: %v", err)
	}
	m.gone()
}
