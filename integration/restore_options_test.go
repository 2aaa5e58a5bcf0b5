package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallTree makes a datastore with a snapshot of a few files, and returns both and the
// directory that it was made of.
func smallTree(t *testing.T, h *host) (store, snap, tree string) {
	t.Helper()
	dir := tempDir(t)
	store, tree = bareStore(t, memoryDir(t)), subdir(t, dir, "tree")
	for _, name := range []string{"a.conf", "b.log", "sub/c.conf", "sub/d", "other/e.conf"} {
		file := filepath.Join(tree, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		writeFile(t, file, []byte("content of "+name))
		must(t, os.Chtimes(file, time.Unix(1_600_000_000, 5), time.Unix(1_600_000_000, 5)))
	}
	image := writeFile(t, filepath.Join(dir, "image"), slices.Concat(noise(1, 3<<20), make([]byte, 13<<20), noise(2, 4<<20)))
	return store, h.create("tree.pxar:"+tree, "disk.img:"+image, "a.conf:/etc/hostname", store, "--id", "s"), tree
}

func files(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		out = append(out, strings.TrimPrefix(strings.TrimPrefix(p, dir), "/"))
		return err
	}))
	return strings.TrimSpace(strings.Join(out, " "))
}

func TestRestoreTakesWhatPatternsSay(t *testing.T) {
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	for i, c := range []struct {
		args []string
		want string
	}{
		{nil, "a.conf b.log other other/e.conf sub sub/c.conf sub/d"},
		{[]string{"--exclude", "*.conf"}, "b.log other sub sub/d"},
		{[]string{"--exclude", "sub/"}, "a.conf b.log other other/e.conf"},
		{[]string{"--include", "/sub"}, "sub sub/c.conf sub/d"},
		{[]string{"--include", "*.conf", "--exclude", "/sub/"}, "a.conf other other/e.conf"},
		{[]string{"--exclude", "*", "--include", "d"}, "sub sub/d"},
		{[]string{"--exclude", "*.conf", "--exclude", "!/a.conf"}, "a.conf b.log other sub sub/d"},
	} {
		to := filepath.Join(h.dir, fmt.Sprint("to", i))
		h.restore(0, append([]string{store, snap + "/tree.pxar/", to}, c.args...)...)
		if got := files(t, to); got != c.want {
			t.Errorf("%q: got %s, want %s", c.args, got, c.want)
		}
	}
}

func TestRestoreRefusesBadCommandLines(t *testing.T) {
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	full, file := subdir(t, h.dir, "full"), writeFile(t, filepath.Join(h.dir, "file"), nil)
	writeFile(t, filepath.Join(full, "x"), nil)
	must(t, os.Symlink(store, filepath.Join(h.dir, "link")))
	tree, to := snap+"/tree.pxar", filepath.Join(h.dir, "to")
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{2, "TARGET is missing", []string{tree}},
		{2, `pattern "[a"`, []string{tree, to, "--exclude", "[a"}},
		{2, "--overwrite", []string{tree, to, "--overwrite", "sometimes"}},
		{2, "TARGET/tree.pxar", []string{tree, tree, to}},
		{2, "slash", []string{tree + "/", tree, to}},
		{2, "one image", []string{tree, to, "--to", "/dev/null"}},
		{2, "standard output", []string{tree, "-", "--verify"}},
		{2, "--yes", []string{tree, to, "--yes"}},
		{1, `there is no "nothing"`, []string{tree + "/nothing", to}},
		{1, "not a directory", []string{tree + "/a.conf/", to}},
		{1, "not empty", []string{tree, full}},
		{1, "no directory", []string{tree, file}},
		{1, "what is above it", []string{tree, to + "/a/b"}},
		{1, "in the datastore", []string{tree, store}},
		{1, "in the datastore", []string{tree, filepath.Join(store, "host")}},
		{1, "in the datastore", []string{tree, filepath.Join(store, "new")}},
		{1, "in the datastore", []string{tree, filepath.Join(h.dir, "link", "new")}},
		{1, "in the datastore", []string{snap + "/disk.img", "--to", filepath.Join(store, "new")}},
		{1, "no image", []string{tree, "--to", to}},
		{1, "there already", []string{snap + "/disk.img", "--to", file}},
	} {
		got := h.run(append([]string{"restore", store}, c.args...)...)
		got.want(t, c.code)
		got.says(t, c.says)
	}
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("TARGET was made: %v", err)
	}
	if os.Geteuid() == 0 {
		bind := subdir(t, h.dir, "bind")
		must(t, unix.Mount(filepath.Join(store, "host"), bind, "", unix.MS_BIND, ""))
		got := h.run("restore", store, tree, filepath.Join(bind, "new"))
		must(t, unix.Unmount(bind, unix.MNT_DETACH))
		got.want(t, 1)
		got.says(t, "in the datastore")
	}
}

// What a restore does with what is there, by --overwrite.
func TestRestoreOverOthers(t *testing.T) {
	h := newHost(t)
	store, snap, tree := smallTree(t, h)
	for how, want := range map[string]struct{ same, newer, older, mode string }{
		"never":   {"kept", "kept", "kept", "kept"},
		"older":   {"kept", "kept", "new", "kept"},
		"changed": {"kept", "new", "new", "new"},
		"always":  {"new", "new", "new", "new"},
	} {
		t.Run(how, func(t *testing.T) {
			to := filepath.Join(h.dir, "to-"+how)
			tool(t, "cp", "-a", tree, to)
			writeFile(t, filepath.Join(to, "mine"), []byte("x"))
			inodes := make(map[string]uint64)
			for role, name := range map[string]string{"same": "a.conf", "newer": "b.log", "older": "sub/c.conf", "mode": "sub/d"} {
				at := filepath.Join(to, name)
				switch role {
				case "newer", "older":
					when := time.Unix(map[string]int64{"newer": 1_700_000_000, "older": 1_500_000_000}[role], 0)
					must(t, os.Chtimes(at, when, when))
				case "mode":
					must(t, os.Chmod(at, 0o600))
				}
				inodes[role] = inodeOf(t, at)
			}
			got := h.restore(0, store, snap+"/tree.pxar/", to, "--overwrite", how)
			for role, c := range map[string]struct{ name, want string }{
				"same": {"a.conf", want.same}, "newer": {"b.log", want.newer}, "older": {"sub/c.conf", want.older}, "mode": {"sub/d", want.mode},
			} {
				what := "kept"
				if inodeOf(t, filepath.Join(to, c.name)) != inodes[role] {
					what = "new"
				}
				if what != c.want {
					t.Errorf("%s (%s): got %s, want %s", c.name, role, what, c.want)
				}
			}
			if got.Kept+got.Replaced < 5 || got.Restored["files"] != got.Replaced {
				t.Errorf("counted %+v", got)
			}
			if _, err := os.Stat(filepath.Join(to, "mine")); err != nil {
				t.Error(err)
			}
		})
	}
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, lstat(path, &st))
	return st.Ino
}

// What is in the way of another kind is replaced only if that was asked for, and never a
// directory with something in it.
func TestRestoreOverOtherKinds(t *testing.T) {
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	outside := subdir(t, h.dir, "outside")
	make := func(name string) string {
		to := subdir(t, h.dir, name)
		must(t, os.Symlink(outside, filepath.Join(to, "sub")))
		must(t, os.MkdirAll(filepath.Join(to, "b.log", "full"), 0o755))
		must(t, os.Mkdir(filepath.Join(to, "a.conf"), 0o755))
		return to
	}
	to := make("never")
	got := h.restore(1, store, snap+"/tree.pxar/", to, "--overwrite", "never")
	if len(got.Problems) != 1 || got.Problems[0].Path != "sub" || got.Kept != 2 {
		t.Errorf("never: %+v", got)
	}
	to = make("always")
	got = h.restore(1, store, snap+"/tree.pxar/", to, "--overwrite", "always")
	if len(got.Problems) != 1 || got.Problems[0].Path != "b.log" {
		t.Errorf("always: %+v", got)
	}
	if got, want := files(t, to), "a.conf b.log b.log/full other other/e.conf sub sub/c.conf sub/d"; got != want {
		t.Errorf("always: got %s, want %s", got, want)
	}
	if got := files(t, outside); got != "" {
		t.Errorf("outside: %s", got)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	h := newHost(t)
	store, snap, tree := smallTree(t, h)
	to := filepath.Join(h.dir, "to")
	got := h.restore(0, store, snap+"/tree.pxar/", to, "--dry-run")
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) || !got.DryRun || got.Restored["files"] != 5 || got.Restored["directories"] != 2 || got.Bytes == 0 {
		t.Errorf("%v, %+v", err, got)
	}
	tool(t, "cp", "-a", tree, to)
	must(t, os.RemoveAll(filepath.Join(to, "sub")))
	before := treeOf(t, to)
	got = h.restore(0, store, snap+"/tree.pxar/", to, "--dry-run", "--overwrite", "never")
	reportDifferences(t, "dry run", compare(to, before))
	if got.Kept < 3 || got.Restored["files"] != 2 || got.Restored["directories"] != 1 {
		t.Errorf("%+v", got)
	}
}

func TestVerifyNamesWhatDiffers(t *testing.T) {
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	to := filepath.Join(h.dir, "to")
	got := h.restore(0, store, snap+"/tree.pxar", snap+"/disk.img", to, "--verify")
	if got.Verified < 8 || got.Differs != 0 {
		t.Errorf("%+v", got)
	}
	at := filepath.Join(to, "tree.pxar", "sub", "d")
	info, err := os.Stat(at)
	must(t, err)
	writeFile(t, at, []byte("content of sub/D"))
	must(t, os.Chtimes(at, info.ModTime(), info.ModTime()))
	must(t, os.Chmod(filepath.Join(to, "tree.pxar", "a.conf"), 0o640))
	got = h.restore(1, store, snap+"/tree.pxar", to, "--verify", "--overwrite", "never")
	var said []string
	for _, p := range got.Problems {
		said = append(said, p.Path+": "+p.Error)
	}
	slices.Sort(said)
	text := strings.Join(said, "; ")
	if len(said) != 2 || !strings.Contains(text, "a.conf: mode 0640 instead of 0644") || !strings.Contains(text, "sub/d: content differs") {
		t.Errorf("%s", text)
	}
}

// A damaged chunk costs the files that lie in it; they are named, and the rest is there.
func TestRestoreOfDamagedArchives(t *testing.T) {
	h := newHost(t)
	for _, d := range damages {
		if d.fixture != "ds-basic" && d.fixture != "ds-split" || d.hits == alpha+"/" || strings.HasSuffix(d.name, "manifest empty") {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			store := copyFixture(t, d.fixture)
			path := filepath.Join(store, d.file)
			if d.chunk {
				path = chunkPath(store, ownDigest(t, store, d.file))
			}
			d.how(t, path)
			for _, a := range truth(t, d.fixture) {
				if strings.HasPrefix(a.name, d.hits) && !locked(a) {
					restoreDamaged(t, h, store, a, filepath.Join(tempDir(t), "to"), d.partly)
				}
			}
		})
	}
}

func restoreDamaged(t *testing.T, h *host, store string, a archive, to string, partly bool) {
	t.Helper()
	got := h.restore(5, store, a.name, to)
	if got.Damaged == 0 || len(got.Problems) == 0 {
		t.Fatalf("%s: %+v", a.name, got)
	}
	named := func(path string) bool {
		for _, p := range got.Problems {
			if below := strings.TrimPrefix(strings.TrimPrefix(p.Path, filepath.Base(a.name)), "/"); below == "" || path == below || strings.HasPrefix(path, below+"/") {
				return true
			}
		}
		return false
	}
	at, found := filepath.Join(to, filepath.Base(a.name)), 0
	if !a.isTree() {
		if names, err := readNames(to); len(names) > 0 {
			t.Errorf("%s: there is %q, %v, want nothing", a.name, names, err)
		}
		return
	}
	if _, err := os.Lstat(at); err != nil {
		return // the whole archive was named
	}
	for _, d := range compare(at, a) {
		switch {
		case d.what == "missing" && named(d.path):
		case d.what == "link count", d.what == "hard links":
		default:
			t.Errorf("%s: %v", a.name, d)
		}
	}
	names, _ := readNames(at)
	found = len(names)
	if partly && found == 0 {
		t.Errorf("%s: nothing is there, and something could be", a.name)
	}
}

func TestRestoreWhileOffline(t *testing.T) {
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	h.run("datastore", "add", tank, store).want(t, 0)
	h.run("maintenance", "set", tank, "offline").want(t, 0)
	got := h.run("restore", tank, snap+"/tree.pxar", filepath.Join(h.dir, "to"))
	got.want(t, 4)
	got.says(t, "offline")
}

func TestRestoreToStdout(t *testing.T) {
	needRoot(t)
	needTool(t, "tar")
	h := newHost(t)
	got := h.run("restore", fixture(t, "ds-basic"), vm100+"/qemu-server.conf", "-")
	got.want(t, 0)
	if got.stdout == "" || got.stdout != h.run("cat", fixture(t, "ds-basic"), vm100+"/qemu-server.conf").stdout {
		t.Errorf("another file: %q", got.stdout)
	}
	to := subdir(t, newDisk(t, 256).dir, "copy")
	cmd := h.command("restore", fixture(t, "ds-nasty"), nasty, "-")
	untar := exec.Command("tar", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-C", to, "-xf", "-")
	out, err := cmd.StdoutPipe()
	must(t, err)
	untar.Stdin = out
	var said, told strings.Builder
	untar.Stderr, cmd.Stderr = &said, &told
	must(t, errors.Join(cmd.Start(), untar.Run(), cmd.Wait()))
	if !strings.Contains(told.String(), "left out: 1 socket") {
		t.Errorf("tar says %q, restore %q", said.String(), told.String())
	}
	c := comparison{trusted: true, except: copiers[2].except}
	reportDifferences(t, "tar", c.run(filepath.Join(to, "nasty.pxar"), truthOf(t, "ds-nasty", nasty)))
}

// Another user than root gets everything but owners and devices, and is told once.
func TestRestoreByAnOrdinaryUser(t *testing.T) {
	h := newUserHost(t)
	store, tree := bareStore(t, memoryDir(t)), subdir(t, tempDir(t), "tree")
	setuid := writeFile(t, filepath.Join(tree, "setuid"), []byte("x"))
	must(t, os.Chmod(setuid, 0o755|os.ModeSetuid))
	writeFile(t, filepath.Join(tree, "file"), []byte("y"))
	must(t, unix.Mknod(filepath.Join(tree, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mkfifo(filepath.Join(tree, "pipe"), 0o600))
	root := newHost(t)
	snap := root.create("tree.pxar:"+tree, store, "--id", "u")
	tool(t, "chown", "-R", fmt.Sprintf("%d:%d", nobody, nobody), store)
	to := filepath.Join(h.dir, "home", "to")
	got := h.restore(1, store, snap+"/tree.pxar/", to)
	var lacks []string
	for _, l := range got.Lacks {
		lacks = append(lacks, fmt.Sprintf("%s %d", l.What, l.Count))
	}
	if text := strings.Join(lacks, ", "); text != "devices 1, owners 4" {
		t.Errorf("lacks: %s", text)
	}
	if names := files(t, to); names != "file pipe setuid" {
		t.Errorf("restored: %s", names)
	}
	info, err := os.Stat(filepath.Join(to, "setuid"))
	must(t, err)
	if info.Mode()&os.ModeSetuid != 0 || info.Mode().Perm() != 0o755 {
		t.Errorf("a program of root's got mode %v", info.Mode())
	}
	h.restore(0, store, snap+"/tree.pxar/", to+"2", "--exclude", "null")
}

// Where there is no room, the restore says so at once, or stops, and goes on when there
// is.
func TestRestoreWithoutRoom(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	store, snap, tree := smallTree(t, h)
	small := subdir(t, h.dir, "small")
	must(t, unix.Mount("tmpfs", small, "tmpfs", 0, "size=5m,mode=755"))
	t.Cleanup(func() { must(t, unix.Unmount(small, unix.MNT_DETACH)) })
	got := h.run("restore", store, snap+"/disk.img", filepath.Join(small, "image"))
	got.want(t, 1)
	got.says(t, "are free", "no space left")
	for i := range 40 {
		writeFile(t, filepath.Join(tree, fmt.Sprint("f", i)), noise(uint64(i), 200<<10))
	}
	snap = h.create("tree.pxar:"+tree, store, "--id", "large")
	to := filepath.Join(small, "to")
	failed := h.restore(1, store, snap+"/tree.pxar/", to)
	if failed.Finished || !strings.Contains(failed.Error, "no space left on device") {
		t.Errorf("%+v", failed)
	}
	must(t, unix.Mount("tmpfs", small, "tmpfs", unix.MS_REMOUNT, "size=50m,mode=755"))
	went := h.restore(0, store, snap+"/tree.pxar/", to)
	if !went.Resumed || went.Kept == 0 {
		t.Errorf("%+v", went)
	}
	reportDifferences(t, "then", compare(to, treeOf(t, tree)))
}

func TestRestoreToADevice(t *testing.T) {
	needLoop(t)
	h := newHost(t)
	store, snap, _ := smallTree(t, h)
	image := []byte(h.run("cat", store, snap+"/disk.img").stdout)
	large := writeFile(t, filepath.Join(h.dir, "large"), noise(9, 24<<20))
	dev := writableLoop(t, large)
	got := h.run("restore", store, snap+"/disk.img", "--to", dev)
	got.want(t, 2)
	got.says(t, "--yes")
	h.restore(0, store, snap+"/disk.img", "--to", dev, "--yes", "--verify")
	read, err := os.ReadFile(large)
	must(t, err)
	if string(read[:len(image)]) != string(image) {
		t.Error("the device has other bytes than the image")
	}
	if string(read[len(image):]) != string(noise(9, 24<<20)[len(image):]) {
		t.Error("what is behind the image has changed")
	}
	small := writableLoop(t, writeFile(t, filepath.Join(h.dir, "small"), make([]byte, 1<<20)))
	got = h.run("restore", store, snap+"/disk.img", "--to", small, "--yes")
	got.want(t, 1)
	got.says(t, "are needed", small)
	on := newDisk(t, 64)
	got = h.run("restore", store, snap+"/disk.img", "--to", strings.Fields(tool(t, "findmnt", "-no", "SOURCE", on.dir))[0], "--yes")
	got.want(t, 1)
	got.says(t, "in use")
	zero := filepath.Join(h.dir, "zero")
	must(t, os.Truncate(writeFile(t, zero, nil), 24<<20))
	h.restore(0, store, snap+"/disk.img", "--to", writableLoop(t, zero), "--yes", "--target-is-zero", "--verify")
	if n := allocated(t, zero); n > 8<<20 {
		t.Errorf("%d bytes are allocated: zeros were written", n)
	}
	file := filepath.Join(h.dir, "new.raw")
	h.restore(0, store, snap+"/disk.img", "--to", file)
	read, err = os.ReadFile(file)
	must(t, err)
	if string(read) != string(image) {
		t.Error("the file has other bytes than the image")
	}
}

// writableLoop makes a block device of a file, until the test ends.
func writableLoop(t *testing.T, file string) string {
	t.Helper()
	dev := strings.TrimSpace(tool(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { tool(t, "losetup", "--detach", dev) })
	return dev
}
