package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// xattr returns an extended attribute, "" when there is none.
func xattr(t *testing.T, path, name string) string {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := lgetxattr(path, name, buf)
	if err != nil && !errors.Is(err, unix.ENODATA) {
		t.Fatalf("%s: %s: %v", path, name, err)
	}
	return string(buf[:max(n, 0)])
}

func TestWhatIsSaidOfASnapshot(t *testing.T) {
	h := newHost(t)
	dir := memoryDir(t)
	store, tree := bareStore(t, dir), subdir(t, dir, "tree")
	writeFile(t, filepath.Join(tree, "file"), []byte("text"))
	old := h.create("tree.pxar:"+tree, store, "--type", "ct", "--id", "7", "--ns", "a/b")
	name := h.create("tree.pxar:"+tree, "log.log:"+filepath.Join(tree, "file"), store, "--type", "ct", "--id", "7", "--ns", "a/b",
		"--notes", "first\nsecond", "--protected", "--owner", "root@pam")
	if old >= name || !strings.HasPrefix(name, "ns/a/ns/b/ct/7/2") {
		t.Errorf("got %q, and then %q", old, name)
	}
	m := h.mount(store)
	for attr, want := range map[string]string{"comment": "first\nsecond", "protected": "yes", "encrypted": "no", "signature": "unsigned"} {
		if got := xattr(t, m.path(name), "user.pbs."+attr); got != want {
			t.Errorf("user.pbs.%s: got %q, want %q", attr, got, want)
		}
	}
	if got := xattr(t, m.path(old), "user.pbs.protected"); got == "yes" {
		t.Error("the other snapshot is protected, too")
	}
	if got, err := os.Readlink(m.path("ns/a/ns/b/ct/7/latest")); got != filepath.Base(name) {
		t.Errorf("latest: got %q, %v, want %q", got, err, filepath.Base(name))
	}
	log, err := os.ReadFile(m.path(name, "client.log"))
	must(t, err)
	for _, want := range []string{name, "tree.pxar: " + tree, "log.log: ", " chunks, "} {
		if !strings.Contains(string(log), want) {
			t.Errorf("client.log does not say %q: %s", want, log)
		}
	}
	must(t, reads(name+"/log.log", "text")(m))
}

// The official client's default key is used unless it is said otherwise.
func TestKeysOfWriters(t *testing.T) {
	h := newHost(t)
	dir := memoryDir(t)
	store, conf := bareStore(t, dir), "a.conf:"+writeFile(t, filepath.Join(dir, "conf"), []byte("a long text, a long text"))
	other := h.newKey("other")
	config := subdir(t, h.dir, "xdg")
	h.vars = append(h.vars, "XDG_CONFIG_HOME="+config)
	must(t, os.Mkdir(filepath.Join(config, "proxmox-backup"), 0o700))
	must(t, os.Rename(h.newKey(), filepath.Join(config, "proxmox-backup", "encryption-key.json")))
	prints := make(map[string]bool)
	for i, c := range []struct {
		args                 []string
		encrypted, signature string
	}{
		{nil, "yes", "valid"},
		{[]string{"--crypt-mode", "encrypt"}, "yes", "valid"},
		{[]string{"--crypt-mode", "sign-only"}, "no", "valid"},
		{[]string{"--crypt-mode", "none"}, "no", "unsigned"},
		{[]string{"--keyfile", other}, "yes", "valid"},
		{[]string{"--keyfile", other, "--crypt-mode", "sign-only"}, "no", "valid"},
	} {
		name := h.create(append(c.args, conf, store, "--id", fmt.Sprint(i))...)
		m := h.mount(store, "--keyfile", other)
		if got := attributes(t, m, name); got["encrypted"] != c.encrypted || got["signature"] != c.signature {
			t.Errorf("%q: got %q", c.args, got)
		}
		prints[attributes(t, m, name)["fingerprint"]] = true
		must(t, reads(name+"/a.conf", "a long text, a long text")(m))
		m.unmount()
	}
	if len(prints) != 3 {
		t.Errorf("got the keys %v, want two and none", prints)
	}
}

// Block devices are images, and what they do not hold stays a hole.
func TestImagesOfDevicesAndHoles(t *testing.T) {
	const chunk = 4 << 20
	h := newHost(t)
	dir := memoryDir(t)
	store, image := bareStore(t, dir), filepath.Join(dir, "image")
	f, err := os.Create(image)
	must(t, err)
	must(t, f.Truncate(10*chunk+512))
	for i, off := range []int64{0, 3*chunk + 1000, 9 * chunk} {
		_, err := f.WriteAt(noise(uint64(i), 5000), off)
		must(t, err)
	}
	must(t, f.Close())
	stems, args := []string{"file.img"}, []string{"file.img:" + image}
	if os.Geteuid() == 0 {
		stems, args = append(stems, "device.img"), append(args, "device.img:"+loopDevice(t, image, 0, 0))
	}
	name := h.create(append(args, store, "--type", "vm", "--id", "1")...)
	m := h.mount(store)
	for _, stem := range stems {
		at := m.path(name, stem)
		reportDifferences(t, stem, compare(at, imageOf(t, image, stem)))
		if got := allocated(t, at); got != 3*chunk+512 && got != 4*chunk {
			t.Errorf("%s: %d bytes are no holes, want three chunks and the short last one", stem, got)
		}
		fd, err := open(at, unix.O_RDONLY)
		must(t, err)
		for from, want := range map[int64]int64{0: chunk, chunk: chunk, 3 * chunk: 4 * chunk} {
			if hole, err := seek(fd, from, unix.SEEK_HOLE); hole != want || err != nil {
				t.Errorf("%s: hole behind %d: got %d, %v, want %d", stem, from, hole, err, want)
			}
		}
		must(t, unix.Close(fd))
	}
	if _, chunks := snapshotFiles(t, store); len(chunks) != 5 {
		t.Errorf("there are %d chunks, want three, the last, and one of zeros", len(chunks))
	}
}

// What changes while it is read is told, and the rest is stored.
func TestSourcesThatChange(t *testing.T) {
	h := newHost(t)
	dir := memoryDir(t)
	store, tree := bareStore(t, dir), subdir(t, dir, "tree")
	stop, stopped := make(chan struct{}), make(chan error)
	go func() { stopped <- changeFiles(tree, stop) }()
	warned := false
	for i := range 30 {
		for _, format := range []string{"pxar", "split"} {
			got := h.run("snapshot", "create", "tree.pxar:"+tree, store, "--id", fmt.Sprintf("%s%d", format, i), "--format", format)
			got.want(t, 0)
			warned = warned || strings.Contains(got.stderr, "warning: tree.pxar: "+tree+"/")
		}
		if warned && i > 2 || t.Failed() {
			break
		}
	}
	close(stop)
	must(t, <-stopped)
	if !warned {
		t.Error("no warning although files changed all the time")
	}
	m := h.mount(store)
	for _, name := range h.snapshots(store) {
		tool(t, "tar", "-C", m.path(name), "-cf", filepath.Join(dir, "tar"), "tree.pxar")
	}
	if lines := m.logLines("level=ERROR"); len(lines) > 0 {
		t.Errorf("the mount complains: %q", lines)
	}
}

// changeFiles makes files longer and shorter, removes them and makes them anew,
// until it is stopped.
func changeFiles(dir string, stop <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		path := filepath.Join(dir, fmt.Sprintf("f%02d", i%20))
		var err error
		switch i / 20 % 4 {
		case 0, 1:
			var f *os.File
			if f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err == nil {
				_, err = f.Write(noise(uint64(i), 1<<20))
				err = errors.Join(err, f.Close())
			}
		case 2:
			err = os.Truncate(path, 1000)
		case 3:
			err = os.Remove(path)
		}
		if err != nil {
			return err
		}
	}
}

// A directory that holds the datastore can be stored: without the datastore.
func TestSourcesThatHoldTheDatastore(t *testing.T) {
	h := newHost(t)
	dir := memoryDir(t)
	store := bareStore(t, dir)
	writeFile(t, filepath.Join(dir, "letter"), []byte("dear"))
	var names []string
	for _, format := range []string{"pxar", "split"} {
		got := h.run("snapshot", "create", "all.pxar:"+dir, store, "--id", format, "--format", format)
		got.want(t, 0)
		got.says(t, fmt.Sprintf("warning: all.pxar: %s: stored empty: it is the datastore that is written to\n", store), "; 1 warning\n")
		names = append(names, strings.TrimSpace(got.stdout))
	}
	m := h.mount(store)
	for _, name := range names {
		must(t, reads(name+"/all.pxar/letter", "dear")(m))
		if list, err := readNames(m.path(name, "all.pxar/store")); len(list) > 0 || err != nil {
			t.Errorf("the datastore in the archive: got %q, %v, want nothing", list, err)
		}
	}
}

// An ordinary user stores what that user can read, where that user can write.
func TestOrdinaryUsersWrite(t *testing.T) {
	h := newUserHost(t)
	dir := memoryDir(t)
	tree := subdir(t, dir, "tree")
	must(t, os.Chmod(writeFile(t, filepath.Join(tree, "secret"), []byte("of root")), 0o600))
	writeFile(t, filepath.Join(tree, "file"), []byte("for all"))
	hidden := subdir(t, dir, "hidden")
	must(t, os.Chmod(hidden, 0o700))
	mine := bareStore(t, subdir(t, dir, "mine"))
	tool(t, "chown", "-R", fmt.Sprintf("%d:%d", nobody, nobody), mine)
	roots := bareStore(t, subdir(t, dir, "roots"))
	open := bareStore(t, subdir(t, dir, "open"))
	must(t, os.Chmod(filepath.Join(open, ".chunks"), 0o755))
	for _, c := range []struct{ source, store, says string }{
		{"a.pxar:" + hidden, mine, "a.pxar: open " + hidden + ": permission denied"},
		{"a.img:" + filepath.Join(tree, "secret"), mine, "a.img: open " + filepath.Join(tree, "secret") + ": permission denied"},
		{"a.conf:" + filepath.Join(tree, "secret"), mine, "a.conf: open " + filepath.Join(tree, "secret") + ": permission denied"},
		{"a.pxar:" + tree, roots, roots + ": no permission to read .chunks; "},
		{"a.pxar:" + tree, open, open + "/.lock: permission denied"},
	} {
		before, _ := snapshotFiles(t, c.store)
		got := h.run("snapshot", "create", c.source, c.store, "--id", "x")
		got.want(t, 1)
		got.says(t, c.says)
		if after, _ := snapshotFiles(t, c.store); len(after) != len(before) {
			t.Errorf("%s: there was %q, and now %q", c.source, before, after)
		}
	}
	got := h.run("snapshot", "create", "a.pxar:"+tree, mine, "--id", "x")
	if got.code != 1 { // something is missing
		t.Errorf("exit code %d, want 1", got.code)
	}
	got.says(t, "warning: a.pxar: ", "secret", "permission denied", "; 1 warning\n")
	if out := h.run("cat", mine, strings.TrimSpace(got.stdout)+"/a.pxar/file"); out.stdout != "for all" {
		t.Errorf("got %+v", out)
	}
}

// Where a server manages the datastore, its own client is the one to write.
func TestServersDatastoresAreNotWrittenTo(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	h, _, _ := newServerHost(t, store)
	before := fingerprint(t, store)
	for _, at := range []string{tank, store} {
		got := h.run("snapshot", "create", "a.pxar:/etc", at)
		got.want(t, 1)
		got.says(t, "proxmox-backup-client backup")
	}
	got := h.run("datastore", "add", "other", filepath.Join(h.dir, "new"), "--create")
	got.want(t, 1)
	if _, err := os.Stat(filepath.Join(h.dir, "new")); err == nil {
		t.Error("a datastore was made that only the server can list")
	}
	if after := fingerprint(t, store); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Error("the datastore has changed")
	}
}

// On a terminal there is a bar: bytes, files, rate and the time that is left.
func TestProgressOnATerminal(t *testing.T) {
	h := newHost(t)
	source := slowSource(t)
	_, dir, _ := strings.Cut(source, ":")
	writeFile(t, filepath.Join(dir, "a"), []byte("first"))
	term := newTerminal(t)
	cmd := h.command("snapshot", "create", source, bareStore(t, memoryDir(t)), "--id", "x")
	term.attach(cmd)
	must(t, cmd.Start())
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	bar := regexp.MustCompile(`slow\.pxar, 1 file +0% \|.*\| \([0-9.]+ [MG]iB/1\.0 TiB, [0-9.]+ [MG]iB/s\) \[[0-9a-z]+:[0-9a-z]+\]`)
	eventually(t, "a bar", func() error {
		if !bar.MatchString(term.said()) {
			return unlike("it shows %q", lastLines(strings.ReplaceAll(term.said(), "\r", "\n"), 3))
		}
		return nil
	})
	must(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	ended = true
	eventually(t, "saying that it was interrupted", func() error {
		if !strings.Contains(term.said(), "pbsfs: interrupted") {
			return unlike("it says %q", lastLines(term.said(), 2))
		}
		return nil
	})
}
