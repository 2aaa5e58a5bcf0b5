package export

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

const noon = "2023-11-14T12:00:00Z"

// view is a datastore and a right to read it.
type view struct {
	t testing.TB
	r *store.Reader
	*tree.Tree
}

// open opens a datastore, with what no other view remembers.
func open(t testing.TB, s *storetest.Store) *view {
	t.Helper()
	ref, err := store.Open(t.Context(), store.Options{Name: "tank", Path: s.Dir, Host: storetest.Host(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ref.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := ref.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Release)
	return &view{t, r, tree.New(ref)}
}

func (v *view) walk(path string) *tree.Node {
	v.t.Helper()
	n, err := v.Walk(v.t.Context(), v.r, path, false)
	if err != nil {
		v.t.Fatalf("Walk(%s): %v", path, err)
	}
	return n
}

func (v *view) file(path string) tree.File {
	v.t.Helper()
	f, err := v.walk(path).Open(v.t.Context(), v.r)
	if err != nil {
		v.t.Fatal(err)
	}
	return f
}

// inArchive makes a datastore with one archive.
func inArchive(t testing.TB, root *storetest.Node) (s *storetest.Store, path string, chunks []name.Digest) {
	t.Helper()
	s = storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	chunks = sn.Pxar("root.pxar.didx", root)
	sn.Finish()
	return s, sn.Dir + "/root.pxar", chunks
}

// random is text that does not compress.
func random(n int) string {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

func node(name string, mode uint32) *storetest.Node { return &storetest.Node{Name: name, Mode: mode} }

// everything is a tree with objects of all kinds.
func everything() *storetest.Node {
	setuid := storetest.File("setuid", random(3000)).With("user.one", "1").With("user.a=b%", "x=y\x00z")
	setuid.Mode = pxar.TypeRegular | 0o4751
	setuid.UID, setuid.GID, setuid.Sec, setuid.Nsec = 100_000, 3_000_000_000, 1_700_000_001, 123456789
	old := storetest.File("old", "before the epoch")
	old.Sec, old.Nsec = -2, 5e8
	sticky := storetest.Dir("sticky", storetest.Dir("empty"), storetest.File("ünïcode", "u"), storetest.File("latin\xe9", "l"), storetest.Link("hard2", setuid))
	sticky.Mode, sticky.Sec = pxar.TypeDir|0o1777, 1_600_000_000
	sticky.With("user.large", strings.Repeat("v", 5000))
	return storetest.Dir("", setuid, old, sticky, storetest.Link("hard1", setuid), storetest.File("none", ""), storetest.Symlink("link", "../../etc/pass\xffwd"),
		storetest.Device("disk"), node("tty", pxar.TypeCharDevice|0o620), node("pipe", pxar.TypeFIFO|0o600), node("socket", pxar.TypeSocket|0o755))
}

func TestZipOfEverything(t *testing.T) {
	s, path, _ := inArchive(t, everything())
	v := open(t, s)
	var out bytes.Buffer
	if err := Zip(t.Context(), v.r, v.walk(path), "root", &out); err != nil {
		t.Fatal(err)
	}
	got, err := unzip(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	data := random(3000)
	const epoch = "1980-01-01T00:00:00Z"
	want := map[string]string{
		"root/": "drwxr-xr-x " + epoch + " utf8 \"\"", "root/setuid": "urwxr-x--x 2023-11-14T22:13:21Z utf8 " + fmt.Sprintf("%q", data),
		"root/hard1": "urwxr-x--x 2023-11-14T22:13:21Z utf8 " + fmt.Sprintf("%q", data), "root/sticky/hard2": "urwxr-x--x 2023-11-14T22:13:21Z utf8 " + fmt.Sprintf("%q", data),
		"root/old": "-rw-r--r-- " + epoch + " utf8 \"before the epoch\"", "root/none": "-rw-r--r-- " + epoch + " utf8 \"\"",
		"root/sticky/": "dtrwxrwxrwx 2020-09-13T12:26:40Z utf8 \"\"", "root/sticky/empty/": "drwxr-xr-x " + epoch + " utf8 \"\"",
		"root/sticky/ünïcode": "-rw-r--r-- " + epoch + " utf8 \"u\"", "root/sticky/latin\xe9": "-rw-r--r-- " + epoch + " raw \"l\"",
		"root/link": "Lrwxrwxrwx " + epoch + " utf8 \"../../etc/pass\\xffwd\"",
	}
	compare(t, got, want)
}

// unzip describes the entries of a zip archive.
func unzip(text []byte) (map[string]string, error) {
	z, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		return nil, err
	}
	all := make(map[string]string)
	for _, f := range z.File {
		if _, twice := all[f.Name]; twice {
			return nil, fmt.Errorf("%q is there twice", f.Name)
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("%q: %w", f.Name, err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", f.Name, err)
		}
		names := "utf8"
		if f.NonUTF8 && strings.Contains(f.Name, "\xe9") {
			names = "raw"
		}
		all[f.Name] = fmt.Sprintf("%v %s %s %q", f.Mode(), f.Modified.UTC().Format(time.RFC3339), names, content)
	}
	return all, nil
}

func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%q: got  %.300s\nwant %.300s", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%q: %.300s, want nothing", name, got[name])
		}
	}
}

func TestTarOfEverything(t *testing.T) {
	s, path, _ := inArchive(t, everything())
	v := open(t, s)
	var out bytes.Buffer
	if err := TarZstd(t.Context(), v.r, v.walk(path), "root", &out); err != nil {
		t.Fatal(err)
	}
	got, err := untar(&out)
	if err != nil {
		t.Fatal(err)
	}
	const epoch = "1970-01-01T00:00:00Z"
	const setuid = "4751 100000:3000000000 2023-11-14T22:13:21.123456789Z 0,0"
	want := map[string]string{
		"root/": `5 755 0:0 ` + epoch + ` 0,0 "" map[] ""`, "root/setuid": `0 ` + setuid + ` "" map[a%3Db%25:x=y` + "\x00" + `z one:1] ` + fmt.Sprintf("%q", random(3000)),
		"root/sticky/hard2": `1 ` + setuid + ` "root/setuid" map[] ""`, "root/hard1": `1 ` + setuid + ` "root/setuid" map[] ""`,
		"root/old": `0 644 0:0 1969-12-31T23:59:58.5Z 0,0 "" map[] "before the epoch"`, "root/none": `0 644 0:0 ` + epoch + ` 0,0 "" map[] ""`,
		"root/sticky/":       `5 1777 0:0 2020-09-13T12:26:40Z 0,0 "" map[large:` + strings.Repeat("v", 5000) + `] ""`,
		"root/sticky/empty/": `5 755 0:0 ` + epoch + ` 0,0 "" map[] ""`, "root/sticky/ünïcode": `0 644 0:0 ` + epoch + ` 0,0 "" map[] "u"`,
		"root/sticky/latin\xe9": `0 644 0:0 ` + epoch + ` 0,0 "" map[] "l"`, "root/link": `2 777 0:0 ` + epoch + ` 0,0 "../../etc/pass\xffwd" map[] ""`,
		"root/disk": `4 600 0:0 ` + epoch + ` 8,1 "" map[] ""`, "root/tty": `3 620 0:0 ` + epoch + ` 8,1 "" map[] ""`, "root/pipe": `6 600 0:0 ` + epoch + ` 0,0 "" map[] ""`,
	}
	compare(t, got, want)
}

// untar describes the entries of a tar archive.
func untar(r io.Reader) (map[string]string, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	all := make(map[string]string)
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, z) // the frame must have an end, too
			return all, err
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(in)
		if err != nil {
			return nil, err
		}
		xattrs := make(map[string]string)
		for key, value := range h.PAXRecords {
			if name, ok := strings.CutPrefix(key, "SCHILY.xattr.user."); ok {
				xattrs[name] = value
			}
		}
		all[h.Name] = fmt.Sprintf("%c %o %d:%d %s %d,%d %q %v %q", h.Typeflag, h.Mode, h.Uid, h.Gid,
			h.ModTime.UTC().Format(time.RFC3339Nano), h.Devmajor, h.Devminor, h.Linkname, xattrs, content)
	}
}

// formats are both kinds of archives. read returns an error for what a client must not
// take for a whole one.
var formats = map[string]struct {
	write func(context.Context, store.CanRead, *tree.Node, string, io.Writer, limits) error
	read  func([]byte) (map[string]string, error)
}{
	"zip": {writeZip, unzip},
	"tar": {writeTar, func(text []byte) (map[string]string, error) {
		if len(text) == 0 {
			return nil, io.ErrUnexpectedEOF // nothing was written, so the server says what happened
		}
		return untar(bytes.NewReader(text))
	}},
}

// Whichever chunk is damaged, an archive is whole or is cut off.
func TestDamagedChunks(t *testing.T) {
	root := everything()
	root.Kids = append(root.Kids, storetest.File("large", random(8000)[3000:]))
	s, path, chunks := inArchive(t, root)
	for format, f := range formats {
		t.Run(format, func(t *testing.T) {
			var whole bytes.Buffer
			v := open(t, s)
			if err := f.write(t.Context(), v.r, v.walk(path), "root", &whole, usual); err != nil {
				t.Fatal(err)
			}
			want, err := f.read(whole.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			failed := 0
			for _, d := range chunks {
				if spoiled(t, s, d, func() error { return exportDamaged(t, s, path, f.write, f.read, want) }) != nil {
					failed++
				}
			}
			if failed < len(chunks)/2 {
				t.Errorf("%d chunks of %d were missed", failed, len(chunks))
			}
		})
	}
}

// spoiled calls fn while a chunk is damaged.
func spoiled(t *testing.T, s *storetest.Store, d name.Digest, fn func() error) error {
	t.Helper()
	file := filepath.Join(s.Dir, storetest.ChunkFile(d))
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	s.Write(storetest.ChunkFile(d), bad)
	defer s.Write(storetest.ChunkFile(d), good)
	return fn()
}

// exportDamaged writes an archive that must be as wanted or cut off.
func exportDamaged(t *testing.T, s *storetest.Store, path string, write func(context.Context, store.CanRead, *tree.Node, string, io.Writer, limits) error,
	read func([]byte) (map[string]string, error), want map[string]string,
) error {
	t.Helper()
	v := open(t, s)
	n, err := v.Walk(t.Context(), v.r, path, false)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	err = write(t.Context(), v.r, n, "root", &out, usual)
	got, readErr := read(out.Bytes())
	switch {
	case err == nil:
		if readErr != nil {
			t.Error(readErr)
		}
		compare(t, got, want)
	case !errors.Is(err, store.ErrCorrupt):
		t.Errorf("%v, want corrupt data", err)
	case readErr == nil || errors.Is(readErr, io.EOF):
		t.Errorf("%v, but %d bytes with %d entries are taken for whole", err, out.Len(), len(got))
	}
	return err
}

// A zip in the backup does not compress, so it stands in the archive as it is, and its
// end could be taken for that of the archive.
func TestEndOfAnArchiveInAnArchive(t *testing.T) {
	var inner bytes.Buffer
	z := zip.NewWriter(&inner)
	w, err := z.CreateHeader(&zip.FileHeader{Name: "inner", Method: zip.Store})
	if err == nil {
		_, err = io.WriteString(w, random(20_000))
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	bad := storetest.File("z", "")
	bad.Spoil = []byte("not an entry at all")
	s, path, _ := inArchive(t, storetest.Dir("",
		storetest.File("a.zip", inner.String()), storetest.File("b", random(6000)), storetest.File("c", random(6000)), bad))
	v := open(t, s)
	var out bytes.Buffer
	if err := Zip(t.Context(), v.r, v.walk(path), "root", &out); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%v, want corrupt data", err)
	}
	if got, err := unzip(out.Bytes()); err == nil {
		t.Errorf("%d bytes are taken for an archive of %v", out.Len(), slices.Collect(maps.Keys(got)))
	}
}

func TestHostileArchivesAreCutOff(t *testing.T) {
	bad := storetest.File("bad", "x")
	bad.Spoil = []byte("not an entry at all")
	deep := storetest.File("bottom", "x")
	for range 10 {
		deep = storetest.Dir("d", deep)
	}
	many := storetest.Dir("")
	for i := range 50 {
		many.Kids = append(many.Kids, storetest.File(fmt.Sprint("f", i), random(500)))
	}
	small := limits{depth: 9, entries: 40, links: 100}
	for what, c := range map[string]struct {
		root *storetest.Node
		want error
	}{
		"parent":        {storetest.Dir("", storetest.File("..", "x")), store.ErrCorrupt},
		"itself":        {storetest.Dir("", storetest.File(".", "x")), store.ErrCorrupt},
		"no name":       {storetest.Dir("", storetest.File("", "x")), store.ErrCorrupt},
		"slash":         {storetest.Dir("", storetest.File("../../etc/passwd", "x")), store.ErrCorrupt},
		"absolute":      {storetest.Dir("", storetest.File("/etc/passwd", "x")), store.ErrCorrupt},
		"damaged entry": {storetest.Dir("", storetest.File("a", random(5000)), bad, storetest.File("z", "x")), store.ErrCorrupt},
		"damaged below": {storetest.Dir("", storetest.Dir("sub", bad)), tree.ErrIncomplete},
		"deep":          {storetest.Dir("", deep), ErrLimit},
		"many":          {many, ErrLimit},
	} {
		for format, f := range formats {
			t.Run(what+" "+format, func(t *testing.T) {
				s, path, _ := inArchive(t, c.root)
				v := open(t, s)
				var out bytes.Buffer
				err := f.write(t.Context(), v.r, v.walk(path), "root", &out, small)
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if got, err := f.read(out.Bytes()); err == nil {
					t.Errorf("it is taken for whole: %v", got)
				}
			})
		}
	}
}

// Of archives that somebody has made up, what is not whole is cut off, within bounds.
func TestMadeUpArchivesAreCutOff(t *testing.T) {
	for _, h := range storetest.HostileArchives() {
		s := storetest.InMemory(t)
		sn := s.Snapshot("host/a", noon)
		h.Write(sn)
		sn.Finish()
		v := open(t, s)
		n, err := v.Walk(t.Context(), v.r, sn.Dir+"/root.pxar", false)
		if err != nil {
			t.Fatal(err)
		}
		whole := h.Complete && len(h.Broken) == 0 && !strings.Contains(h.What, "deep")
		for format, f := range formats {
			var out bytes.Buffer
			err := f.write(t.Context(), v.r, n, "root", &out, usual)
			if (err == nil) != whole {
				t.Errorf("%s, as %s: %v, want it whole: %v", h.What, format, err, whole)
			}
			if got, err := f.read(out.Bytes()); (err == nil) != whole {
				t.Errorf("%s, as %s: it is taken for whole: %.100v", h.What, format, got)
			}
		}
	}
}

// Of two entries with one name, one a link, no archive can have both: unpacking would
// follow the link.
func TestNamesThatAreThereTwice(t *testing.T) {
	s, path, _ := inArchive(t, storetest.Dir("", storetest.Symlink("a", "/etc"), storetest.Dir("a", storetest.File("passwd", "x"))))
	v := open(t, s)
	var out bytes.Buffer
	if err := TarZstd(t.Context(), v.r, v.walk(path), "root", &out); err != nil {
		return // nothing at all is as good
	}
	z, err := zstd.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var kinds []byte
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if err != nil {
			break
		}
		if strings.TrimSuffix(h.Name, "/") == "root/a" {
			kinds = append(kinds, h.Typeflag)
		}
	}
	if len(slices.Compact(slices.Clone(kinds))) != 1 {
		t.Errorf("objects of types %q, want one type", kinds)
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "...": true, " ": true, `a\b`: true, "\xff": true, "-rf": true,
		"": false, ".": false, "..": false, "/": false, "a/b": false, "../a": false, "a\x00b": false,
	} {
		if err := checkName(name); (err == nil) != ok || err != nil && !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%q: %v, want a name: %v", name, err, ok)
		}
	}
	s, path, _ := inArchive(t, storetest.Dir("", storetest.File("f", "x")))
	v := open(t, s)
	var out bytes.Buffer
	if err := Zip(t.Context(), v.r, v.walk(path), "../up", &out); err == nil || out.Len() > 0 {
		t.Errorf("a name of the caller's: %v, %d bytes", err, out.Len())
	}
	if err := TarZstd(t.Context(), v.r, v.walk(path+"/f"), "f", &out); !errors.Is(err, unix.ENOTDIR) || out.Len() > 0 {
		t.Errorf("a file: %v, %d bytes, want ENOTDIR", err, out.Len())
	}
}

// Snapshots and what is above them are exported as well, without the attributes that
// describe the backup.
func TestArchiveOfAGroup(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Unprotected["notes"] = "my notes"
	sn.Blob("a.conf.blob", []byte("conf"))
	sn.Fixed("disk.img.fidx", 4096, append(make([]byte, 9000), "end"...))
	sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("f", "x").With("user.pbs.comment", "kept")))
	sn.Finish()
	v := open(t, s)
	for format, f := range formats {
		var out bytes.Buffer
		if err := f.write(t.Context(), v.r, v.walk("host/alpha"), "alpha", &out, usual); err != nil {
			t.Fatal(err)
		}
		got, err := f.read(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for name, part := range map[string]string{
			"alpha/": "", "alpha/latest": noon, "alpha/" + noon + "/": "", "alpha/" + noon + "/a.conf": `"conf"`,
			"alpha/" + noon + "/disk.img": `\x00end"`, "alpha/" + noon + "/root.pxar/f": `"x"`,
		} {
			if text, ok := got[name]; !ok || !strings.Contains(text, part) {
				t.Errorf("%s: %q: %q, want %q", format, name, text, part)
			}
		}
		if format == "tar" && (strings.Contains(got["alpha/"+noon+"/"], "my notes") || !strings.Contains(got["alpha/"+noon+"/root.pxar/f"], "kept")) {
			t.Errorf("attributes of the snapshot: %s, and of the file: %s", got["alpha/"+noon+"/"], got["alpha/"+noon+"/root.pxar/f"])
		}
	}
}

func TestHardLinksBeyondTheBoundAreFiles(t *testing.T) {
	a, b := storetest.File("a", "1"), storetest.File("b", "2")
	s, path, _ := inArchive(t, storetest.Dir("", a, b, storetest.Link("a2", a), storetest.Link("b2", b), storetest.Link("a3", a)))
	v := open(t, s)
	max := usual
	max.links = linkOverhead + len("root/a")
	var out bytes.Buffer
	if err := writeTar(t.Context(), v.r, v.walk(path), "root", &out, max); err != nil {
		t.Fatal(err)
	}
	got, err := untar(&out)
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]string)
	for name, text := range got {
		kinds[strings.TrimPrefix(name, "root/")] = text[:1]
	}
	if want := map[string]string{"": "5", "a": "0", "a2": "1", "a3": "1", "b": "0", "b2": "0"}; !maps.Equal(kinds, want) {
		t.Errorf("types %v, want %v", kinds, want)
	}
}

// failing takes some bytes.
type failing struct{ left int }

var errFull = errors.New("connection is gone")

func (w *failing) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAnArchiveEndsWithItsClient(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Fixed("disk.img.fidx", 1<<16, []byte(random(600_000)))
	sn.Finish()
	v, path := open(t, s), sn.Dir
	for format, f := range formats {
		if err := f.write(t.Context(), v.r, v.walk(path), "root", &failing{100_000}, usual); !errors.Is(err, errFull) {
			t.Errorf("%s: %v, want %v", format, err, errFull)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errFull)
		var out bytes.Buffer
		if err := f.write(ctx, v.r, v.walk(path), "root", &out, usual); !errors.Is(err, errFull) || out.Len() > 0 {
			t.Errorf("%s: cancelled: %v, %d bytes", format, err, out.Len())
		}
	}
}

func TestTimesOfZip(t *testing.T) {
	for sec, want := range map[int64]string{
		-1 << 63: "1980-01-01T00:00:00Z", 0: "1980-01-01T00:00:00Z", 315532800: "1980-01-01T00:00:00Z", 315532801: "1980-01-01T00:00:01Z",
		1<<31 - 1: "2038-01-19T03:14:07Z", 1 << 31: "2038-01-19T03:14:07Z", 1<<63 - 1: "2038-01-19T03:14:07Z",
	} {
		if got := zipTime(tree.Time{Sec: sec}).Format(time.RFC3339); got != want {
			t.Errorf("%d: %s, want %s", sec, got, want)
		}
	}
}

func TestDeviceNumbers(t *testing.T) {
	for rdev, want := range map[uint32][2]int64{0: {0, 0}, 0x801: {8, 1}, 0x12345678: {0x456, 0x12378}, 0xffffffff: {0xfff, 0xfffff}} {
		if major, minor := device(rdev); major != want[0] || minor != want[1] {
			t.Errorf("%#x: %#x, %#x, want %#x", rdev, major, minor, want)
		}
	}
}

func TestCopy(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	large := random(2_500_000)
	sn.Fixed("large.img.fidx", 1<<16, []byte(large))
	sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("none", "")))
	sn.Finish()
	v, path := open(t, s), sn.Dir
	for name, want := range map[string]string{"large.img": large, "root.pxar/none": ""} {
		var out bytes.Buffer
		if err := Copy(t.Context(), v.r, v.file(path+"/"+name), &out); err != nil || out.String() != want {
			t.Errorf("%s: %d bytes, %v, want %d", name, out.Len(), err, len(want))
		}
	}
	if err := Copy(t.Context(), v.r, v.file(path+"/large.img"), &failing{10}); !errors.Is(err, errFull) {
		t.Errorf("a writer that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Copy(ctx, v.r, v.file(path+"/large.img"), io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// short is a file that says that it is longer than it is.
type short struct{ text string }

func (f short) Size() int64 { return int64(len(f.text)) + 5 }

func (f short) ReadAt(_ context.Context, _ store.CanRead, p []byte, off int64) (int, error) {
	return strings.NewReader(f.text).ReadAt(p, off)
}

func TestAFileThatIsTooShort(t *testing.T) {
	s := storetest.New(t)
	v := open(t, s)
	if err := Copy(t.Context(), v.r, short{"text"}, io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Copy: %v, want an unexpected end", err)
	}
	k := NewSeeker(t.Context(), v.r, short{"text"})
	if _, err := io.ReadAll(k); !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(k.Err(), io.ErrUnexpectedEOF) {
		t.Errorf("Seeker: %v, Err %v, want an unexpected end", err, k.Err())
	}
}

func TestSeeker(t *testing.T) {
	const text = "0123456789"
	s, path, _ := inArchive(t, storetest.Dir("", storetest.File("f", text)))
	v := open(t, s)
	k := NewSeeker(t.Context(), v.r, v.file(path+"/f"))
	for _, c := range []struct {
		off    int64
		whence int
		want   int64 // -1 for an error
		rest   string
	}{
		{0, io.SeekStart, 0, text},
		{0, io.SeekCurrent, 10, ""},
		{-3, io.SeekCurrent, 7, "789"},
		{-1, io.SeekEnd, 9, "9"},
		{5, io.SeekEnd, 15, ""},
		{-11, io.SeekEnd, -1, ""},
		{-1, io.SeekStart, -1, ""},
		{1<<63 - 1, io.SeekCurrent, -1, ""},
		{0, 3, -1, ""},
	} {
		at, err := k.Seek(c.off, c.whence)
		if c.want < 0 {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("Seek(%d, %d) = %d, %v, want ErrInvalid", c.off, c.whence, at, err)
			}
			continue
		}
		rest, readErr := io.ReadAll(k)
		if at != c.want || err != nil || string(rest) != c.rest || readErr != nil {
			t.Errorf("Seek(%d, %d) = %d, %v, then %q, %v, want %d, %q", c.off, c.whence, at, err, rest, readErr, c.want, c.rest)
		}
	}
	if k.Err() != nil {
		t.Errorf("Err: %v", k.Err())
	}
}

func TestSeekerRemembersItsFirstError(t *testing.T) {
	large := random(2000)
	s, path, chunks := inArchive(t, storetest.Dir("", storetest.File("f", large)))
	s.Remove(storetest.ChunkFile(chunks[5]))
	v := open(t, s)
	k := NewSeeker(t.Context(), v.r, v.file(path+"/f"))
	_, err := io.ReadAll(k)
	if !errors.Is(err, store.ErrCorrupt) || !errors.Is(k.Err(), store.ErrCorrupt) {
		t.Errorf("%v, Err %v, want corrupt data", err, k.Err())
	}
	if _, err := k.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if n, err := k.Read(make([]byte, 1)); n != 0 || !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("the next Read: %d, %v, want the error again", n, err)
	}
}
