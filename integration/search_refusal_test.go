package integration

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is wrong on the command line is named, and how it is written.
func TestSearchNamesWhatIsWrong(t *testing.T) {
	store, h := fixture(t, "ds-basic"), newHost(t)
	alphaNow := "host/alpha/latest"
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"find", store, "--name", "["}, 2, []string{"--name", `"["`}},
		{[]string{"find", store, "--name", ""}, 2, []string{"--name", `""`}},
		{[]string{"find", store, "--iname", "{a"}, 2, []string{"--iname", `"{a"`}},
		{[]string{"find", store, "--path", "a/[x"}, 2, []string{"--path", `"a/[x"`}},
		{[]string{"find", store, "--regex", "("}, 2, []string{"--regex", `"("`}},
		{[]string{"find", store, "--regex", ")("}, 2, []string{"--regex", `")("`}},
		{[]string{"find", store, "--type", "x"}, 2, []string{"--type", `"x"`, "f, d, l"}},
		{[]string{"find", store, "--type", "f,,d"}, 2, []string{"--type", `""`}},
		{[]string{"find", store, "--size", "+x"}, 2, []string{"--size", `"+x"`, "10M"}},
		{[]string{"find", store, "--size", ""}, 2, []string{"--size", `""`}},
		{[]string{"find", store, "--size", "++1"}, 2, []string{"--size", `"++1"`}},
		{[]string{"find", store, "--newer", "yesterday"}, 2, []string{"--newer", `"yesterday"`, "7d"}},
		{[]string{"find", store, "--older", "2026-13-01"}, 2, []string{"--older", `"2026-13-01"`}},
		{[]string{"find", store, "--since", "-3d"}, 2, []string{"--since", `"-3d"`}},
		{[]string{"find", store, "--owner", "root"}, 2, []string{"--owner", `"root"`, "number"}},
		{[]string{"find", store, "--owner", ":"}, 2, []string{"--owner", `":"`}},
		{[]string{"find", store, "--owner", "4294967296"}, 2, []string{"--owner", "4294967296"}},
		{[]string{"find", store, "--perm", "888"}, 2, []string{"--perm", `"888"`, "644"}},
		{[]string{"find", store, "--json", "-0"}, 2, []string{"--print0"}},
		{[]string{"find"}, 2, []string{"usage"}},
		{[]string{"find", store, "host/alpah"}, 1, []string{`no "alpah"`, "alpha"}},
		{[]string{"find", store, alphaNow + "/root.pxr"}, 1, []string{`no "root.pxr"`, "root.pxar"}},
		{[]string{"find", store, "vm/100/latest/drive-scsi0.img.d"}, 1, []string{"disks is not searched"}},
		{[]string{"find", filepath.Join(store, "nothing")}, 1, []string{"nothing"}},
		{[]string{"history", store, "host/alpha"}, 2, []string{`"host/alpha"`, "root.pxar"}},
		{[]string{"history", store, "alpha/root.pxar"}, 2, []string{"TYPE/ID"}},
		{[]string{"history", store, "host/alpah/root.pxar/etc"}, 1, []string{`no "alpah"`}},
		{[]string{"history", store, "host/alpha/root.pxar/etcc"}, 1, []string{`no "etcc"`, "etc"}},
		{[]string{"history", store, "host/alpha/no/such/file"}, 1, []string{"no archive"}},
		{[]string{"history", store, "host/alpha/root.pxar/etc", "--until", "2000-01-01"}, 1, []string{"no snapshot in that time"}},
		{[]string{"diff", store, alphaNow}, 2, []string{"usage"}},
		{[]string{"diff", store, alphaNow, "host/alpha"}, 2, []string{"/host/alpha", "TYPE/ID/TIME"}},
		{[]string{"diff", store, alphaNow, "host/alpha/2000-01-01T00:00:00Z"}, 1, []string{"2000-01-01", "latest"}},
		{[]string{"diff", store, alphaNow, alphaNow, "root.pxar/etcc"}, 1, []string{`no "etcc"`, "etc"}},
		{[]string{"diff", store, alphaNow, alphaNow, "--ignore", "colour"}, 2, []string{"--ignore", `"colour"`, "mtime"}},
		{[]string{"diff", store, alphaNow, alphaNow, "--stat", "--content"}, 2, []string{"--stat"}},
	} {
		got := h.run(c.args...)
		got.want(t, c.code)
		got.says(t, c.says...)
		if got.stdout != "" {
			t.Errorf("pbsfs %q printed %q", c.args, got.stdout)
		}
	}
}

func TestSearchIsRefusedOffline(t *testing.T) {
	m := newTank(t, copyFixture(t, "ds-basic"))
	m.host.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
	for _, args := range [][]string{
		{"find", tank}, {"history", tank, "host/alpha/root.pxar/etc"}, {"diff", tank, "host/alpha/latest", "host/alpha/latest"},
	} {
		m.host.run(args...).want(t, 4)
	}
	m.host.run("maintenance", "clear", tank).want(t, 0)
	m.host.run("find", tank, "--name", "nothing").want(t, 0)
}

func TestDiffExitCode(t *testing.T) {
	store, h := fixture(t, "ds-basic"), newHost(t)
	old, latest := "host/alpha/2023-11-14T23:13:20Z", "host/alpha/latest"
	h.run("diff", store, old, latest).want(t, 0)
	h.run("diff", store, old, latest, "--exit-code").want(t, 1)
	h.run("diff", store, latest, latest, "--exit-code").want(t, 0)
	h.run("diff", store, old, latest, "root.pxar/usr", "--exit-code", "--stat").want(t, 0)
}

// searchLines are the lines that a command prints.
func searchLines(r result) []string { return strings.Split(strings.TrimSpace(r.stdout), "\n") }

// Where a catalog is damaged, the archive itself is searched, and finds the same.
func TestFindDoesWithoutADamagedCatalog(t *testing.T) {
	h := newHost(t)
	want := h.run("find", fixture(t, "ds-basic"), "host/alpha", "--json")
	want.want(t, 0)
	for name, how := range map[string]func(*testing.T, string){"missing": remove, "a bit flipped": flip, "halved": halve} {
		store := copyFixture(t, "ds-basic")
		for _, at := range []string{"2023-11-15T22:13:27Z", "2023-11-19T22:13:20Z"} {
			for _, digest := range digestsOf(t, filepath.Join(store, "host/alpha", at, "catalog.pcat1.didx")) {
				how(t, chunkPath(store, digest))
			}
		}
		got := h.run("find", store, "host/alpha", "--json")
		got.want(t, 0)
		if got.stdout != want.stdout {
			t.Errorf("catalogs %s: found %d lines, want %d, the same", name, len(searchLines(got)), len(searchLines(want)))
		}
	}
}

// What is damaged is named, and everything else is found, told and compared.
func TestSearchGivesTheRestOfWhatIsDamaged(t *testing.T) {
	h, store := newHost(t), copyFixture(t, "ds-basic")
	archive, group := bravo+"/root.pxar", filepath.Dir(bravo)
	find := []string{"find", store, group, "--all", "--perm", "/0"}
	before := searchLines(h.run(find...))
	chunks := digestsOf(t, filepath.Join(store, archive+".didx"))
	ends := []string{chunks[0], chunks[len(chunks)-1]} // those have what all the others hang on
	for _, digest := range chunks {
		if _, err := os.Stat(chunkPath(store, digest)); err == nil && !slices.Contains(ends, digest) {
			remove(t, chunkPath(store, digest))
		}
	}
	got := h.run(find...)
	if got.code != 5 {
		t.Errorf("find: got exit code %d, want 5", got.code)
	}
	got.says(t, archive, "could not be read")
	after, lost := searchLines(got), 0
	for _, line := range before {
		if slices.Contains(after, line) {
			continue
		}
		if lost++; !strings.HasPrefix(line, archive+"/") {
			t.Errorf("not found any more: %s", line)
		}
	}
	inside := slices.DeleteFunc(after, func(l string) bool { return !strings.HasPrefix(l, archive+"/") })
	if lost == 0 || len(inside) == 0 {
		t.Errorf("%d paths were lost and %d were found in the damaged archive, want some of both", lost, len(inside))
	}
	// The catalog still has all names; only what hard links lead to it does not know.
	names := searchLines(h.run("find", store, group, "--all"))
	for _, line := range before {
		if !slices.Contains(names, line) && !strings.HasSuffix(line, "-hard") {
			t.Errorf("not found by the catalog: %s", line)
		}
	}
}

// An archive that cannot be opened is named, and what lies beside it is compared.
func TestDiffAndHistoryOfADamagedArchive(t *testing.T) {
	h, store := newHost(t), copyFixture(t, "ds-split")
	digest := digestsOf(t, filepath.Join(store, splitSmall, "sys.mpxar.didx"))[0]
	remove(t, chunkPath(store, digest))
	newest := filepath.Dir(splitSmall) + "/latest"
	for _, args := range [][]string{
		{"diff", store, splitSmall, newest}, {"diff", store, newest, splitSmall}, {"history", store, filepath.Dir(splitSmall) + "/sys.pxar/etc"},
	} {
		got := h.run(args...)
		got.want(t, 5)
		got.says(t, digest, "sys.pxar")
	}
	if got := h.run("history", store, filepath.Dir(splitSmall)+"/sys.pxar/etc"); len(searchLines(got)) != 2 {
		t.Errorf("history printed %q, want one version that cannot be read and one that can", got.stdout)
	}
}

// Of two images, the ranges that can be read are compared.
func TestDiffOfADamagedImage(t *testing.T) {
	h, store := newHost(t), copyFixture(t, "ds-basic")
	index := vm100 + "/drive-scsi0.img.fidx"
	digest := ownDigest(t, store, index)
	remove(t, chunkPath(store, digest))
	got := h.run("diff", store, vm100, "vm/100/latest", "--json")
	if got.code != 5 {
		t.Errorf("got exit code %d, want 5: %s", got.code, got.stderr)
	}
	got.says(t, digest)
	for _, want := range []string{`"ranges":[{`, `"unread":[{`, `"path":"qemu-server.conf"`} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("got %s, want %s in it", got.stdout, want)
		}
	}
}

// A key that is missing is an error about what it would open.
func TestSearchWithoutAKey(t *testing.T) {
	h, store := newHost(t), fixture(t, "ds-crypt")
	got := h.run("find", store)
	if got.code != 6 || !strings.Contains(got.stdout, "/root.pxar  ") || !strings.Contains(got.stderr, "key") {
		t.Errorf("got exit code %d, want 6, and the archives by name: %s", got.code, got.stderr)
	}
}

// While a search goes on it is counted, and the snapshots that it reads cannot be pruned.
func TestFindIsCountedAndLocksSnapshots(t *testing.T) {
	store := copyFixture(t, "ds-nasty")
	m := newTank(t, store)
	dir := filepath.Join(store, "host/nasty/2023-11-14T22:13:30Z")
	cmd := m.host.command("find", tank, "--json")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	// Nobody reads what it prints, so that it waits.
	eventually(t, "the snapshot being locked, and the search counted", func() error {
		reads := int64(0)
		for _, o := range m.host.operations() {
			reads += o.Active.Read
		}
		free, err := flocked(dir, unix.LOCK_EX)
		if err == nil {
			free()
		}
		if reads == 0 || !errors.Is(err, unix.EWOULDBLOCK) {
			return unlike("%d reads are counted, and locking gives %v", reads, err)
		}
		return nil
	})
	m.host.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 3)
	_, err = io.Copy(io.Discard, out)
	must(t, err)
	must(t, cmd.Wait())
	free, err := flocked(dir, unix.LOCK_EX)
	must(t, err)
	free()
	m.host.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
}
