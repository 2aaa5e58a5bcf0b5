package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// dirty makes the disk one that was never unmounted: what is in its journal has
// not been replayed, and a file that was removed while it was open is still there.
func (r *removable) dirty() {
	r.t.Helper()
	copied := r.file + ".dirty"
	r.alter(func(at string) {
		unix.Sync()
		for _, name := range []string{"kept", "removed"} {
			f, err := os.Create(filepath.Join(at, name))
			must(r.t, err)
			_, err = f.Write(make([]byte, 1<<20))
			must(r.t, err)
			must(r.t, f.Sync())
			defer f.Close()
		}
		must(r.t, os.Remove(filepath.Join(at, "removed")))
		d, err := os.Open(at)
		must(r.t, err)
		must(r.t, d.Sync())
		must(r.t, d.Close())
		tool(r.t, "cp", "--sparse=always", r.file, copied)
	})
	must(r.t, os.Rename(copied, r.file))
	if r.fstype == "ext4" {
		if text := tool(r.t, "dumpe2fs", "-h", r.file); !strings.Contains(text, "needs_recovery") {
			r.t.Errorf("the disk is not unclean: then this test cannot fail\n%s", text)
		}
		// The kernel cleans up orphans even when it may not replay the journal.
		tool(r.t, "debugfs", "-w", "-R", "ssv last_orphan 20", r.file)
	}
}

// A rescue changes no byte of the disk, whatever state that is in.
func TestRescueChangesNoByte(t *testing.T) {
	for _, fstype := range diskTypes {
		for _, unclean := range []bool{false, true} {
			name := fstype
			if unclean {
				name += " that was not unmounted"
			}
			t.Run(name, func(t *testing.T) {
				r, h := newRemovable(t, fstype), newHost(t)
				must(t, os.WriteFile(h.configFile(), nil, 0o600))
				if unclean {
					r.dirty()
				}
				before := r.sum()
				r.plug()
				m := h.mountBy("--device", r.uuid)
				for _, a := range truth(t, "ds-basic")[:2] {
					reportDifferences(t, a.name, compare(m.path(a.name), a))
				}
				m.show()
				m.unmount()
				h.run("device", "list").want(t, 0)
				r.unplug()
				r.nothingLeft(h)
				if r.sum() != before {
					t.Error("the disk was changed")
				}
			})
		}
	}
}

// listedDevice is an entry of what 'device list' shows.
type listedDevice struct {
	Device, UUID, Label, FSType string
	Size                        int64
	MountedAt                   *string `json:"mounted_at"`
	Datastores                  []struct {
		Path string
		Name *string
	}
	Problem string
}

// listed finds the disk in what the host lists.
func (r *removable) listed(h *host) listedDevice {
	r.t.Helper()
	got := h.run("device", "list", "--json")
	got.want(r.t, 0)
	var all []listedDevice
	must(r.t, json.Unmarshal([]byte(got.stdout), &all))
	i := slices.IndexFunc(all, func(d listedDevice) bool { return d.Device == r.dev })
	if i < 0 {
		r.t.Fatalf("%s is not listed: %s", r.dev, got.stdout)
	}
	return all[i]
}

func TestDeviceListShowsDatastores(t *testing.T) {
	for _, fstype := range diskTypes {
		t.Run(fstype, func(t *testing.T) {
			r, h := newRemovable(t, fstype), newHost(t)
			r.configure(h)
			r.alter(func(at string) {
				must(t, os.MkdirAll(filepath.Join(at, "old/pbs/.chunks"), 0o700))
				must(t, os.Mkdir(filepath.Join(at, ".chunks"), 0o700))
			})
			r.plug()
			check := func(at *string) {
				t.Helper()
				d := r.listed(h)
				if d.UUID != r.uuid || d.Label != "PBSFS"+fstype || d.FSType != fstype || d.Size != 304<<20 || d.Problem != "" {
					t.Errorf("got %+v", d)
				}
				if (d.MountedAt == nil) != (at == nil) || at != nil && *d.MountedAt != *at {
					t.Errorf("got mounted_at %v, want %v", d.MountedAt, at)
				}
				var paths []string
				for _, s := range d.Datastores {
					paths = append(paths, s.Path)
					if name := s.Name; (name != nil && *name == r.name) != (s.Path == "store") {
						t.Errorf("%q: got the name %v", s.Path, name)
					}
				}
				if want := []string{"", "old/pbs", "store"}; !slices.Equal(paths, want) {
					t.Errorf("got datastores in %q, want %q", paths, want)
				}
			}
			check(nil)
			at := tempDir(t)
			must(t, unix.Mount(r.dev, at, fstype, 0, ""))
			check(&at)
			must(t, unix.Unmount(at, 0))
			got := h.run("device", "list")
			got.want(t, 0)
			for _, text := range []string{r.dev, r.uuid, "configured as " + r.name} {
				if !strings.Contains(got.stdout, text) {
					t.Errorf("got this list, want it to say %q:\n%s", text, got.stdout)
				}
			}
			r.unplug()
		})
	}
}

// Who is not root sees what everybody may.
func TestDeviceListOfUser(t *testing.T) {
	r, h := newRemovable(t, "ext4"), newUserHost(t)
	r.plug()
	at := tempDir(t)
	must(t, unix.Mount(r.dev, at, "ext4", unix.MS_RDONLY, ""))
	d := r.listed(h)
	if d.MountedAt == nil || *d.MountedAt != at || d.FSType != "ext4" || len(d.Datastores) != 1 {
		t.Errorf("got %+v", d)
	}
	must(t, unix.Unmount(at, 0))
	if d := r.listed(h); d.UUID != "" || d.Problem == "" || len(d.Datastores) != 0 {
		t.Errorf("got %+v", d)
	}
	got := h.run("mount", "--device", r.dev, tempDir(t))
	got.want(t, 1)
	got.says(t, "permission denied")
	r.unplug()
}

// What cannot be mounted is told in one line, and nothing is left mounted.
func TestDevicesThatAreRefused(t *testing.T) {
	r, h := newRemovable(t, "ext4"), newHost(t)
	r.configure(h)
	r.alter(func(at string) {
		must(t, os.MkdirAll(filepath.Join(at, "old/pbs/.chunks"), 0o700))
		must(t, os.Symlink("store", filepath.Join(at, "link")))
	})
	r.plug()
	other := func(make ...string) string {
		o := *r
		o.file = filepath.Join(tempDir(t), "disk")
		tool(t, "truncate", "-s", "64M", o.file)
		tool(t, make[0], append(make[1:], o.file)...)
		return (&o).plug()
	}
	encrypted := other("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", "--key-file", "/dev/zero", "--keyfile-size", "32", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
	plain := other("mkfs.ext4", "-q")
	empty := other("touch")
	file := filepath.Join(h.dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	dir := tempDir(t)
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{1, "not a block device", []string{"--device", file, dir}},
		{1, "not a block device", []string{"--device", "/dev/null", dir}},
		{4, "not plugged in", []string{"--device", "/dev/no-such", dir}},
		{4, "not plugged in", []string{"--device", "0b5c1fa1-77e4-4c9b-8f52-1d5bd1c1f0ab", dir}},
		{4, "not plugged in", []string{"--device", "LABEL=nobody", dir}},
		{1, `several datastores: "/old/pbs", "/store"; name one with --path`, []string{"--device", r.uuid, dir}},
		{1, "not a datastore", []string{"--device", r.uuid, "--path", "", dir}},
		{1, "not a datastore", []string{"--device", r.uuid, "--path", "nothing", dir}},
		{1, "not a datastore", []string{"--device", r.uuid, "--path", "link", dir}},
		{1, "not a datastore", []string{"--device", r.uuid, "--path", "../../..", dir}},
		{1, "not a datastore", []string{"--device", plain, dir}},
		{1, "LUKS", []string{"--device", encrypted, dir}},
		{1, "no file system", []string{"--device", empty, dir}},
		{1, "no such directory to mount on", []string{"--device", r.uuid, "--path", "store", dir + "-not"}},
		{1, "no such directory to mount on", []string{r.name, dir + "-not"}},
		{2, "--device", []string{"--path", "store", r.name, dir}},
		{2, "--device", []string{"--rescue", r.name, dir}},
		{2, "empty", []string{"--device", "", r.name, dir}},
		{2, "accepts 1 arg", []string{"--device", r.uuid, r.name, dir}},
	} {
		got := h.run(append([]string{"mount"}, c.args...)...)
		got.want(t, c.code)
		got.says(t, c.says)
		r.nothingLeft(h)
	}
	// Mounted for writing where nobody sees it.
	hidden := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "mount "+plain+" "+dir+" && echo ready && exec sleep 1000")
	out, err := hidden.StdoutPipe()
	must(t, err)
	must(t, hidden.Start())
	_, err = out.Read(make([]byte, 16))
	must(t, err)
	got := h.run("mount", "--device", plain, dir)
	got.want(t, 1)
	got.says(t, "in use")
	must(t, hidden.Process.Kill())
	_ = hidden.Wait()
	r.nothingLeft(h)
}

// On a host of a server's, the server mounts what it configures.
func TestServersRemovableDatastore(t *testing.T) {
	r := newRemovable(t, "ext4")
	h, _, _ := newServerHost(t, "/nowhere")
	replace(t, h.configFile(), "datastore: "+r.name+"\n\tpath store\n\tbacking-device "+r.uuid+"\n")
	before := r.sum()
	r.plug()
	dir := tempDir(t)
	for _, args := range [][]string{{r.name}, {"--device", r.uuid}} {
		got := h.run(append(append([]string{"mount"}, args...), dir)...)
		got.want(t, 4)
		got.says(t, "'proxmox-backup-manager datastore mount "+r.name+"'", "--device "+r.uuid, "--rescue")
		r.nothingLeft(h)
	}
	m := h.unmounted("")
	got := h.run("mount", "--device", r.uuid, "--rescue", m.dir, "--log", m.log)
	got.want(t, 0)
	got.says(t, "warning", "cannot mount", r.name)
	m.process = m.findServer()
	if m.name() != r.name {
		t.Errorf("got the datastore %s, want its name at the server, %s", m.name(), r.name)
	}
	m.show()
	second := h.mountBy("--device", r.uuid, "--rescue")
	// The server mounts what is plugged in, by its device or by its UUID.
	at := tempDir(t)
	for _, what := range []string{r.dev, "UUID=" + r.uuid} {
		for _, options := range []string{"rw", "ro"} {
			if out, err := exec.Command("mount", "-o", options, what, at).CombinedOutput(); err == nil {
				t.Errorf("the server can mount %s %s: %s", what, options, out)
				must(t, unix.Unmount(at, 0))
			}
		}
	}
	m.unmount()
	second.show()
	h.run("unmount", r.name).want(t, 0)
	second.gone()
	r.nothingLeft(h)
	if r.sum() != before {
		t.Error("the disk was changed")
	}
	if left, err := filepath.Glob("/sys/block/loop5[0-9][0-9]"); err != nil || len(left) > 0 {
		t.Errorf("loop devices are left: %v, %v", left, err)
	}
	// The server has mounted it: then it is used there.
	must(t, os.MkdirAll(r.place(), 0o755))
	must(t, unix.Mount(r.dev, at, "ext4", 0, ""))
	must(t, unix.Mount(filepath.Join(at, "store"), r.place(), "", unix.MS_BIND, ""))
	must(t, unix.Unmount(at, 0))
	m = h.mountBy(r.name)
	m.show()
	h.run("unmount", r.name).want(t, 0)
	m.gone()
	r.unplug()
	r.nothingLeft(h)
}
