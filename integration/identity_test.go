package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountPath mounts by a way to the datastore that is written differently.
func (h *host) mountPath(path string) *mount {
	h.t.Helper()
	return h.mount(path)
}

// Whatever way leads to a datastore, its trees are shown, counted, bound and
// unmounted together.
func TestTreesOfOneDatastoreBelongTogether(t *testing.T) {
	needRoot(t)
	h, dir := newHost(t), tempDir(t)
	store := copyFixture(t, "ds-basic")
	must(t, os.Symlink(store, dir+"/link"))
	subdir(t, dir, "bound")
	bind(t, filepath.Dir(store), dir+"/bound")
	base := filepath.Base(store)
	ways := []string{
		store + "/", dir + "/link", dir + "/bound/" + base, dir + "/link/../" + base + "/.chunks/..",
	}
	early := h.mountPath(ways[2]) // before it is configured
	held, err := os.Open(early.path(conf))
	must(t, err)
	defer held.Close()
	h.run("datastore", "add", tank, dir+"/link").want(t, 0)
	h.run("datastore", "add", "other", ways[2]).want(t, 1)
	refused := h.run("maintenance", "set", tank, "offline", "--wait", "0s") // at once
	refused.want(t, 3)
	refused.says(t, early.path(conf))
	trees := []*mount{early, h.mountPath(tank)}
	for _, way := range ways {
		trees = append(trees, h.mountPath(way))
	}
	for _, arg := range append(ways, tank) {
		got := h.run("status", arg)
		got.want(t, 0)
		for _, m := range trees {
			if !strings.Contains(got.stdout, m.dir) {
				t.Errorf("status %s: got this, want %s in it:\n%s", arg, m.dir, got.stdout)
			}
		}
	}
	must(t, held.Close())
	h.run("maintenance", "set", ways[1], "offline", "--wait", patience.String()).want(t, 0)
	for _, m := range trees {
		eventually(t, m.store+" is bound", func() error {
			if f, err := os.Open(m.path(conf)); err == nil {
				_ = f.Close()
				return unlike("it was opened")
			}
			return nil
		})
	}
	h.run("maintenance", "clear", ways[2]).want(t, 0)
	h.run("datastore", "remove", tank).want(t, 3)
	h.run("unmount", tank).want(t, 0)
	for _, m := range trees {
		m.gone()
	}
	h.run("datastore", "remove", tank).want(t, 0)
}

// A name that has gone from the configuration is still that of the trees that were
// mounted by it, and one that was made for a datastore without an entry, too.
func TestUnmountByANameThatHasGone(t *testing.T) {
	m := newTank(t, copyFixture(t, "ds-basic"))
	h := m.host
	replace(t, h.configFile(), "")
	eventually(t, "status by that name", func() error {
		if got := h.run("status", tank); got.code != 0 || !strings.Contains(got.stdout, "UNLISTED") {
			return unlike("got %s%s", got.stdout, got.stderr)
		}
		return nil
	})
	h.run("unmount", tank).want(t, 0)
	m.gone()
	unlisted := h.mount(copyFixture(t, "ds-basic"))
	h.run("unmount", unlisted.name()).want(t, 0)
	unlisted.gone()
}

// A disk that is mounted elsewhere is the datastore that its entry means, also when
// the entry comes after the tree.
func TestDiskMountedElsewhereIsItsDatastore(t *testing.T) {
	for _, c := range []struct {
		fstype, options, at string
		place               string // in the entry
		subvolume           string // "" none, "by default"
	}{
		{"ext4", "ro", "store", "store", ""},
		{"btrfs", "ro", "store", "store", ""},
		{"btrfs", "ro,subvol=sub", "store", "sub/store", "there"},
		{"btrfs", "ro,subvolid=256", "store", "sub/store", "there"},
		{"btrfs", "ro", "sub/store", "sub/store", "there"},
		{"btrfs", "ro", "store", "store", "by default"},
		{"btrfs", "ro,subvolid=5", "sub/store", "store", "by default"},
	} {
		t.Run(c.fstype+" "+c.options+" "+c.subvolume, func(t *testing.T) {
			r, h, media := newRemovable(t, c.fstype), newHost(t), tempDir(t)
			if c.subvolume != "" {
				r.addSubvolume(c.subvolume == "by default")
			}
			dev := r.plug()
			tool(t, "mount", "-o", c.options, dev, media)
			t.Cleanup(func() { _ = unix.Unmount(media, unix.MNT_DETACH) })
			m := h.mount(filepath.Join(media, c.at))
			held, err := os.Open(m.path(conf))
			must(t, err)
			defer held.Close()
			h.run("datastore", "add", r.name, c.place, "--backing-device", strings.ToUpper(r.uuid)).want(t, 0)
			refused := h.run("maintenance", "set", r.name, "offline", "--wait", "0s")
			refused.want(t, 3)
			refused.says(t, m.path(conf))
			must(t, held.Close())
			h.run("maintenance", "set", r.name, "offline", "--wait", patience.String()).want(t, 0)
			eventually(t, "the tree is bound", func() error {
				if f, err := os.Open(m.path(conf)); err == nil {
					_ = f.Close()
					return unlike("it was opened")
				}
				return nil
			})
			h.run("maintenance", "clear", r.name).want(t, 0)
			eventually(t, "the tree is free", func() error { return opens(m.path(conf)) })
			h.run("datastore", "remove", r.name).want(t, 3)
			got := h.run("status", r.name)
			if !strings.Contains(got.stdout, m.dir) {
				t.Errorf("status: got this, want %s in it:\n%s", m.dir, got.stdout)
			}
			m.unmount()
			must(t, unix.Unmount(media, 0))
		})
	}
}

// addSubvolume makes a subvolume of the disk, which is not plugged in, with the
// datastore in it alone.
func (r *removable) addSubvolume(byDefault bool) {
	r.t.Helper()
	needTool(r.t, "btrfs")
	at := tempDir(r.t)
	tool(r.t, "mount", "-o", "loop", r.file, at)
	tool(r.t, "btrfs", "subvolume", "create", at+"/sub")
	tool(r.t, "mv", at+"/store", at+"/sub/store")
	if byDefault {
		tool(r.t, "btrfs", "subvolume", "set-default", at+"/sub")
	}
	must(r.t, unix.Unmount(at, 0))
}

// Two disks with one UUID, as of a copy, are two disks.
func TestCopyOfADiskIsAnotherOne(t *testing.T) {
	one, h := newRemovable(t, "ext4"), newHost(t)
	two := &removable{t: t, fstype: one.fstype, file: one.file + ".copy", name: one.name + "-copy", uuid: one.uuid}
	tool(t, "cp", "--sparse=always", one.file, two.file)
	var trees []*mount
	for _, r := range []*removable{one, two} {
		media := tempDir(t)
		tool(t, "mount", "-o", "ro", r.plug(), media)
		t.Cleanup(func() { _ = unix.Unmount(media, unix.MNT_DETACH) })
		trees = append(trees, h.mount(filepath.Join(media, "store")))
	}
	held, err := os.Open(trees[1].path(conf))
	must(t, err)
	defer held.Close()
	h.run("datastore", "add", tank, trees[0].store).want(t, 0)
	h.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
	must(t, opens(trees[1].path(conf)))
	if _, err := os.Open(trees[0].path(conf)); err == nil {
		t.Error("the tree of the disk that is offline opens a file")
	}
	h.run("unmount", tank).want(t, 0)
	trees[0].gone()
	must(t, held.Close())
	trees[1].unmount()
	for _, m := range trees {
		eventually(t, "the disk is free", func() error {
			if err := unix.Unmount(filepath.Dir(m.store), 0); err != nil {
				return fmt.Errorf("unmounting %s: %w", m.store, err)
			}
			return nil
		})
	}
}
