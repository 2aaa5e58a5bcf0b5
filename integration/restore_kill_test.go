package integration

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// treeOfAllKinds makes a directory of some hundred objects of all kinds, and returns what is
// known about it.
func treeOfAllKinds(t *testing.T, dir string) archive {
	t.Helper()
	for i := range 12 {
		sub := subdir(t, dir, fmt.Sprintf("d%02d", i))
		for k := range 25 {
			file := writeFile(t, filepath.Join(sub, fmt.Sprintf("f%02d", k)), noise(uint64(i*25+k), 100+k*k*20))
			must(t, os.Chmod(file, 0o600+os.FileMode(k)))
			must(t, os.Chown(file, 1000+i, 2000+k))
		}
		must(t, os.Symlink("../elsewhere", filepath.Join(sub, "link")))
		must(t, unix.Mkfifo(filepath.Join(sub, "pipe"), 0o640))
		must(t, os.Link(filepath.Join(sub, "f24"), filepath.Join(dir, fmt.Sprintf("hard%02d", i))))
		must(t, unix.Setxattr(filepath.Join(sub, "f00"), "user.one", []byte{byte(i)}, 0))
		must(t, os.Chmod(sub, os.ModeSticky|0o750))
		must(t, os.Chown(sub, i, i))
	}
	writeFile(t, filepath.Join(dir, "large"), noise(7, 18<<20))
	return treeOf(t, dir)
}

// treeOf describes a directory with everything in it.
func treeOf(t *testing.T, dir string) archive {
	t.Helper()
	a := archive{name: "tree.pxar"}
	groups := make(map[uint64]int)
	must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		must(t, err)
		e := entryOf(t, dir, strings.TrimPrefix(strings.TrimPrefix(p, dir), "/"))
		var st unix.Stat_t
		must(t, lstat(p, &st))
		if e.Type == "symlink" {
			to, err := os.Readlink(p)
			must(t, err)
			e.Target = []byte(to)
		}
		if e.Type == "file" && st.Nlink > 1 {
			if groups[st.Ino] == 0 {
				groups[st.Ino] = len(groups) + 1
			}
			e.Nlink, e.Group = uint64(st.Nlink), groups[st.Ino]
		}
		if x, err := xattrs(p); err == nil {
			e.Xattrs = encoded(x)
		}
		a.entries = append(a.entries, e)
		return nil
	}))
	return a
}

// A restore that is killed leaves nothing but files that are complete, and the same
// command goes on.
func TestKilledRestoresGoOn(t *testing.T) {
	needRoot(t)
	h, dir := newHost(t), tempDir(t)
	store := bareStore(t, memoryDir(t))
	want := treeOfAllKinds(t, subdir(t, dir, "tree"))
	snap := h.create("tree.pxar:"+filepath.Join(dir, "tree"), store, "--id", "k")
	to := filepath.Join(dir, "to")
	args := []string{"restore", store, snap + "/tree.pxar/", to}
	start := time.Now()
	h.run(args...).want(t, 0)
	whole := time.Since(start)
	reportDifferences(t, "undisturbed", compare(to, want))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d; an undisturbed run takes %s", seed, whole)
	random := rand.New(rand.NewPCG(seed, 0))
	killed, resumed := 0, 0
	for i := range 50 {
		must(t, os.RemoveAll(to))
		for range 1 + i%2 { // every other one twice
			r := h.start(args...)
			time.Sleep(time.Duration(random.Int64N(int64(whole)))) // the point is that it may be anywhere
			_ = r.cmd.Process.Signal(syscall.SIGKILL)
			_ = r.cmd.Wait()
			if status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				killed++
			}
			onlyWhole(t, to, want)
		}
		if _, err := os.Stat(filepath.Join(to, ".pbsfs-restore")); err == nil {
			resumed++
			h.run(args...).want(t, 0)
		} else if names, _ := readNames(to); len(names) == 0 {
			h.run(args...).want(t, 0)
		}
		reportDifferences(t, fmt.Sprintf("run %d", i), compare(to, want))
		if t.Failed() {
			break
		}
	}
	t.Logf("%d were killed, %d went on", killed, resumed)
	if resumed < 10 {
		t.Errorf("only %d of 50 went on", resumed)
	}
}

// onlyWhole checks that each file that is there by its name is complete.
func onlyWhole(t *testing.T, to string, want archive) {
	t.Helper()
	for i := range want.entries {
		e := &want.entries[i]
		if e.Type != "file" {
			continue
		}
		path := filepath.Join(to, string(*e.Path))
		var st unix.Stat_t
		if lstat(path, &st) != nil {
			continue
		}
		c := comparison{trusted: true, root: to, links: make(map[int]map[uint64]struct{})}
		if _, err := c.entry(string(*e.Path), e); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, d := range c.found {
			if d.what != "link count" { // its other names are to come
				t.Errorf("after a kill: %v", d)
			}
		}
	}
}

// encoded has names in base64, as the truth does.
func encoded(attrs map[string][]byte) map[string][]byte {
	out := make(map[string][]byte, len(attrs))
	for name, value := range attrs {
		out[base64.StdEncoding.EncodeToString([]byte(name))] = value
	}
	return out
}

// Where other things are there already, a restore that was killed goes on as well: it knows
// the directories that it has made itself, and leaves those of others as they are.
func TestKilledRestoresGoOnBesideOthers(t *testing.T) {
	needRoot(t)
	h, dir := newHost(t), tempDir(t)
	store := bareStore(t, memoryDir(t))
	want := treeOfAllKinds(t, subdir(t, dir, "tree"))
	snap := h.create("tree.pxar:"+filepath.Join(dir, "tree"), store, "--id", "k")
	args := []string{"restore", store, snap + "/tree.pxar", filepath.Join(dir, "to"), "--overwrite", "never"}
	to := filepath.Join(dir, "to", "tree.pxar")
	must(t, os.MkdirAll(filepath.Join(to, "d07"), 0o711))
	start := time.Now()
	h.run(args...).want(t, 0)
	whole := time.Since(start)
	killed := 0
	for i := range 10 {
		must(t, os.RemoveAll(to))
		must(t, os.MkdirAll(filepath.Join(to, "d07"), 0o711))
		r := h.start(args...)
		time.Sleep(whole * time.Duration(i+1) / 12)
		_ = r.cmd.Process.Signal(syscall.SIGKILL)
		_ = r.cmd.Wait()
		if status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			killed++
		}
		h.run(args...).want(t, 0)
		c := comparison{trusted: true, except: func(e *entry, what string) bool {
			return e.Type == "dir" && (string(*e.Path) == "" || string(*e.Path) == "d07") && what != "missing"
		}}
		reportDifferences(t, fmt.Sprintf("run %d", i), c.run(to, want))
		info, err := os.Stat(filepath.Join(to, "d07"))
		must(t, err)
		if info.Mode().Perm() != 0o711 {
			t.Errorf("run %d: the directory of others has mode %v", i, info.Mode())
		}
	}
	if killed == 0 {
		t.Error("none was killed while it wrote")
	}
}
