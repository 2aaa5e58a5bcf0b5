package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/storetest"
)

// made is a snapshot with something that somebody has made up.
type made struct {
	dir     string
	archive storetest.Hostile
	file    storetest.HostileFile
}

const hostileTime = "2026-01-01T00:00:00Z"

// hostileStore makes a datastore in which each snapshot has one thing that is hostile.
func hostileStore(t *testing.T) (s *storetest.Store, all []made) {
	t.Helper()
	s = storetest.InMemory(t)
	for i, h := range storetest.HostileArchives() {
		sn := s.Snapshot(fmt.Sprint("host/a", i), hostileTime)
		h.Write(sn)
		sn.Finish()
		all = append(all, made{dir: sn.Dir, archive: h})
	}
	for i, h := range storetest.HostileFiles() {
		sn := s.Snapshot(fmt.Sprint("host/f", i), hostileTime)
		sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("good", "fine")))
		h.Add(sn)
		sn.Finish()
		all = append(all, made{dir: sn.Dir, file: h})
	}
	return s, all
}

// tried runs a program that must end in time, and returns its exit code and what it said.
func tried(t *testing.T, program string, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %q: %v", program, args, errors.Join(err, ctx.Err()))
	}
	return cmd.ProcessState.ExitCode(), string(b)
}

// TestHostileArchivesInAMount looks at each kind of hostile archive and file through a mount,
// with system calls and with programs: what is sound can be read, the rest is EIO, a listing that
// leaves something out ends with EIO, everything ends, and the process takes the memory that it
// may.
func TestHostileArchivesInAMount(t *testing.T) {
	needRoot(t)
	s, all := hostileStore(t)
	const cacheMiB, maxInodes = 64, 20_000
	m := mountAt(t, s.Dir, "--cache-size", fmt.Sprintf("%dMiB", cacheMiB), "--max-inodes", fmt.Sprint(maxInodes))
	for _, c := range all {
		if c.archive.What != "" {
			m.checkHostile(c.archive, m.path(c.dir, "root.pxar"))
		} else {
			m.checkHostileFile(c.file, m.path(c.dir))
		}
	}
	code, out := tried(t, "find", m.path("host"), "-ls")
	if n := strings.Count(out, "Input/output error"); code != 1 || n < len(all)/2 || strings.Contains(out, "File system loop") {
		t.Errorf("find: exit code %d, and %d errors for %d archives", code, n, len(all))
	}
	for _, c := range all[:min(len(all), 40)] {
		code, out := tried(t, "tar", "-C", m.path(c.dir), "--xattrs", "--acls", "-cf", "/dev/null", "root.pxar")
		if whole := c.archive.Complete && len(c.archive.Broken) == 0 && !strings.Contains(c.archive.What, "deep"); (code == 0) != whole {
			t.Errorf("%s: tar ends with %d: %.300s", c.archive.What, code, out)
		}
	}
	if !m.process.alive() {
		t.Error("the serving process died")
	}
	m.wantMemory(cacheMiB, maxInodes)
}

func (m *mount) checkHostile(h storetest.Hostile, top string) {
	m.t.Helper()
	names, err := namesOf(top)
	slices.Sort(names)
	if got := strings.Join(names, " "); got != h.Names || (err == nil) != h.Complete || err != nil && !errors.Is(err, unix.EIO) {
		m.t.Errorf("%s: lists %q, %v; want %q, complete: %v", h.What, got, err, h.Names, h.Complete)
	}
	for _, p := range h.Whole {
		if got, err := os.ReadFile(filepath.Join(top, p)); string(got) != "fine" || err != nil {
			m.t.Errorf("%s: %s says %q, %v", h.What, p, got, err)
		}
	}
	for _, p := range h.Broken {
		if err := use(filepath.Join(top, p)); !errors.Is(err, unix.EIO) {
			m.t.Errorf("%s: %s: %v, want EIO", h.What, p, err)
		}
		if all, err := xattrs(filepath.Join(top, p)); err != nil && !errors.Is(err, unix.EIO) {
			m.t.Errorf("%s: attributes of %s: %v, %v", h.What, p, all, err)
		}
	}
}

func (m *mount) checkHostileFile(h storetest.HostileFile, top string) {
	m.t.Helper()
	if got, err := os.ReadFile(top + "/root.pxar/good"); string(got) != "fine" || err != nil {
		m.t.Errorf("%s: what lies beside says %q, %v", h.What, got, err)
	}
	for _, p := range h.Broken {
		if err := use(filepath.Join(top, p)); !errors.Is(err, unix.EIO) {
			m.t.Errorf("%s: %s: %v, want EIO", h.What, p, err)
		}
	}
	for p, want := range h.Sizes {
		f, err := os.Open(filepath.Join(top, p))
		must(m.t, err)
		st, err := f.Stat()
		must(m.t, err)
		b := make([]byte, 4096)
		for _, off := range []int64{0, want / 3, want - 4096} {
			if n, err := f.ReadAt(b, off); err != nil || n != len(b) {
				m.t.Errorf("%s: %s at %d: %d, %v", h.What, p, off, n, err)
			}
		}
		if st.Size() != want {
			m.t.Errorf("%s: %s has %d bytes, want %d", h.What, p, st.Size(), want)
		}
		must(m.t, f.Close())
	}
}

// namesOf returns what is listed, and how the listing ends. It looks at nothing that is listed.
func namesOf(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// use lists a directory, or reads the beginning of a file.
func use(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		_, err := f.Readdirnames(-1)
		return err
	}
	_, err = f.Read(make([]byte, 1))
	return err
}

// TestHostileArchivesAtCommands has commands read what is hostile: nothing is written elsewhere,
// what is damaged is named, and the exit code says that something is.
func TestHostileArchivesAtCommands(t *testing.T) {
	s, all := hostileStore(t)
	h := newHost(t)
	above := tempDir(t)
	canary := filepath.Join(above, "evil")
	must(t, os.WriteFile(canary, []byte("untouched"), 0o600))
	for i, c := range all {
		a := c.archive
		if i%5 != 0 && !strings.Contains(a.What, "name") && !strings.Contains(a.What, "out of") {
			continue
		}
		to := filepath.Join(above, "to")
		r := h.run("restore", s.Dir, c.dir+"/root.pxar", to)
		whole := a.What == "" || a.Complete && len(a.Broken) == 0 && !strings.Contains(a.What, "deep")
		if want := map[bool]int{true: 0, false: 5}[whole]; r.code != want {
			t.Errorf("%s: restore ends with %d, want %d: %s", a.What, r.code, want, r.stderr)
		}
		if text, err := os.ReadFile(canary); string(text) != "untouched" || err != nil {
			t.Fatalf("%s: something was written beside the target: %q, %v", a.What, text, err)
		}
		if left, err := os.ReadDir(above); err != nil || len(left) > 2 {
			t.Fatalf("%s: %v lie beside the target, %v", a.What, left, err)
		}
		for _, p := range a.Whole {
			if text, err := os.ReadFile(filepath.Join(to, "root.pxar", p)); string(text) != "fine" || err != nil {
				t.Errorf("%s: restored %s says %q, %v", a.What, p, text, err)
			}
		}
		must(t, os.RemoveAll(to))
	}
	for _, args := range [][]string{{"find", s.Dir, "--name", "good"}, {"verify", s.Dir}, {"usage", s.Dir}, {"ls", s.Dir, "host"}} {
		code, out := tried(t, program, append(args, "--config-dir", filepath.Join(h.dir, "config"), "--run-dir", h.runDir())...)
		if strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") || code == 2 || code < 0 {
			t.Errorf("%q: exit code %d: %.2000s", args, code, out)
		}
		t.Logf("%q: exit code %d, %d bytes", args, code, len(out))
	}
}
