package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What lies on a disk is restored like anything else, without what the tree says about the
// file system.
func TestRestoreOfFilesOnADisk(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	part := truthOf(t, "ds-basic", images[0]+".part1")
	to := filepath.Join(newDisk(t, 512).dir, "to")
	got := h.restore(0, fixture(t, "ds-basic"), images[0]+".d/part/1/", to)
	var found []difference
	for _, d := range compare(to, part) {
		if d.path != "lost+found" || d.what != "extra" { // the truth leaves it out
			found = append(found, d)
		}
	}
	reportDifferences(t, images[0], found)
	if got.Restored["files"] == 0 {
		t.Errorf("%+v", got)
	}
}

// What needs a key that is not there is named, and makes the exit code 6.
func TestRestoreWithoutItsKey(t *testing.T) {
	h := newHost(t)
	const snap = "vm/200/2023-11-14T22:16:40Z"
	to := filepath.Join(tempDir(t), "to")
	got := h.restore(6, fixture(t, "ds-crypt"), snap, to)
	if len(got.Problems) == 0 || got.Problems[0].Kind != "key" || !strings.Contains(got.Problems[0].Error, "key") {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(filepath.Join(to, filepath.Base(snap), "index.json")); err != nil {
		t.Errorf("what needs no key is not there: %v", err)
	}
}

// Flags against changes do not keep a file's other names from being made, and are there
// in the end.
func TestRestoreOfLinksToImmutableFiles(t *testing.T) {
	needRoot(t)
	h, on := newHost(t), newDisk(t, 256)
	store, tree := bareStore(t, memoryDir(t)), subdir(t, on.dir, "tree")
	for _, name := range []string{"a/immutable", "a/append"} {
		must(t, os.MkdirAll(filepath.Join(tree, "a"), 0o755))
		must(t, os.MkdirAll(filepath.Join(tree, "b"), 0o755))
		file := writeFile(t, filepath.Join(tree, name), []byte(name))
		must(t, os.Link(file, filepath.Join(tree, "b", filepath.Base(name))))
		tool(t, "chattr", map[string]string{"a/immutable": "+i", "a/append": "+a"}[name], file)
	}
	snap := h.create("tree.pxar:"+tree, store, "--id", "i")
	to := filepath.Join(on.dir, "to")
	t.Cleanup(func() { tool(t, "chattr", "-R", "-i", "-a", tree, to) })
	if got := h.restore(0, store, snap+"/tree.pxar/", to, "--verify"); got.Restored["hard_links"] != 2 {
		t.Errorf("%+v", got)
	}
	reportDifferences(t, "flags", compare(to, treeOf(t, tree)))
	for name, want := range map[string]uint32{"immutable": 0x10, "append": 0x20} {
		flags, _, err := flagsAt(filepath.Join(to, "b", name))
		must(t, err)
		if flags&0x30 != want {
			t.Errorf("%s: got flags %#x, want %#x", name, flags&0x30, want)
		}
	}
	// Once more, as after a kill between the last name and the flags.
	tool(t, "chattr", "-i", "-a", filepath.Join(to, "a/immutable"), filepath.Join(to, "a/append"))
	h.restore(0, store, snap+"/tree.pxar/", filepath.Join(on.dir, "to2"))
	t.Cleanup(func() { tool(t, "chattr", "-R", "-i", "-a", filepath.Join(on.dir, "to2")) })
}

// A tree of pbsfs is no place to restore to.
func TestRestoreIntoAMount(t *testing.T) {
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	m := h.mount(store)
	got := h.run("restore", store, snap+"/tree.pxar", m.path("host"))
	got.want(t, 1)
	got.says(t, "mounted tree of pbsfs")
}

// While it reads, a restore is a counted operation, and its snapshot is locked.
func TestRestoreIsCounted(t *testing.T) {
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	pipe := filepath.Join(h.dir, "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	out, err := os.OpenFile(pipe, os.O_RDWR, 0) // nobody reads, so it waits when the pipe is full
	must(t, err)
	defer out.Close()
	cmd := h.command("restore", store, snap+"/disk.img", "-")
	cmd.Stdout = out
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "the snapshot being locked", func() error {
		free, err := flocked(filepath.Join(store, snap), unix.LOCK_EX)
		if err != nil {
			return nil //nolint:nilerr // somebody has it
		}
		free()
		return unlike("it is not")
	})
	eventually(t, "the operation being counted", func() error {
		if got := h.run("status", store, "--json"); !strings.Contains(got.stdout, `"pid":`) {
			return unlike("got %s", got.stdout)
		}
		return nil
	})
}

// A device is written to only when its name was typed.
func TestRestoreAsksBeforeItWritesToADevice(t *testing.T) {
	needLoop(t)
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	file := writeFile(t, filepath.Join(h.dir, "device"), make([]byte, 24<<20))
	dev := writableLoop(t, file)
	for _, c := range []struct {
		answer string
		code   int
	}{{"yes", 1}, {"", 1}, {dev, 0}} {
		term := newTerminal(t)
		cmd := h.command("restore", store, snap+"/disk.img", "--to", dev)
		term.attach(cmd)
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		eventually(t, "being asked", func() error {
			if !strings.Contains(term.said(), "Type its name") {
				return unlike("said %q", term.said())
			}
			return nil
		})
		term.write(c.answer + "\n")
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%q: got exit code %d, want %d: %s", c.answer, got, c.code, term.said())
		}
		if text := term.said(); c.code == 0 && !strings.Contains(text, "restored 1 file") {
			t.Errorf("said %q", text)
		}
		written, err := os.ReadFile(file)
		must(t, err)
		if empty := len(bytes.Trim(written, "\x00")) == 0; empty != (c.code != 0) {
			t.Errorf("%q: the device is empty: %v", c.answer, empty)
		}
	}
}

// On a terminal there is a bar, also for a tree, whose size is not known before.
func TestRestoreOnATerminal(t *testing.T) {
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	term := newTerminal(t)
	cmd := h.command("restore", store, snap+"/tree.pxar", snap+"/disk.img", filepath.Join(h.dir, "to"))
	term.attach(cmd)
	must(t, cmd.Run())
	if text := term.said(); !strings.Contains(text, "restored 6 files") {
		t.Errorf("said %q", text)
	}
}

// A mount below TARGET is entered, unless it leads into the datastore.
func TestRestoreThroughMounts(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	to := subdir(t, h.dir, "to")
	at := subdir(t, to, "sub")
	for from, code := range map[string]int{store: 1, filepath.Join(store, "host"): 1, filepath.Join(store, ".chunks"): 1, subdir(t, h.dir, "elsewhere"): 0} {
		must(t, unix.Mount(from, at, "", unix.MS_BIND, ""))
		got := h.restore(code, store, snap+"/tree.pxar/", to, "--overwrite", "always")
		must(t, unix.Unmount(at, unix.MNT_DETACH))
		if code == 1 && !strings.Contains(got.Error, "into the datastore itself") {
			t.Errorf("%s: %+v", from, got)
		}
		_, err := os.Stat(filepath.Join(from, "c.conf"))
		if written := err == nil; written != (code == 0) {
			t.Errorf("%s: written to: %v", from, written)
		}
	}
}
