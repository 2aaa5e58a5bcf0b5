package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// killTree makes a directory of some hundred files, and returns what is known
// about it.
func killTree(t *testing.T, dir string) archive {
	t.Helper()
	tree := archive{name: "tree.pxar", entries: []entry{entryOf(t, dir, "")}}
	for i := range 200 {
		sub := fmt.Sprintf("d%d", i%7)
		if i < 7 {
			subdir(t, dir, sub)
		}
		path := fmt.Sprintf("%s/f%03d", sub, i)
		writeFile(t, filepath.Join(dir, path), noise(uint64(i), i*300))
		tree.entries = append(tree.entries, entryOf(t, dir, path))
	}
	for i := range 7 {
		tree.entries = append(tree.entries, entryOf(t, dir, fmt.Sprintf("d%d", i)))
	}
	tree.entries[0] = entryOf(t, dir, "")
	return tree
}

// entryOf describes a file or directory of a source.
func entryOf(t *testing.T, dir, path string) entry {
	t.Helper()
	var st unix.Stat_t
	full := filepath.Join(dir, path)
	must(t, lstat(full, &st))
	e := entry{
		Path: new([]byte), Type: kinds[st.Mode&unix.S_IFMT], Mode: st.Mode &^ unix.S_IFMT, UID: st.Uid, GID: st.Gid,
		Mtime: &timestamp{st.Mtim.Sec, st.Mtim.Nsec}, Size: st.Size,
	}
	*e.Path = []byte(path)
	if e.Type == "file" {
		var err error
		e.SHA256, err = digest(full)
		must(t, err)
	}
	return e
}

// imageOf describes an image.
func imageOf(t *testing.T, path, name string) archive {
	t.Helper()
	e := entryOf(t, path, "")
	e.Path = nil
	return archive{name, []entry{e}}
}

// killed is a datastore to which commands write that are killed.
type killed struct {
	t     *testing.T
	h     *host
	m     *mount
	store string
	args  []string
	want  []archive
	seen  map[string]bool // snapshots that have been compared
	dirs  int             // unfinished snapshots
	runs  int
}

func newKilled(t *testing.T) *killed {
	t.Helper()
	dir := memoryDir(t)
	store := bareStore(t, dir)
	k := &killed{t: t, h: newHost(t), store: store, seen: make(map[string]bool)}
	tree, image := subdir(t, dir, "tree"), writeFile(t, filepath.Join(dir, "image"), noise(999, 9<<20))
	k.want = []archive{killTree(t, tree), imageOf(t, image, "disk.img")}
	k.args = []string{"snapshot", "create", "tree.pxar:" + tree, "disk.img:" + image, store, "--id", "k"}
	k.m = k.h.mount(store)
	return k
}

// run runs the command and sends it a signal after a while. It returns how it
// ended.
func (k *killed) run(after time.Duration, s syscall.Signal) (*running, syscall.WaitStatus) {
	k.t.Helper()
	// A group of its own, as in the same second none could be taken of the same one.
	k.runs++
	r := k.h.start(append(k.args, "--id", fmt.Sprintf("k%d", k.runs))...)
	time.Sleep(after) // the point is that it may be anywhere
	_ = r.cmd.Process.Signal(s)
	_ = r.cmd.Wait()
	status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		k.t.Fatal("no status")
	}
	return r, status
}

// duration returns how long the command takes that nobody disturbs, when all
// chunks are new.
func (k *killed) duration() time.Duration {
	k.t.Helper()
	start := time.Now()
	k.h.run(k.args...).want(k.t, 0)
	took := time.Since(start)
	k.forget()
	return took
}

// forget removes all chunks that no snapshot has, as a garbage collection does:
// the next command writes them anew.
func (k *killed) forget() {
	k.t.Helper()
	if len(k.h.snapshots(k.store)) > 0 {
		must(k.t, os.RemoveAll(filepath.Join(k.store, "host")))
	}
	list, err := filepath.Glob(filepath.Join(k.store, ".chunks", "*", "*"))
	must(k.t, err)
	for _, c := range list {
		must(k.t, os.Remove(c))
	}
	k.dirs = 0
}

// unfinished returns how many unfinished snapshots there are that were not there
// when it was asked last.
func (k *killed) unfinished() int {
	k.t.Helper()
	list, err := filepath.Glob(filepath.Join(k.store, "host/*/*Z"))
	must(k.t, err)
	before := k.dirs
	k.dirs = len(list) - len(k.h.snapshots(k.store))
	return k.dirs - before
}

// check compares the snapshots that are new, and looks for what must not be
// there.
func (k *killed) check(round string) {
	k.t.Helper()
	finished := k.h.snapshots(k.store)
	for _, name := range finished {
		if k.seen[name] {
			continue
		}
		k.seen[name] = true
		eventually(k.t, round+": showing "+name, func() error { return shown(name)(k.m) })
		for _, a := range k.want {
			reportDifferences(k.t, round+": "+name+"/"+a.name, compare(k.m.path(name, a.name), a))
		}
	}
	rest, chunks := snapshotFiles(k.t, k.store)
	for _, c := range chunks {
		if !chunkName.MatchString(c) {
			k.t.Errorf("%s: left in .chunks: %q", round, c)
		}
	}
	for _, p := range rest {
		if !strings.HasPrefix(p, "host") && p != ".chunks" && p != ".lock" || strings.Contains(p, ".tmp_") {
			k.t.Errorf("%s: left: %q", round, p)
		}
	}
	eventually(k.t, round+": the list of snapshots", func() error {
		names, err := filepath.Glob(k.m.path("host", "*", "*Z"))
		if err != nil || len(names) != len(finished) {
			return unlike("got %q, want %q", names, finished)
		}
		return nil
	})
}

var chunkName = regexp.MustCompile(`^([0-9a-f]{4})/[0-9a-f]{64}$`)

// A writer that is killed leaves chunks and an unfinished directory at most, and
// nobody is in the way of the next one.
func TestKilledWritersLeaveNothingBroken(t *testing.T) {
	k := newKilled(t)
	whole := k.duration()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d; an undisturbed run takes %s", seed, whole)
	random := rand.New(rand.NewPCG(seed, 0))
	finished, unfinished := 0, 0
	for i := range 50 {
		after := time.Duration(random.Int64N(int64(whole) * 11 / 10))
		_, status := k.run(after, syscall.SIGKILL)
		if !status.Signaled() {
			finished++
		}
		unfinished += k.unfinished()
		k.check(fmt.Sprintf("run %d, killed after %s", i, after))
		if t.Failed() {
			break
		}
		if i%3 == 2 {
			k.h.run(k.args...).want(t, 0)
			k.check(fmt.Sprintf("the run after run %d", i))
			k.forget()
		}
	}
	t.Logf("%d of 50 were finished before, and %d left an unfinished snapshot", finished, unfinished)
	if unfinished == 0 {
		t.Error("none was killed while it wrote")
	}
	k.h.run(k.args...).want(t, 0)
	k.check("the last run")
}

// One that is asked to end removes what it has made, and says so.
func TestInterruptedWritersRemoveTheirFiles(t *testing.T) {
	k := newKilled(t)
	slow := t.TempDir()
	must(t, os.Truncate(writeFile(t, filepath.Join(slow, "hole"), nil), 1<<40)) // takes hours
	k.args = slices.Insert(k.args, 3, "slow.pxar:"+slow)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		before, _ := snapshotFiles(t, k.store)
		r := k.h.start(k.args...)
		eventually(t, "the first archive being complete", func() error {
			if list, _ := filepath.Glob(filepath.Join(k.store, "host/k/*Z/tree.pxar.didx")); len(list) == 0 {
				return unlike("there is none")
			}
			return nil
		})
		must(t, r.cmd.Process.Signal(s))
		if text := r.end(1); !strings.HasSuffix(text, "pbsfs: interrupted\n") {
			t.Errorf("%v: said %q", s, text)
		}
		after, _ := snapshotFiles(t, k.store)
		if !slices.Equal(before, after) {
			t.Errorf("%v: there was %q, and now %q", s, before, after)
		}
	}
}

// A datastore that was not completed is completed by the next try.
func TestKilledCreationIsCompleted(t *testing.T) {
	h := newHost(t)
	store := filepath.Join(memoryDir(t), "store")
	for i := range 4 {
		r := h.start("datastore", "add", tank, store, "--create")
		eventually(t, "the first directories", func() error {
			_, err := os.Stat(filepath.Join(store, ".chunks.new", fmt.Sprintf("%04x", 1+i*0x2000)))
			return err
		})
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		if _, err := os.Stat(filepath.Join(store, ".chunks")); err == nil {
			t.Fatalf("try %d: was complete before it was killed", i)
		}
		got := h.run("ls", store)
		got.want(t, 1)
		got.says(t, "not a datastore")
		if list := h.run("datastore", "list"); list.stdout != "" {
			t.Errorf("try %d: is listed: %s", i, list.stdout)
		}
	}
	h.run("datastore", "add", tank, store, "--create").want(t, 0)
	h.create("a.conf:/etc/passwd", tank, "--id", "x")
	if n, err := os.ReadDir(filepath.Join(store, ".chunks")); len(n) != 1<<16 {
		t.Errorf("%d directories for chunks, %v, want %d", len(n), err, 1<<16)
	}
}

// Where there is no room, no snapshot appears, and the room that it took is
// there for the next one.
func TestNoSpaceLeft(t *testing.T) {
	needRoot(t)
	dir := memoryDir(t)
	at := subdir(t, dir, "small")
	must(t, unix.Mount("tmpfs", at, "tmpfs", 0, "size=6m,mode=755"))
	t.Cleanup(func() { must(t, unix.Unmount(at, unix.MNT_DETACH)) })
	h := newHost(t)
	store := bareStore(t, at)
	image := writeFile(t, filepath.Join(dir, "image"), noise(1, 5<<20))
	tree := subdir(t, dir, "tree")
	writeFile(t, filepath.Join(tree, "file"), noise(2, 5<<20))
	ballast := writeFile(t, filepath.Join(at, "ballast"), noise(3, 3<<20))
	before, _ := snapshotFiles(t, store)
	for _, source := range []string{"disk.img:" + image, "tree.pxar:" + tree} {
		for _, format := range []string{"pxar", "split"} {
			got := h.run("snapshot", "create", source, store, "--id", "x", "--ns", "deep/er", "--format", format)
			if got.code != 1 || got.stdout != "" {
				t.Errorf("%s: got exit code %d and %q on stdout", source, got.code, got.stdout)
			}
			got.says(t, store, "no space left on device", "ns/deep/ns/er/host/x")
			if after, _ := snapshotFiles(t, store); !slices.Equal(before, after) {
				t.Errorf("%s: there was %q, and now %q", source, before, after)
			}
			list, err := filepath.Glob(filepath.Join(store, ".chunks/*/*"))
			must(t, err)
			for _, c := range list {
				must(t, os.Remove(c))
			}
		}
	}
	must(t, os.Remove(ballast))
	name := h.create("disk.img:"+image, store, "--id", "x", "--ns", "deep/er")
	got := h.run("cat", store, name+"/disk.img")
	got.want(t, 0)
	if got.stdout != string(noise(1, 5<<20)) {
		t.Error("other bytes came back")
	}
}
