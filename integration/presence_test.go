package integration

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What others clean up in the run directory of a mount comes back.
func TestPresenceComesBack(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	f, err := os.Open(m.path(conf))
	must(t, err)
	run := m.host.runDir()
	for _, what := range []string{"mounts/*.json", "mounts/*.sock", "mounts", "active-operations", "*"} {
		all, err := filepath.Glob(filepath.Join(run, what))
		must(t, err)
		for _, path := range all {
			must(t, os.RemoveAll(path))
		}
		eventually(t, "the mount being found after "+what+" was removed", func() error {
			if s := m.host.status(); len(s.Mounts) != 1 || s.Mounts[0].PID != m.process.pid || len(s.Handles) != 1 || s.reads() != 1 || len(s.Problems) > 0 {
				return unlike("got the status %+v", s)
			}
			return nil
		})
		m.host.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 3)
	}
	must(t, f.Close())
	m.unmount()
}

// While many open and close, the count is lost again and again: what is held open
// is soon counted again, and in the end nothing is.
func TestCountsComeBackUnderChurn(t *testing.T) {
	needRoot(t)
	m := newTank(t, fixture(t, "ds-basic"))
	f, err := os.Open(m.path(conf))
	must(t, err)
	c := startCrowd(t, 8, []string{m.path(diskImage), m.path(conf), m.path(alpha) + "/"})
	for i := range 8 {
		lose := func() error { return os.Remove(m.host.operationsFile()) }
		if i%2 == 1 {
			lose = func() error { return os.RemoveAll(filepath.Dir(m.host.operationsFile())) }
		}
		if err := lose(); err != nil && !errors.Is(err, os.ErrNotExist) && i%2 == 0 {
			t.Fatal(err)
		}
		eventually(t, "the mount being counted again", func() error { return countedIn(m.host, m.process) })
	}
	c.disperse()
	m.host.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 3)
	must(t, f.Close())
	m.uncounted()
	if s := m.host.status(); len(s.Problems) > 0 {
		t.Errorf("got the problems %+v", s.Problems)
	}
}
