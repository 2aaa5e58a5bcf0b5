package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Of several commands that mount on one directory at once, one succeeds.
func TestMountsAtOnce(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	h := newHost(t)
	m := h.unmounted(store)
	link := filepath.Join(h.dir, "link")
	must(t, os.Symlink(m.dir, link))
	const commands = 6
	var results [commands]result
	var all sync.WaitGroup
	for i := range commands {
		all.Go(func() { results[i] = h.run("mount", store, []string{m.dir, link, m.dir + "/"}[i%3], "--log", m.log) })
	}
	all.Wait()
	succeeded := 0
	for _, r := range results {
		switch {
		case r.code == 0:
			succeeded++
		case r.code != 1 || !strings.Contains(r.stderr, "mounted there already"):
			t.Errorf("got exit code %d and %q, want 1 and that it is mounted there already", r.code, r.stderr)
		}
	}
	if succeeded != 1 || mountsAt(t, m.dir) != 1 {
		t.Fatalf("%d commands succeeded and %d mounts lie upon each other, want 1 and 1", succeeded, mountsAt(t, m.dir))
	}
	m.process = m.findServer()
	m.show()
	m.unmount()
}

// A mount is one mount wherever it is by now, and ends clean.
func TestMountThatWasMoved(t *testing.T) {
	needRoot(t)
	moves := map[string]func(m *mount, to string){
		"a directory above was renamed": func(m *mount, to string) { must(t, os.Rename(filepath.Dir(m.dir), filepath.Dir(to))) },
		"the mount was moved": func(m *mount, to string) {
			must(t, os.MkdirAll(to, 0o755))
			must(t, unix.Mount(m.dir, to, "", unix.MS_MOVE, ""))
		},
	}
	ends := map[string]func(m *mount, to string){
		"a signal":          func(m *mount, _ string) { m.process.signal(t, syscall.SIGTERM) },
		"unmount, by name":  func(m *mount, _ string) { m.host.run("unmount", m.store).want(t, 0) },
		"unmount, by place": func(m *mount, to string) { m.host.run("unmount", to).want(t, 0) },
		"unmount, by a link": func(m *mount, to string) {
			must(t, os.Symlink(to, to+".link"))
			m.host.run("unmount", to+".link/").want(t, 0)
		},
	}
	for how, move := range moves {
		for name, end := range ends {
			t.Run(how+", "+name, func(t *testing.T) {
				m := mountAt(t, copyFixture(t, "ds-basic"), "--stop-timeout", "200ms")
				to := filepath.Join(filepath.Dir(filepath.Dir(m.dir)), "elsewhere", "mnt")
				move(m, to)
				s := m.host.statusOf(m.store)
				if len(s.Mounts) != 1 || s.Mounts[0].Mountpoint != to || s.Mounts[0].PID != m.process.pid {
					t.Errorf("status: got the mounts %+v, want one on %s, by process %d", s.Mounts, to, m.process.pid)
				}
				end(m, to)
				eventually(t, "the serving process ending", m.process.ended)
				if treesAt(t, to) != 0 || treesAt(t, m.dir) != 0 {
					t.Error("a dead mount is left")
				}
			})
		}
	}
}

// Names are bytes.
func TestMountPointsOfAnyName(t *testing.T) {
	for _, name := range []string{"m\374ll", "with space", "new\nline", "back\\slash", "comma,colon:", "\\040"} {
		m := mountAt(t, copyFixture(t, "ds-basic"))
		m.unmount()
		dir := filepath.Join(filepath.Dir(m.dir), name)
		must(t, os.Mkdir(dir, 0o755))
		for _, by := range []string{dir, m.store} {
			m.host.run("mount", m.store, dir, "--log", m.log).want(t, 0)
			got := m.host.run("status", m.store, "--json")
			var all []status
			must(t, json.Unmarshal([]byte(got.stdout), &all))
			if len(all) != 1 || len(all[0].Mounts) != 1 || all[0].Mounts[0].PID == 0 {
				t.Errorf("%q: got the status %s, want one mount, that somebody serves", name, got.stdout)
				continue
			}
			served := findProcess(t, all[0].Mounts[0].PID)
			m.host.run("unmount", by).want(t, 0)
			if served.alive() {
				t.Errorf("%q: unmount by %q returned, and the process runs", name, by)
			}
		}
	}
}
