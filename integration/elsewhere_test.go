package integration

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What is served by a process of another run directory is not dead, and what is
// dead is said to be.
func TestMountOfAnotherRunDirectory(t *testing.T) {
	m := mountAt(t, copyFixture(t, "ds-basic"))
	other := newHost(t)
	s := other.statusOf(m.store)
	if len(s.Mounts) != 1 || s.Mounts[0].Mountpoint != m.dir || !s.Mounts[0].Elsewhere || len(s.Problems) != 0 {
		t.Errorf("got %+v, want one mount that is served from elsewhere, and no problem", s)
	}
	if text := other.run("status", m.store).stdout; !strings.Contains(text, "served from elsewhere") {
		t.Errorf("got the text %s", text)
	}
	m.process.signal(t, syscall.SIGKILL)
	eventually(t, "the mount being dead", func() error {
		s := other.statusOf(m.store)
		if len(s.Mounts) != 1 || s.Mounts[0].Elsewhere || s.Mounts[0].PID != 0 || len(s.Problems) != 1 {
			return unlike("got %+v, want one mount, which is dead", s)
		}
		return nil
	})
	eventually(t, "the process having ended", m.process.ended) // its mount is dead a moment before
	other.run("unmount", m.dir).want(t, 0)
	m.host.run("status", m.store).want(t, 0) // which takes the record away
}

// unmount from another run directory waits for the process as well, where it can be
// told.
func TestUnmountFromAnotherRunDirectory(t *testing.T) {
	m := mountAt(t, copyFixture(t, "ds-basic"))
	newHost(t).run("unmount", m.store).want(t, 0)
	eventually(t, "the process ending", m.process.ended)
}

// A bound mount is one that is shown.
func TestBoundMountIsShown(t *testing.T) {
	needRoot(t)
	m := mountAt(t, copyFixture(t, "ds-basic"))
	bound := tempDir(t)
	must(t, unix.Mount(m.path("vm"), bound, "", unix.MS_BIND, ""))
	s := m.host.statusOf(m.store)
	if len(s.Mounts) != 2 || s.Mounts[1].Mountpoint != bound || s.Mounts[1].PID != m.process.pid {
		t.Errorf("got the mounts %+v, want that on %s as well", s.Mounts, bound)
	}
	must(t, unix.Unmount(bound, 0))
}
