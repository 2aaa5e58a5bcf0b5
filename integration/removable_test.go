package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// diskTypes are the file systems that removable disks have in tests.
var diskTypes = []string{"ext4", "xfs", "btrfs"}

// removable is a disk with a datastore in its directory "store", in a file.
type removable struct {
	t            *testing.T
	fstype, file string
	uuid         string
	name         string // what the datastore is called where it is configured
	dev          string // "" while it is not plugged in
}

// diskImages are file systems that were made once, by type. Tests work on copies.
var diskImages sync.Map

// newRemovable makes a disk that is not plugged in.
func newRemovable(t *testing.T, fstype string) *removable {
	t.Helper()
	needLoop(t)
	r := &removable{t: t, fstype: fstype, file: filepath.Join(tempDir(t), "disk"), name: fmt.Sprintf("pbsfs-test-%d", time.Now().UnixNano()%1e9)}
	t.Cleanup(func() { _ = os.Remove(r.place()) })
	made, ok := diskImages.Load(fstype)
	if !ok {
		made = makeImage(t, fstype)
		diskImages.Store(fstype, made)
	}
	tool(t, "cp", "--sparse=always", made.(string), r.file)
	r.uuid = strings.TrimSpace(tool(t, "blkid", "-p", "-o", "value", "-s", "UUID", r.file))
	return r
}

// makeImage makes a file system with a datastore.
func makeImage(t *testing.T, fstype string) string {
	t.Helper()
	needTool(t, "mkfs."+fstype)
	store := fixture(t, "ds-basic")
	file := filepath.Join(filepath.Dir(program), fstype+".image")
	tool(t, "truncate", "-s", "304M", file)
	tool(t, "mkfs."+fstype, "-q", "-L", "PBSFS"+fstype, file)
	at := tempDir(t)
	tool(t, "mount", "-o", "loop", file, at)
	tool(t, "cp", "-a", store, filepath.Join(at, "store"))
	must(t, unix.Unmount(at, 0))
	return file
}

// place is where the datastore is mounted when it is configured.
func (r *removable) place() string { return "/mnt/datastore/" + r.name }

// plug makes a device of the disk. It is unplugged when the test ends.
func (r *removable) plug() string {
	r.t.Helper()
	r.dev = strings.TrimSpace(tool(r.t, "losetup", "--find", "--show", r.file))
	if r.fstype == "btrfs" {
		// The kernel remembers which file system it saw last on a device of that number, and
		// takes this disk for that one, which is still open. There may be nothing to forget.
		_ = exec.Command("btrfs", "device", "scan", "--forget", r.dev).Run()
	}
	r.t.Cleanup(func() {
		for r.dev != "" && unix.Unmount(r.place(), 0) == nil {
			r.t.Errorf("%s was left mounted", r.place())
		}
		if r.dev != "" {
			r.unplug()
		}
	})
	return r.dev
}

// unplug takes the device away, which must not be in use.
func (r *removable) unplug() {
	r.t.Helper()
	dev := r.dev
	r.dev = ""
	tool(r.t, "losetup", "--detach", dev)
	if text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(dev), "loop/backing_file")); err == nil {
		r.t.Errorf("%s was detached, and still has the file %s: somebody uses it", dev, text)
	}
}

// alter mounts the disk for writing, and changes something.
func (r *removable) alter(change func(at string)) {
	r.t.Helper()
	at := tempDir(r.t)
	tool(r.t, "mount", "-o", "loop", r.file, at)
	change(at)
	must(r.t, unix.Unmount(at, 0))
}

// sum is a checksum of all of the disk.
func (r *removable) sum() string {
	r.t.Helper()
	f, err := os.Open(r.file)
	must(r.t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	must(r.t, err)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// configure makes the disk a datastore of the host.
func (r *removable) configure(h *host) {
	r.t.Helper()
	h.run("datastore", "add", r.name, "store", "--backing-device", r.uuid).want(r.t, 0)
}

// mountBy mounts the datastore by name, or by device, until the test ends.
func (h *host) mountBy(args ...string) *mount {
	h.t.Helper()
	m := h.unmounted("")
	h.run(append(append([]string{"mount"}, args...), m.dir, "--log", m.log)...).want(h.t, 0)
	if h.t.Failed() {
		h.t.FailNow()
	}
	m.process = m.findServer()
	m.store = m.records()[0].Path
	return m
}

// nothingLeft checks that the datastore is not mounted, counted, locked or in a
// mode any more, and that no device is.
func (r *removable) nothingLeft(h *host) {
	r.t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(r.t, err)
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, r.name) || strings.Contains(line, h.dir) {
			r.t.Errorf("left mounted: %s", line)
		}
	}
	if config := h.config(); strings.Contains(config, "maintenance-mode") {
		r.t.Errorf("a mode is left:\n%s", config)
	}
	files, err := filepath.Glob(filepath.Join(h.runDir(), "*", "*"))
	must(r.t, err)
	for _, f := range files {
		switch text, err := os.ReadFile(f); {
		case filepath.Base(filepath.Dir(f)) == "active-operations":
			if strings.HasSuffix(f, ".lock") {
				continue
			}
			for _, o := range decodeOperations(r.t, text) {
				// That of who was killed counts no more; servers stay listed.
				if o.Active.Read+o.Active.Write > 0 && runs(o.PID) {
					r.t.Errorf("an operation is left in %s: %s", f, o.line())
				}
			}
		case err == nil && filepath.Base(f) != ".lock":
			r.t.Errorf("left behind: %s", f)
		}
	}
}

// runs reports whether a process has not ended.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// show checks that the tree shows the datastore.
func (m *mount) show() {
	m.t.Helper()
	want := truthOf(m.t, "ds-basic", alpha+"/etc.pxar")
	reportDifferences(m.t, want.name, compare(m.path(want.name), want))
}

// missing is nil when the tree says that the disk is not there.
func (m *mount) missing() error {
	m.t.Helper()
	if err := opens(m.path(conf)); !errors.Is(err, unix.ENOMEDIUM) {
		return unlike("opening a file gives %v, want %v", err, unix.ENOMEDIUM)
	}
	if err := opens(m.path(alpha, "etc.pxar", "alpha-9.conf")); !errors.Is(err, unix.ENOMEDIUM) { // which the kernel may have in its cache
		return unlike("opening a file in an archive gives %v, want %v", err, unix.ENOMEDIUM)
	}
	if _, err := os.ReadDir(m.dir); !errors.Is(err, unix.ENOMEDIUM) {
		return unlike("listing the top gives %v, want %v", err, unix.ENOMEDIUM)
	}
	return nil
}
