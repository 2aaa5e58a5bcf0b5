package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sources are trees and files of fixtures that are written again: all that is
// in their datastores and needs no key.
type sources struct {
	args []string
	want []archive // by the names that they are written under
	from []archive // by their names in the fixture
}

// extracted restores what is wanted of the fixtures and needs no key to a disk,
// the oldest one of each group.
func extracted(t *testing.T, dir string, want func(a archive) bool, fixtures ...string) sources {
	t.Helper()
	var s sources
	for _, name := range fixtures {
		m := mountAt(t, fixture(t, name))
		seen := make(map[string]bool)
		for _, a := range truth(t, name) {
			// A log is no SOURCE.
			group := filepath.Join(filepath.Dir(a.snapshot()), filepath.Base(a.name))
			if locked(a) || strings.HasSuffix(a.name, "client.log") || !want(a) || seen[group] {
				continue
			}
			seen[group] = true
			to := filepath.Join(dir, fmt.Sprintf("%03d", len(s.from)))
			ext := filepath.Ext(a.name)
			if a.isTree() {
				must(t, os.Mkdir(to, 0o700))
				tool(t, "rsync", "-aHAX", "--numeric-ids", m.path(a.name)+"/", to+"/")
			} else {
				tool(t, "cp", "--sparse=always", m.path(a.name), to)
			}
			stem := filepath.Base(to) + ext
			s.args = append(s.args, stem+":"+to)
			s.from = append(s.from, a)
			s.want = append(s.want, archive{stem, a.entries})
		}
		m.unmount()
	}
	return s
}

// compare compares a snapshot with what it was made of.
func (s sources) compare(t *testing.T, snapshot string) {
	t.Helper()
	for _, a := range s.want {
		reportDifferences(t, filepath.Base(snapshot)+"/"+a.name, compare(filepath.Join(snapshot, a.name), a))
	}
}

// newXFS makes an XFS file system, mounted until the test ends.
func newXFS(t *testing.T, megabytes int64) *disk {
	t.Helper()
	needLoop(t)
	needTool(t, "mkfs.xfs")
	base := tempDir(t)
	d := &disk{t: t, file: filepath.Join(base, "disk"), dir: subdir(t, base, "on")}
	writeFile(t, d.file, nil)
	must(t, os.Truncate(d.file, megabytes<<20))
	tool(t, "mkfs.xfs", "-q", d.file)
	d.mount()
	t.Cleanup(func() {
		if mountsAt(t, d.dir) > 0 {
			d.umount()
		}
	})
	return d
}

// Everything that the fixtures have comes back as it was, in each form, and
// wherever the datastore is moved to.
func TestWrittenSnapshotsEqualTheirSources(t *testing.T) {
	needTool(t, "rsync")
	for _, c := range []struct {
		name string
		disk func(t *testing.T, megabytes int64) *disk
		want func(a archive) bool
		make [2][]string // options, to which that of a key is added
	}{
		{"ext4", newDisk, func(archive) bool { return true }, [2][]string{nil, {"--format", "split"}}},
		{"xfs", newXFS, fitsXFS, [2][]string{{"--format", "split"}, nil}},
	} {
		t.Run(c.name, func(t *testing.T) {
			testRoundTrip(t, extracted(t, c.disk(t, 1024).dir, c.want, "ds-basic", "ds-nasty", "ds-split"), c.make[0], c.make[1])
		})
	}
}

// fitsXFS tells trees that XFS can hold: its links are shorter than those of
// others.
func fitsXFS(a archive) bool {
	return a.isTree() && !slices.ContainsFunc(a.entries, func(e entry) bool { return len(e.Target) > 1023 })
}

// testRoundTrip writes a snapshot as it is and one that is encrypted.
func testRoundTrip(t *testing.T, s sources, plain, encrypted []string) {
	t.Helper()
	if len(s.args) == 0 {
		t.Fatal("there is nothing to write")
	}
	dir := memoryDir(t)
	store := bareStore(t, dir)
	h := newHost(t)
	key := h.newKey()
	var names []string
	for i, mode := range [][]string{plain, append(encrypted, "--keyfile", key)} {
		args := append(append(s.args, store, "--id", fmt.Sprint(i)), mode...)
		got := h.run(append([]string{"snapshot", "create"}, args...)...)
		got.want(t, 0)
		if strings.Contains(got.stderr, "warning") {
			t.Errorf("%q: warns: %s", mode, got.stderr)
		}
		names = append(names, strings.TrimSpace(got.stdout))
	}
	for range 2 {
		m := h.mount(store, "--keyfile", key)
		for _, n := range names {
			s.compare(t, m.path(n))
		}
		m.unmount()
		moved := filepath.Join(dir, "moved")
		must(t, os.Rename(store, moved))
		store = moved
		dir = subdir(t, dir, "further")
	}
}
