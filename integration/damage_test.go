package integration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// damage is one thing that is wrong with a datastore.
type damage struct {
	name    string
	fixture string
	// file is what is damaged, below the datastore. If chunk is set, it is an
	// index, and a chunk of its own is damaged instead.
	file  string
	chunk bool
	how   func(t *testing.T, path string)
	// hits is what suffers, all archives that begin so: their reads give EIO.
	hits string
	// partly is whether some of it can still be read.
	partly bool
}

const (
	alpha  = "host/alpha/2023-11-15T22:13:27Z"
	vm100  = "vm/100/2023-11-14T22:30:00Z"
	split1 = "host/split/2023-11-14T22:30:00Z"

	// Those have chunks of 64 KiB.
	bravo      = "ns/prod/host/small-bravo/2023-11-14T22:26:17Z"
	splitSmall = "ns/nsx/host/split-small/2023-11-14T23:36:40Z"
)

// damages are some of those of TestDamageMatrix, in what a real server wrote.
var damages = []damage{
	{name: "chunk missing", fixture: "ds-basic", file: vm100 + "/drive-scsi0.img.fidx", chunk: true, how: remove, hits: vm100 + "/drive-scsi0.img"},
	{name: "chunk with a bit flipped", fixture: "ds-basic", file: bravo + "/root.pxar.didx", chunk: true, how: flip, hits: bravo + "/root.pxar", partly: true},
	{name: "dynamic index corrupt", fixture: "ds-basic", file: alpha + "/root.pxar.didx", how: flip, hits: alpha + "/root.pxar"},
	{name: "manifest truncated", fixture: "ds-basic", file: alpha + "/index.json.blob", how: halve, hits: alpha + "/"},
	{name: "blob corrupt", fixture: "ds-basic", file: vm100 + "/qemu-server.conf.blob", how: flip, hits: vm100 + "/qemu-server.conf"},
	{name: "payload half missing", fixture: "ds-split", file: split1 + "/sys.ppxar.didx", how: remove, hits: split1 + "/sys.pxar", partly: true},
}

func TestDamageStaysLocal(t *testing.T) {
	needRoot(t)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) { testDamage(t, d) })
	}
}

func testDamage(t *testing.T, d damage) {
	store := copyFixture(t, d.fixture)
	path, digest := filepath.Join(store, d.file), ""
	if d.chunk {
		digest = ownDigest(t, store, d.file)
		path = chunkPath(store, digest)
	}
	d.how(t, path)
	m := mountAt(t, store)
	hit := 0
	for _, a := range truth(t, d.fixture) {
		switch {
		case locked(a):
		case !strings.HasPrefix(a.name, d.hits):
			reportDifferences(t, a.name, compare(m.path(a.name), a))
		default:
			hit++
			for range 2 { // the second time, nothing new is logged
				d.check(t, m, a)
			}
		}
	}
	if hit == 0 {
		t.Errorf("no archive is called %s", d.hits)
	}
	if lines := m.logLines("cannot be served"); len(lines) != 1 {
		t.Errorf("got %d lines in the log, want one for one cause:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	want := []string{"cannot be served", m.name(), filepath.Dir(d.file), filepath.Base(d.file)}
	if d.chunk {
		want = append(want, digest, "at offset")
	}
	if len(m.logLines(want...)) != 1 {
		t.Errorf("got no line in the log that says all of %q", want)
	}
	if !m.process.alive() {
		t.Error("the serving process died")
	}
}

// check checks that what is damaged gives EIO, and that the rest is right.
func (d damage) check(t *testing.T, m *mount, a archive) {
	t.Helper()
	unlisted := func(string) bool { return false }
	failed := 0
	var wrong []difference
	for _, f := range compare(m.path(a.name), a) {
		switch {
		case errors.Is(f.err, unix.EIO):
			failed++
			above := unlisted
			unlisted = func(p string) bool {
				return f.path == "" || strings.HasPrefix(p, f.path+"/") || above(p)
			}
		case f.what == "missing" && unlisted(f.path):
		case !d.partly && f.path == "": // its own attributes are not known
		default:
			wrong = append(wrong, f)
		}
	}
	reportDifferences(t, a.name, wrong)
	switch {
	case failed == 0:
		t.Errorf("%s: everything can be read, want EIO", a.name)
	case d.partly && failed >= len(a.entries):
		t.Errorf("%s: nothing can be read, want EIO only where the damage is", a.name)
	case !d.partly && a.isTree() && failed != 1:
		t.Errorf("%s: got %d errors, want one from entering it", a.name, failed)
	}
}

// Of an image, all can be read but the chunk that is missing.
func TestImageAroundMissingChunk(t *testing.T) {
	const chunkSize = 4 << 20
	pristine := mountAt(t, fixture(t, "ds-basic"))
	store := copyFixture(t, "ds-basic")
	index := vm100 + "/drive-scsi0.img.fidx"
	bad := ownDigest(t, store, index)
	remove(t, chunkPath(store, bad))
	m := mountAt(t, store)
	want, err := os.ReadFile(pristine.path(vm100, "drive-scsi0.img"))
	must(t, err)
	f := openFile(t, m.path(vm100, "drive-scsi0.img"))
	failed := 0
	for i, digest := range digestsOf(t, filepath.Join(store, index)) {
		off := i * chunkSize
		got := make([]byte, min(chunkSize, len(want)-off))
		n, err := pread(int(f.Fd()), got, int64(off))
		switch {
		case digest == bad:
			failed++
			wantErrno(t, "reading the missing chunk", err, unix.EIO)
		case err != nil || n != len(got) || string(got) != string(want[off:off+n]):
			t.Errorf("chunk %d, which is not damaged: got %d bytes and %v, or other bytes", i, n, err)
		}
	}
	if failed != 1 {
		t.Errorf("got %d damaged chunks, want 1", failed)
	}
}

// A snapshot whose manifest is damaged is listed, and cannot be entered.
func TestDamagedManifestIsListed(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	flip(t, filepath.Join(store, alpha, "index.json.blob"))
	m := mountAt(t, store)
	checkFound(t, []string{m.path(alpha)})
	_, err := readNames(m.path(alpha))
	wantErrno(t, "listing the snapshot", err, unix.EIO)
	_, err = os.Lstat(m.path(alpha, "index.json"))
	wantErrno(t, "entering the snapshot", err, unix.EIO)
}

// What has no manifest is being written, or was left behind.
func TestUnfinishedSnapshotsAreNotShown(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	const newest = "vm/100/2023-11-17T05:46:40Z"
	remove(t, filepath.Join(store, newest, "index.json.blob"))
	const only = "host/void"
	remove(t, filepath.Join(store, only, "2023-11-15T15:10:00Z", "index.json.blob"))
	m := mountAt(t, store)
	for _, group := range []string{"vm/100", only} {
		for _, e := range entriesOf(t, m.path(group)) {
			if e.name == filepath.Base(newest) || group == only && e.name != "owner" {
				t.Errorf("%s: %q is listed", group, e.name)
			}
		}
	}
	for _, path := range []string{newest, newest + "/drive-scsi0.img", only + "/latest"} {
		_, err := os.Lstat(m.path(path))
		wantErrno(t, path, err, unix.ENOENT)
	}
	target, err := os.Readlink(m.path("vm/100/latest"))
	if err != nil || target != filepath.Base(vm100) {
		t.Errorf("latest: got %q and %v, want %q", target, err, filepath.Base(vm100))
	}
	if lines := m.logLines("cannot be served"); len(lines) > 0 {
		t.Errorf("logged: %q", lines)
	}
}
