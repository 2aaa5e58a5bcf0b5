package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// demoLeft returns what is there of a demo: its directory, mounts and processes.
func demoLeft(t *testing.T, dir string) (left []string) {
	t.Helper()
	if _, err := os.Lstat(dir); err == nil {
		left = append(left, dir)
	}
	for at := range fuseMounts(t) {
		if strings.HasPrefix(at, dir+"/") {
			left = append(left, "mount "+at)
		}
	}
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, p := range all {
		if text, err := os.ReadFile(p); err == nil && strings.Contains(string(text), dir) {
			left = append(left, fmt.Sprintf("process %s %q", filepath.Dir(p), text))
		}
	}
	return left
}

func noDemo(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "nothing of the demo being left", func() error {
		if left := demoLeft(t, dir); len(left) > 0 {
			return unlike("there is %q", left)
		}
		return nil
	})
}

// newDemo returns a host and where it may have a demo, which is taken away when
// the test ends.
func newDemo(t *testing.T, h *host) string {
	t.Helper()
	needFUSE(t)
	needTool(t, "mkfs.ext4")
	base := memoryDir(t)
	must(t, os.Chown(base, h.uid, -1))
	dir := filepath.Join(base, "demo")
	t.Cleanup(func() {
		if _, err := os.Lstat(dir); err == nil {
			h.run("demo", "--clean", dir)
		}
	})
	return dir
}

// What the demo shows, in its order.
var demoShows = []string{
	"$ pbsfs datastore add demo store --create\n", "$ pbsfs snapshot create home.pxar:home demo --id laptop\n",
	"$ pbsfs mount demo mnt", "\nhost\nns\nvm\n", "$ diff -r ", "< this is the first version.\n", "> this is the second version.\n",
	"$ cp -a ", "\nthis is the first version.\n", "\nHello from inside a disk image.\n",
	"operations are active that offline would forbid\n", " sleep (descriptor): ", "Host is down", "$ pbsfs unmount mnt\n",
}

func checkDemo(t *testing.T, got result) {
	t.Helper()
	got.want(t, 0)
	rest := got.stdout
	for _, text := range demoShows {
		_, after, ok := strings.Cut(rest, text)
		if !ok {
			t.Fatalf("the demo does not show %q, or not in this order:\n%s", text, got.stdout)
		}
		rest = after
	}
}

func TestDemo(t *testing.T) {
	for name, newHost := range map[string]func(t *testing.T) *host{"as the tests' user": newHost, "as an ordinary user": newUserHost} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			if h.uid == nobody {
				needUserMounts(t)
			}
			dir := newDemo(t, h)
			checkDemo(t, h.run("demo", "--clean", dir))
			noDemo(t, dir)
		})
	}
}

// The mount of a demo stays until it is taken away, by a new one or --clean.
func TestDemoStays(t *testing.T) {
	h := newHost(t)
	dir := newDemo(t, h)
	for range 2 {
		got := h.run("demo", dir)
		checkDemo(t, got)
		if !strings.Contains(got.stdout, " demo --clean "+dir+"\n") {
			t.Errorf("the demo does not tell how it is taken away: %s", got.stdout)
		}
	}
	letter := filepath.Join(dir, "mnt/host/laptop/latest/home.pxar/letter.txt")
	f, err := os.Open(letter)
	must(t, err)
	for _, args := range [][]string{{"demo", "--clean", dir}, {"demo", dir}} {
		refused := h.run(args...)
		refused.want(t, 1)
		refused.says(t, dir+"/mnt", "cannot be unmounted")
	}
	must(t, opens(letter))
	must(t, f.Close())
	h.run("demo", "--clean", dir).want(t, 0)
	noDemo(t, dir)
	if text := h.run("datastore", "list").stdout; text != "" {
		t.Errorf("the host's own list has %q", text)
	}
	if left, err := readNames(filepath.Join(h.dir, "cache")); len(left) > 0 || err != nil {
		t.Errorf("the host's own cache has %q, %v", left, err)
	}
}

func TestDemoTakesNothingOfOthers(t *testing.T) {
	h := newHost(t)
	dir := tempDir(t)
	letter := writeFile(t, filepath.Join(dir, "letter"), []byte("dear"))
	for _, args := range [][]string{{"demo", dir}, {"demo", "--clean", dir}, {"demo", letter}, {"demo", filepath.Join(letter, "x")}} {
		got := h.run(args...)
		got.want(t, 1)
		if got.stdout != "" {
			t.Errorf("%q: got this on stdout: %s", args, got.stdout)
		}
	}
	if text, err := os.ReadFile(letter); string(text) != "dear" {
		t.Errorf("the letter is %q, %v", text, err)
	}
	h.run("demo", dir, dir).want(t, 2)
}
