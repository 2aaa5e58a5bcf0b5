package integration

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// memoryDir returns a temporary directory in memory, where there is such a file
// system: the many directories of a datastore that is made take seconds to
// remove elsewhere. Other users reach it as well.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pbsfs-test-")
	if err != nil {
		return tempDir(t)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the test's directory: %v", err)
		}
	})
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// bareStore returns an empty datastore, whose directories for chunks are made as
// they are needed.
func bareStore(t *testing.T, in string) string {
	t.Helper()
	store := subdir(t, in, "store")
	must(t, os.Mkdir(filepath.Join(store, ".chunks"), 0o750))
	must(t, os.WriteFile(filepath.Join(store, ".lock"), nil, 0o644))
	return store
}

// create writes a snapshot, which must work, and returns its path below a
// mount point.
func (h *host) create(args ...string) string {
	h.t.Helper()
	got := h.run(append([]string{"snapshot", "create"}, args...)...)
	got.want(h.t, 0)
	name, ok := strings.CutSuffix(got.stdout, "\n")
	if !ok || strings.Contains(name, "\n") {
		h.t.Fatalf("%q: got this on stdout, want one line: %q; stderr: %s", got.args, got.stdout, got.stderr)
	}
	return name
}

// snapshotFiles returns what lies below a datastore: snapshots, groups,
// namespaces, and chunks by "chunk" and their digest.
func snapshotFiles(t *testing.T, store string) (rest, chunks []string) {
	t.Helper()
	must(t, filepath.WalkDir(store, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == store {
			return err
		}
		rel := strings.TrimPrefix(p, store+"/")
		if in, ok := strings.CutPrefix(rel, ".chunks/"); !ok {
			rest = append(rest, rel)
		} else if !d.IsDir() {
			chunks = append(chunks, in)
		}
		return nil
	}))
	return rest, chunks
}

// noise returns n bytes that do not compress, always the same for a seed.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	var s [32]byte
	s[0], s[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(s).Read(p) // never fails
	return p
}

// writeFile writes a file of a source.
func writeFile(t *testing.T, path string, data []byte) string {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o644))
	return path
}

// snapshots returns the paths of all finished snapshots of a datastore.
func (h *host) snapshots(store string) []string {
	h.t.Helper()
	var out []string
	must(h.t, filepath.WalkDir(store, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".chunks" {
			return fs.SkipDir
		}
		if err == nil && d.Name() == manifestName {
			out = append(out, strings.TrimPrefix(filepath.Dir(p), store+"/"))
		}
		return err
	}))
	return out
}

// A datastore that another system made for its user stays that user's: what root
// adds belongs to the user, with the modes a server gives.
func TestOwnersAndModesOfWhatIsWritten(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	store := filepath.Join(memoryDir(t), "store")
	cmd := h.command("datastore", "add", tank, store, "--create")
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `umask 077; exec "$0" "$@"`}, cmd.Args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("creating: %v: %s", err, out)
	}
	tool(t, "chown", "-R", fmt.Sprintf("%d:%d", nobody, nobody), store)
	conf := writeFile(t, filepath.Join(h.dir, "a.conf"), []byte("text"))
	name := h.create("a.conf:"+conf, "a.img:"+conf, "a.pxar:"+subdir(t, h.dir, "tree"), tank, "--id", "one", "--ns", "x/y", "--protected")
	digest := digestsOf(t, filepath.Join(store, name, "a.img.fidx"))[0]
	for path, want := range map[string]fs.FileMode{
		"": fs.ModeDir | 0o755, ".lock": 0o644, ".chunks": fs.ModeDir | 0o750, ".chunks/0000": fs.ModeDir | 0o750, ".chunks/ffff": fs.ModeDir | 0o750,
		".chunks/" + digest[:4] + "/" + digest: 0o644,
		"ns":                                   fs.ModeDir | 0o755, "ns/x/ns/y/host/one": fs.ModeDir | 0o755, "ns/x/ns/y/host/one/owner": 0o644,
		name: fs.ModeDir | 0o755, name + "/" + manifestName: 0o644, name + "/a.img.fidx": 0o644, name + "/a.pxar.didx": 0o644,
		name + "/catalog.pcat1.didx": 0o644, name + "/a.conf.blob": 0o644, name + "/client.log.blob": 0o644, name + "/.protected": 0o644,
	} {
		info, err := os.Lstat(filepath.Join(store, path))
		if err != nil || info.Mode() != want {
			t.Errorf("%q: got %v, %v, want %v", path, info, err, want)
			continue
		}
		if uid, gid := ownerOf(info); uid != nobody || gid != nobody {
			t.Errorf("%q: belongs to %d:%d, want %d:%d", path, uid, gid, nobody, nobody)
		}
	}
	if text, err := os.ReadFile(filepath.Join(store, "ns/x/ns/y/host/one/owner")); string(text) != "root@pam\n" {
		t.Errorf("owner: got %q, %v", text, err)
	}
	rest, _ := snapshotFiles(t, store)
	for _, p := range rest {
		if strings.Contains(p, "tmp") || strings.Contains(p, "rsa-encrypted") || strings.HasPrefix(p, ".chunks.new") {
			t.Errorf("there is %q", p)
		}
	}
	if n, err := os.ReadDir(filepath.Join(store, ".chunks")); len(n) != 1<<16 {
		t.Errorf("%d directories for chunks, %v, want %d", len(n), err, 1<<16)
	}
}

// What has not changed is stored once, and what has costs about its chunks.
func TestSnapshotsShareChunks(t *testing.T) {
	h := newHost(t)
	dir := memoryDir(t)
	store, tree := bareStore(t, dir), subdir(t, dir, "tree")
	for i := range 20 {
		writeFile(t, filepath.Join(tree, fmt.Sprintf("%02d", i)), noise(uint64(i), 5<<20))
	}
	image := writeFile(t, filepath.Join(dir, "image"), noise(77, 20<<20))
	key := h.newKey()
	for _, mode := range [][]string{{"--id", "pxar"}, {"--id", "split", "--format", "split"}, {"--id", "enc", "--keyfile", key}} {
		args := append([]string{"tree.pxar:" + tree, "disk.img:" + image, store}, mode...)
		h.create(args...)
		_, before := snapshotFiles(t, store)
		h.create(args...)
		if _, after := snapshotFiles(t, store); !slices.Equal(before, after) {
			t.Errorf("%q: the same again: %d chunks became %d", mode, len(before), len(after))
		}
		if len(before) < 25 { // 100 MiB and 20 MiB
			t.Errorf("%q: there are %d chunks in all", mode, len(before))
		}
	}
	writeFile(t, filepath.Join(tree, "07"), noise(1000, 5<<20))
	_, before := snapshotFiles(t, store)
	h.create("tree.pxar:"+tree, "disk.img:"+image, store, "--id", "pxar")
	// The parts of up to two chunks before and behind it, the index of the
	// directory, and the catalog.
	if _, after := snapshotFiles(t, store); len(after) <= len(before) || len(after) > len(before)+6 {
		t.Errorf("a changed file of 5 MiB costs %d chunks", len(after)-len(before))
	}
}

// newKey makes a key without a passphrase and returns its path.
func (h *host) newKey(name ...string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, strings.Join(append([]string{"key"}, name...), "-")+".json")
	h.run("key", "create", path).want(h.t, 0)
	return path
}

// ownerOf returns who a file belongs to.
func ownerOf(info fs.FileInfo) (uid, gid uint32) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return st.Uid, st.Gid
}
