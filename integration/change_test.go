package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// changePatience is how long a change may take to show. A second is promised;
// the rest is for machines that have more to do.
const changePatience = 5 * time.Second

// changes are what happens to a datastore while it is mounted.
var changes = []struct {
	name string
	// change changes the datastore, and undo changes it back.
	change, undo func(t *testing.T, store, away string)
	// before and after check what the mount shows.
	before, after func(m *mount) error
}{
	{
		name:   "snapshot",
		change: moveAway("vm/100/2023-11-17T05:46:40Z"), undo: moveBack("vm/100/2023-11-17T05:46:40Z"),
		before: all(shown("vm/100/2023-11-17T05:46:40Z/drive-scsi0.img"), leadsTo("vm/100/latest", "2023-11-17T05:46:40Z")),
		after:  all(hidden("vm/100/2023-11-17T05:46:40Z"), leadsTo("vm/100/latest", "2023-11-14T22:30:00Z")),
	},
	{
		name:   "only snapshot",
		change: moveAway("host/void/2023-11-15T15:10:00Z"), undo: moveBack("host/void/2023-11-15T15:10:00Z"),
		before: all(shown("host/void/2023-11-15T15:10:00Z/empty.pxar"), shown("host/void/latest")),
		after:  all(hidden("host/void/2023-11-15T15:10:00Z"), hidden("host/void/latest")),
	},
	{
		name:   "manifest",
		change: moveAway("vm/100/2023-11-17T05:46:40Z/index.json.blob"), undo: moveBack("vm/100/2023-11-17T05:46:40Z/index.json.blob"),
		before: leadsTo("vm/100/latest", "2023-11-17T05:46:40Z"),
		after:  all(hidden("vm/100/2023-11-17T05:46:40Z"), leadsTo("vm/100/latest", "2023-11-14T22:30:00Z")),
	},
	{
		name:   "group",
		change: moveAway("host/tok-echo"), undo: moveBack("host/tok-echo"),
		before: shown("host/tok-echo/latest"), after: hidden("host/tok-echo"),
	},
	{
		name:   "type",
		change: moveAway("ct"), undo: moveBack("ct"),
		before: shown("ct/101/latest"), after: hidden("ct"),
	},
	{
		name:   "namespace",
		change: moveAway("ns/prod/ns/db"), undo: moveBack("ns/prod/ns/db"),
		before: shown("ns/prod/ns/db/host/beta/latest"), after: hidden("ns/prod/ns/db"),
	},
	{
		name:   "notes",
		change: write("host/alpha/notes", "other notes, and longer ones than before: "+strings.Repeat("x", 500)), undo: moveBack("host/alpha/notes"),
		before: shown("host/alpha/notes"),
		after:  reads("host/alpha/notes", "other notes, and longer ones than before: "+strings.Repeat("x", 500)),
	},
	{
		name:   "no notes",
		change: moveAway("host/alpha/notes"), undo: moveBack("host/alpha/notes"),
		before: shown("host/alpha/notes"), after: hidden("host/alpha/notes"),
	},
	{
		name:   "owner",
		change: write("host/void/owner", "somebody@pbs\n"), undo: moveBack("host/void/owner"),
		before: shown("host/void/owner"), after: reads("host/void/owner", "somebody@pbs\n"),
	},
	{
		name:   "client's log",
		change: moveAway(alpha + "/client.log.blob"), undo: moveBack(alpha + "/client.log.blob"),
		before: shown(alpha + "/client.log"), after: hidden(alpha + "/client.log"),
	},
}

func moveAway(path string) func(t *testing.T, store, away string) {
	return func(t *testing.T, store, away string) {
		t.Helper()
		must(t, os.Rename(filepath.Join(store, path), filepath.Join(away, filepath.Base(path))))
	}
}

func moveBack(path string) func(t *testing.T, store, away string) {
	return func(t *testing.T, store, away string) {
		t.Helper()
		must(t, os.Rename(filepath.Join(away, filepath.Base(path)), filepath.Join(store, path)))
	}
}

// write replaces a file as the server does: by a new one of that name.
func write(path, text string) func(t *testing.T, store, away string) {
	return func(t *testing.T, store, away string) {
		t.Helper()
		moveAway(path)(t, store, away)
		fresh := filepath.Join(away, "new")
		must(t, os.WriteFile(fresh, []byte(text), 0o644))
		must(t, os.Rename(fresh, filepath.Join(store, path)))
	}
}

func all(checks ...func(m *mount) error) func(m *mount) error {
	return func(m *mount) error {
		var errs []error
		for _, check := range checks {
			errs = append(errs, check(m))
		}
		return errors.Join(errs...)
	}
}

// unlike is an error that says what is shown; one of the arguments may be
// another error, or none.
func unlike(format string, args ...any) error { return fmt.Errorf(format, args...) }

// listed reports whether a directory lists a name.
func listed(dir, name string) (bool, error) {
	names, err := readNames(dir)
	return slices.Contains(names, name), err
}

func shown(path string) func(m *mount) error {
	return func(m *mount) error {
		in, err := listed(filepath.Dir(m.path(path)), filepath.Base(path))
		if err != nil || !in {
			return unlike("%s is not listed: %v", path, err)
		}
		_, err = os.Lstat(m.path(path))
		return err
	}
}

func hidden(path string) func(m *mount) error {
	return func(m *mount) error {
		in, err := listed(filepath.Dir(m.path(path)), filepath.Base(path))
		if err != nil || in {
			return unlike("%s is listed: %v", path, err)
		}
		if _, err := os.Lstat(m.path(path)); !errors.Is(err, unix.ENOENT) {
			return unlike("lstat %s: %v", path, err)
		}
		return nil
	}
}

func leadsTo(path, want string) func(m *mount) error {
	return func(m *mount) error {
		got, err := os.Readlink(m.path(path))
		if err != nil || got != want {
			return unlike("%s leads to %q, want %q: %v", path, got, want, err)
		}
		_, err = os.ReadDir(m.path(path))
		return err
	}
}

func reads(path, want string) func(m *mount) error {
	return func(m *mount) error {
		got, err := os.ReadFile(m.path(path))
		if err != nil || string(got) != want {
			return unlike("%s reads %.80q, want %.80q: %v", path, got, want, err)
		}
		info, err := os.Lstat(m.path(path))
		if err == nil && info.Size() != int64(len(want)) {
			return fmt.Errorf("%s has size %d, want %d", path, info.Size(), len(want))
		}
		return err
	}
}

func TestChangesShowWithoutRemounting(t *testing.T) {
	m := mountAt(t, copyFixture(t, "ds-basic"))
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			away := subdir(t, filepath.Dir(m.store), strings.ReplaceAll(c.name, " ", "-"))
			must(t, c.before(m))
			soon := func(what string, check func(*mount) error) {
				t.Helper()
				if err := within(changePatience, func() error { return check(m) }); err != nil {
					t.Errorf("%s does not show after %s: %v", what, changePatience, err)
				}
			}
			c.change(t, m.store, away)
			soon("the change", c.after)
			c.undo(t, m.store, away)
			soon("changing it back", c.before)
		})
	}
	for _, a := range truth(t, "ds-basic") {
		reportDifferences(t, a.name, compare(m.path(a.name), a))
	}
}

// fingerprint returns a line for each file of a datastore, with everything that
// is known of it but when it was read last.
func fingerprint(t *testing.T, store string) []string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(store, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := lstat(p, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s inode %d mode %o owner %d:%d links %d size %d mtime %d.%09d ctime %d.%09d",
			p, st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
		if d.Type().IsRegular() {
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" sha256 %x", sha256.Sum256(text))
		}
		out = append(out, line)
		return nil
	}))
	return out
}

func TestDatastoreIsNeverChanged(t *testing.T) {
	needRoot(t)
	store := copyFixture(t, "ds-basic")
	before := fingerprint(t, store)
	h := newHost(t)
	m := h.mount(store)
	for _, a := range truth(t, "ds-basic") {
		reportDifferences(t, a.name, compare(m.path(a.name), a))
	}
	for _, w := range walkers {
		// What they say is another test's concern.
		_ = w(m.dir).Run()
	}
	h.run("ls", "-l", store, "host/alpha").want(t, 0)
	h.run("cat", store, "host/alpha/latest/index.json").want(t, 0)
	tool(t, "mount", "-i", "-o", "remount,rw", m.dir)
	for _, path := range []string{"host/alpha/owner", "host/alpha/notes", alpha + "/index.json", diskImage} {
		wantErrno(t, "removing "+path, unix.Unlink(m.path(path)), unix.EROFS)
		wantErrno(t, "truncating "+path, unix.Truncate(m.path(path), 0), unix.EROFS)
	}
	m.unmount()
	after := fingerprint(t, store)
	for i := range max(len(before), len(after)) {
		if i >= len(before) || i >= len(after) || before[i] != after[i] {
			t.Fatalf("the datastore has changed:\nbefore: %s\nafter: %s", before[min(i, len(before)-1)], after[min(i, len(after)-1)])
		}
	}
}
