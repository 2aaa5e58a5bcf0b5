package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
)

func TestTypesAndGroups(t *testing.T) {
	p := newPlace(t)
	for _, dir := range []string{
		"vm/100", "vm/9", "vm/20", "vm/0100", "vm/x1", "vm/18446744073709551616", "vm/b", "host/alpha",
		"vm/bad name", "vm/.hidden", "vm/-x", "other/1", "VM/1",
	} {
		p.Mkdir(dir)
	}
	p.Write("vm/file", nil)
	p.Write("ct", nil)
	if err := os.Symlink("100", filepath.Join(p.Dir, "vm/link")); err != nil {
		t.Fatal(err)
	}
	r := p.reader()
	types, err := store.Types(t.Context(), r, name.Namespace{})
	if want := []name.Type{name.Host, name.VM}; err != nil || !slices.Equal(types, want) {
		t.Errorf("Types = %v, %v, want %v", types, err, want)
	}
	groups, err := store.Groups(t.Context(), r, name.Namespace{}, name.VM)
	got := texts(groups, name.Group.ID)
	want := []string{"9", "20", "0100", "100", "18446744073709551616", "b", "x1"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Groups = %v, %v, want %v", got, err, want)
	}
	if _, err := store.Groups(t.Context(), r, name.Namespace{}, name.CT); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("groups in a file: %v, want ErrNotExist", err)
	}
}

func TestNamespaces(t *testing.T) {
	p := newPlace(t)
	deep := "ns/1/ns/2/ns/3/ns/4/ns/5/ns/6/ns/7"
	p.Mkdir(deep + "/ns/8/host/x")
	p.Mkdir(deep + "/host/x")
	for _, dir := range []string{"ns/b", "ns/a", "ns/bad name", "ns/.x"} {
		p.Mkdir(dir)
	}
	p.Write("ns/file", nil)
	r := p.reader()
	list := func(path string) []string {
		t.Helper()
		ns, err := name.ParseNamespace(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := store.Namespaces(t.Context(), r, ns)
		if err != nil {
			t.Errorf("Namespaces(%s): %v", path, err)
		}
		return texts(got, name.Namespace.String)
	}
	for path, want := range map[string][]string{
		"": {"1", "a", "b"}, "a": nil, "1/2/3/4/5/6": {"1/2/3/4/5/6/7"},
		"1/2/3/4/5/6/7": nil, // an eighth level is no namespace
	} {
		if got := list(path); !slices.Equal(got, want) {
			t.Errorf("Namespaces(%q) = %v, want %v", path, got, want)
		}
	}
	seven, err := name.ParseNamespace("1/2/3/4/5/6/7")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := store.Groups(t.Context(), r, seven, name.Host)
	if err != nil || len(groups) != 1 {
		t.Errorf("groups in the deepest namespace: %v, %v, want one", groups, err)
	}
}

func TestSnapshotsAreTheFinishedOnes(t *testing.T) {
	p := newPlace(t)
	g := p.group(alpha)
	for _, at := range []string{evening, morning, noon} {
		p.Snapshot(alpha, at).Finish()
	}
	p.Snapshot(alpha, "2023-11-15T00:00:00Z") // has no manifest: not finished
	p.Mkdir(alpha + "/2023-11-16T00:00:00Z/index.json.blob")
	for _, bad := range []string{"2023-11-14", "2023-11-14T08:00:00", "2023-11-14T08:00:00+00:00", "2023-13-14T08:00:00Z", "latest"} {
		p.Write(alpha+"/"+bad+"/index.json.blob", nil)
	}
	p.Write(alpha+"/2023-11-17T00:00:00Z", nil) // a file
	if err := os.Symlink(noon, filepath.Join(p.Dir, alpha, "2023-11-18T00:00:00Z")); err != nil {
		t.Fatal(err)
	}
	p.Mkdir(alpha + "/2023-11-19T00:00:00Z")
	if err := os.Symlink("../"+noon+"/index.json.blob", filepath.Join(p.Dir, alpha, "2023-11-19T00:00:00Z/index.json.blob")); err != nil {
		t.Fatal(err)
	}
	r := p.reader()
	at := func(s name.Snapshot) string { return s.Time().String() }
	got, err := store.Snapshots(t.Context(), r, g)
	if want := []string{morning, noon, evening}; err != nil || !slices.Equal(texts(got, at), want) {
		t.Errorf("Snapshots = %v, %v, want %v", texts(got, at), err, want)
	}
	newest, ok, err := store.Latest(t.Context(), r, g)
	if err != nil || !ok || at(newest) != evening {
		t.Errorf("Latest = %s, %v, %v, want %s", at(newest), ok, err, evening)
	}
	for _, s := range []string{"2023-11-15T00:00:00Z", "2023-11-16T00:00:00Z", "2023-11-17T00:00:00Z", "2023-11-18T00:00:00Z", "2023-11-19T00:00:00Z"} {
		if _, err := store.LoadSnapshot(t.Context(), r, p.snapshotName(alpha+"/"+s)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("LoadSnapshot(%s): %v, want ErrNotExist", s, err)
		}
	}
	// A snapshot appears in the moment it is finished, and goes as it came.
	p.Snapshot(alpha, "2023-11-15T00:00:00Z").Finish()
	if newest, _, _ = store.Latest(t.Context(), r, g); at(newest) != "2023-11-15T00:00:00Z" {
		t.Errorf("Latest = %s after a snapshot was finished", at(newest))
	}
	p.Remove(alpha + "/2023-11-15T00:00:00Z")
	if newest, _, _ = store.Latest(t.Context(), r, g); at(newest) != evening {
		t.Errorf("Latest = %s after a snapshot was removed", at(newest))
	}
}

func TestGroupWithoutSnapshots(t *testing.T) {
	p := newPlace(t)
	p.Mkdir("host/empty")
	r := p.reader()
	if got, err := store.Snapshots(t.Context(), r, p.group("host/empty")); len(got) != 0 || err != nil {
		t.Errorf("Snapshots = %v, %v", got, err)
	}
	if s, ok, err := store.Latest(t.Context(), r, p.group("host/empty")); ok || err != nil {
		t.Errorf("Latest = %v, %v, %v", s, ok, err)
	}
	if _, err := store.Snapshots(t.Context(), r, p.group("host/none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Snapshots of a group that is not there: %v", err)
	}
}

func TestGroupFiles(t *testing.T) {
	p := newPlace(t)
	g := p.group(alpha)
	p.Write(alpha+"/owner", []byte("root@pam\n"))
	p.Write(alpha+"/notes", []byte("line 1\nline 2"))
	r := p.reader()
	files, err := store.GroupFiles(t.Context(), r, g)
	if want := []store.GroupFile{store.Notes, store.Owner}; err != nil || !slices.Equal(files, want) {
		t.Errorf("GroupFiles = %v, %v, want %v", files, err, want)
	}
	for f, want := range map[store.GroupFile]string{store.Owner: "root@pam\n", store.Notes: "line 1\nline 2"} {
		text, attr, err := store.ReadGroupFile(t.Context(), r, g, f)
		if err != nil || string(text) != want || attr.Size != int64(len(want)) || attr.Mtime.IsZero() {
			t.Errorf("ReadGroupFile(%s) = %q, %+v, %v, want %q", f, text, attr, err, want)
		}
	}
	p.Write(alpha+"/notes", []byte("new"))
	if text, _, _ := store.ReadGroupFile(t.Context(), r, g, store.Notes); string(text) != "new" {
		t.Errorf("notes are %q after they were changed", text)
	}
	p.Remove(alpha + "/owner")
	if err := os.Symlink("/etc/hostname", filepath.Join(p.Dir, alpha, "owner")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []store.GroupFile{store.Owner, "../beta/owner", "x"} {
		if text, _, err := store.ReadGroupFile(t.Context(), r, g, f); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadGroupFile(%s) = %q, %v, want ErrNotExist", f, text, err)
		}
	}
	p.Write(alpha+"/notes", make([]byte, 1<<20+1))
	if _, _, err := store.ReadGroupFile(t.Context(), r, g, store.Notes); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("notes of more than 1 MiB: %v, want corrupt data", err)
	}
}

func TestListingHonoursItsContext(t *testing.T) {
	p := newPlace(t)
	p.Snapshot(alpha, noon).Finish()
	r := p.reader()
	why := errors.New("nobody waits")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, typesErr := store.Types(ctx, r, name.Namespace{})
	_, statErr := store.Stat(ctx, r, "host")
	_, loadErr := store.LoadSnapshot(ctx, r, p.snapshotName(alpha+"/"+noon))
	_, _, fileErr := store.ReadGroupFile(ctx, r, p.group(alpha), store.Owner)
	for what, err := range map[string]error{"Types": typesErr, "Stat": statErr, "LoadSnapshot": loadErr, "ReadGroupFile": fileErr} {
		if !errors.Is(err, why) {
			t.Errorf("%s: %v, want %v", what, err, why)
		}
	}
}

// A datastore whose directory is taken away under a reader is gone, which is
// neither damage nor an empty listing.
func TestDatastoreTakenAway(t *testing.T) {
	p := newPlace(t)
	p.Snapshot(alpha, noon).Finish()
	r := p.reader()
	if err := os.Rename(filepath.Join(p.Dir, ".chunks"), filepath.Join(p.Dir, "gone")); err != nil {
		t.Fatal(err)
	}
	p.Remove("host")
	_, typesErr := store.Groups(t.Context(), r, name.Namespace{}, name.Host)
	_, statErr := store.Stat(t.Context(), r, "host")
	_, loadErr := store.LoadSnapshot(t.Context(), r, p.snapshotName(alpha+"/"+noon))
	for what, err := range map[string]error{"Groups": typesErr, "Stat": statErr, "LoadSnapshot": loadErr} {
		if !errors.Is(err, store.ErrGone) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want ErrGone", what, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	p := newPlace(t)
	empty := t.TempDir()
	file := filepath.Join(empty, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		empty: store.ErrNotDatastore, filepath.Join(empty, "none"): store.ErrGone, file: store.ErrGone,
	} {
		ref, err := store.Open(t.Context(), store.Options{Name: "x", Path: path, Host: p.host})
		if !errors.Is(err, want) {
			t.Errorf("Open(%s) = %v, want %v", path, err, want)
		}
		if err == nil {
			_ = ref.Close()
		}
	}
}

// The local cache of an S3 datastore looks like a datastore, but most of its
// chunks are empty files.
func TestS3CacheIsRecognised(t *testing.T) {
	for what, c := range map[string]struct {
		make func(p *place)
		s3   bool
	}{
		"no chunks":          {func(*place) {}, false},
		"whole chunks":       {func(p *place) { p.Chunk([]byte("a"), nil); p.Chunk([]byte("b"), nil) }, false},
		"one of three empty": {func(p *place) { emptyChunks(p, 3, 1) }, false},
		"two of three empty": {func(p *place) { emptyChunks(p, 3, 2) }, true},
		"marker of the garbage collection": {func(p *place) {
			d := p.Chunk([]byte("a"), nil)
			p.Write(".chunks/"+d.Prefix()+"/"+d.String()+".using", nil)
		}, true},
		"other files that are empty": {func(p *place) { p.Write(".chunks/abcd/x", nil); p.Write(".chunks/zz/y", nil) }, false},
	} {
		p := newPlace(t)
		c.make(p)
		for _, cachedOnly := range []bool{false, true} {
			ref, err := store.Open(t.Context(), store.Options{Name: testName, Path: p.Dir, Host: p.host, CachedOnly: cachedOnly})
			if got := errors.Is(err, store.ErrS3Cache); got != (c.s3 && !cachedOnly) || err != nil && !got {
				t.Errorf("%s, cached only %v: %v, want S3: %v", what, cachedOnly, err, c.s3 && !cachedOnly)
			}
			if err == nil {
				if err := ref.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func emptyChunks(p *place, all, empty int) {
	for i := range all {
		d := p.Chunk([]byte(strings.Repeat("x", i+1)), nil)
		if i < empty {
			p.Write(".chunks/"+d.Prefix()+"/"+d.String(), nil)
		}
	}
}

func TestStatfs(t *testing.T) {
	p := newPlace(t)
	r := p.reader()
	st, err := store.Statfs(r)
	if err != nil || st.Blocks == 0 || st.Bsize == 0 {
		t.Errorf("Statfs = %+v, %v", st, err)
	}
}

func TestStat(t *testing.T) {
	p := newPlace(t)
	p.Mkdir("host/alpha")
	p.Write("host/file", nil)
	r := p.reader()
	if attr, err := store.Stat(t.Context(), r, "host/alpha"); err != nil || attr.Mtime.IsZero() {
		t.Errorf("Stat = %+v, %v", attr, err)
	}
	for _, dir := range []string{"host/file", "host/none", "host/file/x", ".."} {
		if attr, err := store.Stat(t.Context(), r, dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat(%s) = %+v, %v, want ErrNotExist", dir, attr, err)
		}
	}
	if base := p.ref.Base(); base.Mtime.IsZero() || int(base.UID) != os.Geteuid() {
		t.Errorf("Base = %+v, want that of a directory of ours", base)
	}
}
