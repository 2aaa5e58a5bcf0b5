package mounts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallMount mounts a small file system until the test ends.
func smallMount(t *testing.T) Mount {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	mountTmpfs(t, dir)
	m, err := FindMount(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mountTmpfs(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// A copy of a mount in a namespace that no process is in is found by the file that
// keeps the namespace.
func TestCopyInNamespaceWithoutProcess(t *testing.T) {
	m := smallMount(t)
	keep := t.TempDir()
	mountTmpfs(t, keep)
	if err := unix.Mount("", keep, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(keep, "ns")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("unshare", "--mount="+file, "--propagation", "private", "true").CombinedOutput()
	if err != nil {
		t.Skipf("unshare: %v: %s", err, out)
	}
	found, err := CopiesOf(t.Context(), m)
	if err != nil || !strings.Contains(holderTexts(found), file) {
		t.Errorf("got %v, %v, want the namespace that %s keeps", found, err, file)
	}
	if err := unix.Unmount(file, 0); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the copy being gone", func() bool {
		found, err := CopiesOf(t.Context(), m)
		return err == nil && !strings.Contains(holderTexts(found), file)
	})
}

func holderTexts(all []Holder) string {
	text := ""
	for _, h := range all {
		text += h.String() + "\n"
	}
	return text
}

// One mount is taken away, with others upon it, above it and below it.
func TestUnmountOnly(t *testing.T) {
	m := smallMount(t)
	mark := func(name string) string {
		t.Helper()
		file := filepath.Join(m.Point, name)
		if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	lowest := mark("lowest")
	mountTmpfs(t, m.Point)
	middle, err := FindMount(m.Point)
	if err != nil {
		t.Fatal(err)
	}
	mark("middle")
	mountTmpfs(t, m.Point)
	highest := mark("highest")
	if err := UnmountOnly(middle, false); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(highest); err != nil || string(text) != "highest" {
		t.Errorf("what lay upon the mount: got %q, %v", text, err)
	}
	if err := UnmountOnly(middle, false); err == nil {
		t.Error("a mount that has gone was unmounted once more")
	}
	if err := unix.Unmount(m.Point, 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(lowest)
	if err != nil {
		t.Fatalf("what lay below the mount: %v", err)
	}
	defer f.Close()
	for range 3 { // to ask is not to unmount
		if err := Unused(m); err == nil {
			t.Error("a mount in use is called unused")
		}
	}
	if err := UnmountOnly(m, false); err == nil {
		t.Error("a mount in use was unmounted")
	}
	f.Close()
	for range 3 {
		waitFor(t, "the mount being unused", func() bool { return Unused(m) == nil })
	}
	waitFor(t, "the mount being taken away", func() bool { return UnmountOnly(m, false) == nil })
}

// waitFor waits until a condition is met, for as long as a busy machine may take.
func waitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not met: %s", what)
		}
	}
}
