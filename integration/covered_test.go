package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// coverWith mounts a new file system with a file in it until the test ends.
func coverWith(t *testing.T, dir string) (file string) {
	t.Helper()
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return cover(t, dir)
}

// cover mounts a new file system with a file in it.
func cover(t *testing.T, dir string) (file string) {
	t.Helper()
	must(t, unix.Mount("none", dir, "tmpfs", 0, "size=1m"))
	file = filepath.Join(dir, "data")
	must(t, os.WriteFile(file, []byte("precious"), 0o600))
	return file
}

// precious checks that what somebody else mounted, and what is in it, is there.
func precious(t *testing.T, file string) {
	t.Helper()
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("what somebody else has mounted there: got %q, %v", text, err)
	}
}

// What somebody has mounted upon a tree stays, whoever unmounts the tree.
func TestWhatLiesUponATreeStays(t *testing.T) {
	needRoot(t)
	ways := map[string]func(m *mount){
		"unmount":            func(m *mount) { m.host.run("unmount", m.dir).want(t, 0) },
		"unmount, by name":   func(m *mount) { m.host.run("unmount", m.store).want(t, 0) },
		"unmount, forced":    func(m *mount) { m.host.run("unmount", m.dir, "--force", "--wait", "0s").want(t, 0) },
		"a signal":           func(m *mount) { m.process.signal(t, syscall.SIGTERM) },
		"unmount, when dead": func(m *mount) { m.process.signal(t, syscall.SIGKILL); m.host.run("unmount", m.dir).want(t, 0) },
	}
	for name, end := range ways {
		t.Run(name, func(t *testing.T) {
			m := mountAt(t, copyFixture(t, "ds-basic"), "--stop-timeout", "200ms")
			first := coverWith(t, m.dir)
			held, err := os.Open(first)
			must(t, err)
			defer held.Close()
			second := coverWith(t, m.dir)
			end(m)
			eventually(t, "the serving process ending", m.process.ended)
			precious(t, second)
			if n := treesAt(t, m.dir); n != 0 {
				t.Errorf("%d trees are left below", n)
			}
			must(t, unix.Unmount(m.dir, 0))
			precious(t, first)
			if _, err := held.ReadAt(make([]byte, 8), 0); err != nil {
				t.Errorf("a file that was open there: %v", err)
			}
			must(t, held.Close())
			must(t, unix.Unmount(m.dir, 0))
		})
	}
}

// treesAt returns how many trees have their mount point there.
func treesAt(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	for _, line := range mountInfo(t, dir) {
		if strings.Contains(line, " - fuse.pbsfs ") {
			n++
		}
	}
	return n
}

// A tree that is in use below something else is left as it is, and so is that.
func TestCoveredTreeInUseIsLeft(t *testing.T) {
	needRoot(t)
	m := mountAt(t, copyFixture(t, "ds-basic"))
	f, err := os.Open(m.path(conf))
	must(t, err)
	file := coverWith(t, m.dir)
	on := startActor(t, "cwd", m.dir) // in what lies upon it, which is nobody's business
	got := m.host.run("unmount", m.dir, "--wait", "100ms")
	got.want(t, 3)
	got.says(t, fmt.Sprintf("process %d ", os.Getpid()))
	if strings.Contains(got.stderr, on.who()) {
		t.Errorf("somebody who is in what lies upon the tree is named: %s", got.stderr)
	}
	precious(t, file)
	if len(mountInfo(t, m.dir)) != 2 {
		t.Errorf("got the mounts %q", mountInfo(t, m.dir))
	}
	must(t, f.Close())
	m.host.run("unmount", m.dir).want(t, 0)
	precious(t, file)
	on.end()
	eventually(t, "what lay upon the tree being unused", func() error { return unix.Unmount(m.dir, 0) })
}

// Something mounted upon a directory above hides the tree, whose process finds it
// all the same.
func TestHiddenTreeEnds(t *testing.T) {
	needRoot(t)
	for name, end := range map[string]func(m *mount){
		"a signal": func(m *mount) { m.process.signal(t, syscall.SIGTERM) },
		"unmount":  func(m *mount) { m.host.run("unmount", m.store).want(t, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			m := mountAt(t, copyFixture(t, "ds-basic"), "--stop-timeout", "200ms")
			above := filepath.Dir(m.dir)
			file := coverWith(t, above)
			end(m)
			eventually(t, "the serving process ending", m.process.ended)
			precious(t, file)
			if treesAt(t, m.dir) != 0 {
				t.Error("the tree is left")
			}
			must(t, unix.Unmount(above, 0))
		})
	}
}

// What is mounted inside of a tree is somebody's, and in the way.
func TestMountInsideATreeIsInTheWay(t *testing.T) {
	needRoot(t)
	m := mountAt(t, copyFixture(t, "ds-basic"), "--stop-timeout", "200ms")
	file := coverWith(t, m.path("host"))
	for _, args := range [][]string{{}, {"--force"}} {
		got := m.host.run(append([]string{"unmount", m.dir, "--wait", "0s"}, args...)...)
		got.want(t, 3)
		got.says(t, "nested mount", m.path("host"))
		precious(t, file)
	}
	must(t, unix.Unmount(m.path("host"), 0))
	m.unmount()
}

// One mount of several is taken; the others, and their process, go on.
func TestUnmountTakesOneMount(t *testing.T) {
	needRoot(t)
	m := mountAt(t, copyFixture(t, "ds-basic"))
	bound := subdir(t, filepath.Dir(m.dir), "bound")
	bind := func(from, to string) {
		t.Helper()
		must(t, unix.Mount(from, to, "", unix.MS_BIND, ""))
		t.Cleanup(func() { _ = unix.Unmount(to, unix.MNT_DETACH) })
	}
	bind(m.path("vm"), bound)
	f, err := os.Open(m.path(conf))
	must(t, err)
	m.host.run("unmount", bound).want(t, 0) // which nobody uses
	must(t, f.Close())
	m.show()

	bind(m.path("vm"), bound)
	f, err = os.Open(filepath.Join(bound, strings.TrimPrefix(conf, "vm/")))
	must(t, err)
	m.host.run("unmount", m.store, "--wait", "0s").want(t, 3) // all of them, or none
	m.show()
	got := m.host.run("unmount", m.dir)
	got.want(t, 0)
	if !strings.Contains(got.stderr, bound) {
		t.Errorf("got %q, want it to say where the tree still is", got.stderr)
	}
	if _, err := f.ReadAt(make([]byte, 4), 0); err != nil {
		t.Errorf("reading through the other mount: %v", err)
	}
	must(t, f.Close())
	m.host.run("unmount", m.store).want(t, 0)
	m.gone()
	if treesAt(t, bound) != 0 {
		t.Error("the bound mount is left")
	}
}

// Bound upon itself, a tree is two mounts and one tree.
func TestTreeBoundUponItself(t *testing.T) {
	needRoot(t)
	for name, end := range map[string]func(m *mount){
		"a signal": func(m *mount) { m.process.signal(t, syscall.SIGTERM) },
		"unmount":  func(m *mount) { m.host.run("unmount", m.dir).want(t, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			m := mountAt(t, copyFixture(t, "ds-basic"))
			must(t, unix.Mount(m.dir, m.dir, "", unix.MS_BIND, ""))
			end(m)
			eventually(t, "the serving process ending", m.process.ended)
			m.gone()
		})
	}
}

// An ordinary user has only fusermount3, which takes what is on top: what root has
// mounted upon a user's tree stays, and root can unmount the tree below.
func TestWhatLiesUponAUsersTreeStays(t *testing.T) {
	user := newUserHost(t)
	needUserMounts(t)
	store := copyFixture(t, "ds-basic")
	tool(t, "chown", "-R", fmt.Sprint(nobody), store)
	root := newHost(t)

	m := user.mount(store)
	file := coverWith(t, m.dir)
	got := user.run("unmount", m.dir, "--wait", "100ms")
	got.want(t, 3)
	got.says(t, "tmpfs", m.dir)
	precious(t, file)
	root.run("unmount", m.dir).want(t, 0)
	eventually(t, "the serving process ending", m.process.ended)
	precious(t, file)
	must(t, unix.Unmount(m.dir, 0))

	m = user.mount(store, "--stop-timeout", "100ms")
	file = coverWith(t, m.dir)
	m.process.signal(t, syscall.SIGTERM)
	eventually(t, "the serving process ending", m.process.ended)
	precious(t, file)
	root.run("unmount", m.dir).want(t, 0) // a dead one by now
	precious(t, file)
	must(t, unix.Unmount(m.dir, 0))
	if treesAt(t, m.dir) != 0 {
		t.Error("the tree is left")
	}
}
