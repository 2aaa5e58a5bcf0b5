package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// refusal is a mount command that must not mount anything.
type refusal struct {
	name string
	code int
	says string // part of the message
	// args returns the arguments after "mount"; dir is an empty directory, and
	// store a datastore in a directory of its own.
	args func(t *testing.T, store, dir string) []string
}

var refusals = []refusal{
	{"not a datastore", 1, "not a datastore", func(t *testing.T, _, dir string) []string {
		return []string{tempDir(t), dir}
	}},
	{"datastore is a file", 1, "", func(_ *testing.T, store, dir string) []string {
		return []string{filepath.Join(store, "host/alpha/owner"), dir}
	}},
	{"no such datastore", 1, "no such directory", func(_ *testing.T, store, dir string) []string {
		return []string{store + "-not-there", dir}
	}},
	{"no such name", 1, "no datastore nothing", func(_ *testing.T, _, dir string) []string {
		return []string{"nothing", dir}
	}},
	{"no such mount point", 1, "no such directory to mount on", func(_ *testing.T, store, dir string) []string {
		return []string{store, dir + "-not-there"}
	}},
	{"mount point is a file", 1, "not a directory", func(t *testing.T, store, dir string) []string {
		file := filepath.Join(dir, "file")
		must(t, os.WriteFile(file, nil, 0o600))
		return []string{store, file}
	}},
	{"mount point is not empty", 1, "not empty", func(t *testing.T, store, dir string) []string {
		must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
		return []string{store, dir}
	}},
	{"on the datastore", 1, "cannot mount", func(_ *testing.T, store, _ string) []string {
		return []string{store, store, "-o", "nonempty"}
	}},
	{"in the datastore", 1, "cannot mount", func(_ *testing.T, store, _ string) []string {
		return []string{store, filepath.Join(store, "host"), "-o", "nonempty"}
	}},
	{"above the datastore", 1, "cannot mount", func(_ *testing.T, store, _ string) []string {
		return []string{store, filepath.Dir(store), "-o", "nonempty"}
	}},
	{"on the datastore by a link", 1, "cannot mount", func(t *testing.T, store, dir string) []string {
		return []string{store, linkTo(t, store, dir), "-o", "nonempty"}
	}},
	{"in the datastore by a link", 1, "cannot mount", func(t *testing.T, store, dir string) []string {
		return []string{store, filepath.Join(linkTo(t, store, dir), "host"), "-o", "nonempty"}
	}},
	{"above the datastore by a link", 1, "cannot mount", func(t *testing.T, store, dir string) []string {
		return []string{store, linkTo(t, filepath.Dir(store), dir), "-o", "nonempty"}
	}},
	{"on the datastore, itself by a link", 1, "cannot mount", func(t *testing.T, store, dir string) []string {
		return []string{linkTo(t, store, dir), store, "-o", "nonempty"}
	}},
	{"on the datastore by a bind mount", 1, "cannot mount", func(t *testing.T, store, dir string) []string {
		return []string{store, bind(t, store, dir), "-o", "nonempty"}
	}},
	{"in the datastore by a bind mount", 1, "cannot mount", func(t *testing.T, store, dir string) []string {
		return []string{store, filepath.Join(bind(t, store, dir), "host"), "-o", "nonempty"}
	}},
	{"above the datastore by a bind mount", 1, "cannot mount", func(t *testing.T, store, dir string) []string {
		return []string{store, bind(t, filepath.Dir(store), dir), "-o", "nonempty"}
	}},
	{"unknown mount option", 2, "unknown mount option", func(_ *testing.T, store, dir string) []string {
		return []string{store, dir, "-o", "ro,fancy"}
	}},
	{"read-write", 2, "read-only", func(_ *testing.T, store, dir string) []string {
		return []string{store, dir, "-o", "rw"}
	}},
	{"uid is no number", 2, "uid=me", func(_ *testing.T, store, dir string) []string {
		return []string{store, dir, "-o", "uid=me"}
	}},
	{"umask is not octal", 2, "umask=99", func(_ *testing.T, store, dir string) []string {
		return []string{store, dir, "-o", "umask=99"}
	}},
	{"no mount point", 2, "", func(_ *testing.T, store, _ string) []string { return []string{store} }},
	{"no argument", 2, "", func(*testing.T, string, string) []string { return nil }},
	{"three arguments", 2, "", func(_ *testing.T, store, dir string) []string { return []string{store, dir, dir} }},
	{"unknown flag", 2, "unknown flag", func(_ *testing.T, store, dir string) []string {
		return []string{store, dir, "--fancy"}
	}},
	{"negative time", 2, "--stop-timeout", func(_ *testing.T, store, dir string) []string {
		return []string{store, dir, "--stop-timeout=-1s"}
	}},
}

// linkTo makes a symbolic link to a directory.
func linkTo(t *testing.T, dir, in string) string {
	t.Helper()
	at := filepath.Join(in, "link")
	must(t, os.Symlink(dir, at))
	return at
}

// bind makes another path of a directory, until the test ends.
func bind(t *testing.T, dir, at string) string {
	t.Helper()
	needRoot(t)
	must(t, unix.Mount(dir, at, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(at, unix.MNT_DETACH)) })
	return at
}

func TestMountsThatAreRefused(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	h := newHost(t)
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			args := r.args(t, store, tempDir(t))
			before := fuseMounts(t)
			got := h.run(append([]string{"mount"}, args...)...)
			got.want(t, r.code)
			if !strings.Contains(got.stderr, r.says) {
				t.Errorf("got the message %q, want one with %q", got.stderr, r.says)
			}
			if got.stdout != "" {
				t.Errorf("got this on stdout: %s", got.stdout)
			}
			left := fuseMounts(t)
			for at := range before {
				delete(left, at)
			}
			for at := range left {
				t.Errorf("%s is mounted", at)
				must(t, unix.Unmount(at, unix.MNT_DETACH))
			}
			eventually(t, "there being no record", func() error {
				if records, _ := filepath.Glob(filepath.Join(h.runDir(), "mounts", "*")); len(records) > 0 {
					return fmt.Errorf("there is %q", records)
				}
				return nil
			})
		})
	}
}

// fuseMounts returns where the program has mounted something.
func fuseMounts(t *testing.T) map[string]bool {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	out := make(map[string]bool)
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, " - fuse.pbsfs ") {
			out[strings.Fields(line)[4]] = true
		}
	}
	return out
}

func TestMountWithoutPermission(t *testing.T) {
	h := newUserHost(t)
	store := copyFixture(t, "ds-basic")
	for _, path := range []string{".chunks", "."} {
		must(t, os.Chmod(filepath.Join(store, path), 0o700))
		m := h.unmounted(store)
		got := m.run()
		got.want(t, 1)
		if !strings.Contains(strings.ToLower(got.stderr), "permission") {
			t.Errorf("got the message %q, want one about permission", got.stderr)
		}
		m.gone()
	}
}

func TestMountPointInUse(t *testing.T) {
	h, store := newHost(t), fixture(t, "ds-basic")
	m := h.mount(store)
	for _, args := range [][]string{nil, {"-o", "nonempty"}} {
		got := m.run(args...)
		got.want(t, 1)
		if !strings.Contains(got.stderr, "mounted there already") {
			t.Errorf("got the message %q, want one that says it is mounted", got.stderr)
		}
	}
	if n := mountsAt(t, m.dir); n != 1 {
		t.Errorf("got %d mounts, want the first one", n)
	}
	must(t, shown(diskImage)(m))
}

func TestNonemptyMountsOverFiles(t *testing.T) {
	h := newHost(t)
	m := h.unmounted(fixture(t, "ds-basic"))
	file := m.path("file")
	must(t, os.WriteFile(file, []byte("under"), 0o600))
	m.run("-o", "nonempty").want(t, 0)
	m.process = m.findServer()
	must(t, hidden("file")(m))
	must(t, shown("host/alpha")(m))
	m.unmount()
	if text, err := os.ReadFile(file); err != nil || string(text) != "under" {
		t.Errorf("the file below the mount: got %q and %v", text, err)
	}
}
