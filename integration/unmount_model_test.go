package integration

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// neighbour is something that is done to a tree, and how it is undone.
type neighbour struct {
	name string
	// keeps says that it is in the way of an unmount.
	keeps bool
	begin func(m *mount) (end func())
}

// neighbours are what an unmount may meet.
var neighbours = []neighbour{ //nolint:gochecknoglobals // a constant table
	{"an open file", true, func(m *mount) func() {
		f, err := os.Open(m.path(conf))
		must(m.t, err)
		return func() { must(m.t, f.Close()) }
	}},
	{"a working directory", true, func(m *mount) func() {
		return startActor(m.t, "cwd", m.path("host")).end
	}},
	{"a namespace", true, func(m *mount) func() {
		_, end := spaced(m.t)
		return end
	}},
	{"an overlay", true, func(m *mount) func() {
		dir := tempDir(m.t)
		at, rw := subdir(m.t, dir, "at"), subdir(m.t, dir, "rw")
		must(m.t, unix.Mount("none", rw, "tmpfs", 0, "size=1m"))
		options := "lowerdir=" + m.path("host") + ",upperdir=" + subdir(m.t, rw, "upper") + ",workdir=" + subdir(m.t, rw, "work")
		must(m.t, unix.Mount("overlay", at, "overlay", 0, options))
		return func() { must(m.t, unix.Unmount(at, 0)); must(m.t, unix.Unmount(rw, unix.MNT_DETACH)) }
	}},
	{"a bound mount", false, func(m *mount) func() {
		at := tempDir(m.t)
		must(m.t, unix.Mount(m.path("vm"), at, "", unix.MS_BIND, ""))
		return func() { _ = unix.Unmount(at, 0) } // which goes with the tree
	}},
	{"another file system upon it", false, func(m *mount) func() {
		file := cover(m.t, m.dir)
		return func() { precious(m.t, file); must(m.t, unix.Unmount(m.dir, 0)) }
	}},
}

// Whatever is done to a tree, its unmount is refused and changes nothing, or it
// succeeds and leaves nothing.
func TestUnmountAmongNeighbours(t *testing.T) {
	needRoot(t)
	if out, err := exec.Command("grep", "-w", "overlay", "/proc/filesystems").CombinedOutput(); err != nil {
		t.Skipf("needs overlays: %s", out)
	}
	seed := uint64(os.Getpid()) //nolint:gosec // any number
	rnd := rand.New(rand.NewPCG(seed, 0))
	m := mountAt(t, copyFixture(t, "ds-basic"))
	const rounds = 12
	for range rounds {
		var names []string
		var ends []func()
		refused := false
		for _, i := range rnd.Perm(len(neighbours)) {
			// Nothing can be done to a tree below something else.
			if n := neighbours[i]; rnd.IntN(3) == 0 {
				names, ends, refused = append(names, n.name), append(ends, n.begin(m)), refused || n.keeps
				if mountsAt(t, m.dir) > 1 {
					break
				}
			}
		}
		what := strings.Join(names, ", ")
		if refused {
			m.host.run("unmount", m.store, "--wait", "50ms").want(t, 3)
			if treesAt(t, m.dir) != 1 || !m.process.alive() {
				t.Errorf("seed %d, with %s: the unmount was refused, and the tree is gone", seed, what)
			}
		}
		if refused {
			for _, end := range ends {
				end()
			}
			m.show()
		}
		m.host.run("unmount", m.store).want(t, 0)
		if !refused {
			for _, end := range ends {
				end()
			}
		}
		eventually(t, "the process ending", m.process.ended)
		if treesAt(t, m.dir) != 0 {
			t.Errorf("seed %d, with %s: the tree is left", seed, what)
		}
		if t.Failed() {
			return
		}
		m.run().want(t, 0)
		m.process = m.findServer()
	}
	if left, err := filepath.Glob("/run/.pbsfs-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}
