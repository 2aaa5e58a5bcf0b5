package integration

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// beside is a server and a mount of the same datastore.
type beside struct {
	apiCaller
	mount *mount
}

// serveBeside serves a datastore, and mounts it with the same keys.
func serveBeside(t *testing.T, store string, keys func(h *host) []string, args ...string) beside {
	t.Helper()
	h := newHost(t)
	h.run("datastore", "add", tank, store).want(t, 0)
	var opened []string
	if keys != nil {
		opened = keys(h)
	}
	m := h.mount(store, opened...)
	return beside{h.serveTokens(append(args, opened...)...).as("read"), m}
}

// at returns the path of an operation on the datastore.
func at(operation string) string { return "admin/datastore/" + tank + "/" + operation }

// What the API says of each datastore is what its mount shows.
func TestServeShowsWhatAMountShows(t *testing.T) {
	needRoot(t)
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			b := serveBeside(t, fixture(t, name), nil, "--no-tls")
			b.t = t
			var seen []string
			b.namespace("", "", &seen)
			var listed []string
			var ns []struct{ NS string }
			b.get(at("namespace"), nil).into(&ns)
			for _, n := range ns {
				listed = append(listed, n.NS)
			}
			slices.Sort(seen)
			slices.Sort(listed)
			if !slices.Equal(listed, seen) {
				t.Errorf("namespaces: got %q, in the mount there are %q", listed, seen)
			}
		})
	}
}

// namespace compares a namespace, which is at dir of the mount, and those below it.
func (b beside) namespace(ns, dir string, seen *[]string) {
	b.t.Helper()
	*seen = append(*seen, ns)
	var groups []struct {
		Type  string `json:"backup-type"`
		ID    string `json:"backup-id"`
		Count int    `json:"backup-count"`
		Last  int64  `json:"last-backup"`
		Owner string
	}
	b.get(at("groups"), params{"ns": ns}).into(&groups)
	listed := make(map[string]bool)
	for _, g := range groups {
		group := path.Join(dir, g.Type, g.ID)
		listed[group] = true
		count, last := b.group(params{"ns": ns, "backup-type": g.Type, "backup-id": g.ID}, group)
		if g.Count != count || g.Last != last {
			b.t.Errorf("%s: got %d snapshots, the last of %d; in the mount there are %d, of %d", group, g.Count, g.Last, count, last)
		}
		owner, err := os.ReadFile(b.mount.path(group, "owner"))
		if err != nil || strings.TrimSpace(string(owner)) != g.Owner {
			b.t.Errorf("%s: got the owner %q, in the mount it is %q, %v", group, g.Owner, owner, err)
		}
	}
	for _, typ := range []string{"vm", "ct", "host"} {
		for _, e := range b.entries(path.Join(dir, typ)) {
			if group := path.Join(dir, typ, e); !listed[group] {
				b.t.Errorf("%s: in the mount, and not listed", group)
			}
		}
	}
	for _, below := range b.entries(path.Join(dir, "ns")) {
		b.namespace(path.Join(ns, below), path.Join(dir, "ns", below), seen)
	}
}

// entries lists a directory of the mount, which needs not exist.
func (b beside) entries(dir string) []string {
	b.t.Helper()
	names, err := readNames(b.mount.path(dir))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		b.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// group compares the snapshots of a group, and returns how many the mount has, and when
// the last one was made.
func (b beside) group(p params, dir string) (count int, last int64) {
	b.t.Helper()
	var snaps []struct {
		Time  int64 `json:"backup-time"`
		Size  *int64
		Files []struct{ Filename string }
	}
	b.get(at("snapshots"), p).into(&snaps)
	listed := make(map[int64]bool)
	for _, s := range snaps {
		listed[s.Time] = true
		b.files(p.and(params{"backup-time": strconv.FormatInt(s.Time, 10)}), path.Join(dir, time.Unix(s.Time, 0).UTC().Format(time.RFC3339)), len(s.Files))
		if s.Size == nil || *s.Size == 0 {
			b.t.Errorf("%s: %d: got the size %v", dir, s.Time, s.Size)
		}
	}
	for _, e := range b.entries(dir) {
		made, err := time.Parse(time.RFC3339, e)
		if err != nil { // latest, owner, notes
			continue
		}
		count++
		last = max(last, made.Unix())
		if !listed[made.Unix()] {
			b.t.Errorf("%s/%s: in the mount, and not listed", dir, e)
		}
	}
	if count != len(snaps) {
		b.t.Errorf("%s: got %d snapshots, in the mount there are %d", dir, len(snaps), count)
	}
	return count, last
}

// files compares the files of a snapshot. stored is how many there are.
func (b beside) files(p params, dir string, stored int) {
	b.t.Helper()
	var files []struct {
		Filename, Shown, Problem string
		Size                     *int64
	}
	b.get(at("files"), p).into(&files)
	if len(files) != stored {
		b.t.Errorf("%s: got %d files, and in the list of snapshots %d", dir, len(files), stored)
	}
	var shown []string
	for _, f := range files {
		if f.Shown != "" { // both halves of a split archive are shown as one
			shown = append(shown, f.Shown)
		}
		if f.Problem == "" {
			continue
		}
		if err := opens(b.mount.path(dir, f.Shown)); !errors.Is(err, unix.EACCES) {
			b.t.Errorf("%s/%s: said to have the problem %q, and the mount gives %v", dir, f.Shown, f.Problem, err)
		}
	}
	slices.Sort(shown)
	// What lies on a disk is no file that is stored.
	names := slices.DeleteFunc(b.entries(dir), func(name string) bool { return strings.HasSuffix(name, ".img.d") })
	if !slices.Equal(shown, names) {
		b.t.Errorf("%s: got %q, in the mount there are %q", dir, shown, names)
	}
}

// storedName returns the name of what is shown of an archive as it is stored.
func (b beside) storedName(p params, shown string) string {
	b.t.Helper()
	var files []struct{ Filename, Shown string }
	b.get(at("files"), p).into(&files)
	for _, f := range files {
		if f.Shown == shown {
			return f.Filename
		}
	}
	b.t.Fatalf("%v: no file is shown as %s", p, shown)
	return ""
}

// Each level of each archive is as ls shows it in the mount.
func TestServeListsWhatLsShows(t *testing.T) {
	needRoot(t)
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			b := serveBeside(t, fixture(t, name), nil, "--no-tls")
			b.t = t
			levels := 0
			for _, a := range truth(t, name) {
				if a.isTree() && !locked(a) && !strings.Contains(a.name, ".img.") {
					p := snapshotParams(t, a.snapshot())
					levels += b.level(p, filepathOf(b.storedName(p, filepath.Base(a.name))), a.name)
				}
			}
			if levels < 20 {
				t.Errorf("only %d levels were compared", levels)
			}
		})
	}
}

// level compares a directory of an archive, and those below it. It returns how many they
// are.
func (b beside) level(p params, filepath, dir string) int {
	b.t.Helper()
	var got struct {
		Data []struct {
			Filepath, Text, Type, Target, Problem string
			Leaf                                  bool
			Size, Mtime                           *int64
		}
		Incomplete string
	}
	b.get(at("catalog"), p.and(params{"filepath": filepath})).want(http.StatusOK).decode(&got)
	if got.Incomplete != "" {
		b.t.Errorf("%q: not complete: %s", dir, got.Incomplete)
	}
	var names []string
	levels := 1
	for _, e := range got.Data {
		raw, err := base64.StdEncoding.DecodeString(e.Filepath)
		must(b.t, err)
		name := path.Base(string(raw))
		names = append(names, name)
		if e.Text != name && utf8.ValidString(name) || e.Problem != "" {
			b.t.Errorf("%q: %q is called %q, with the problem %q", dir, name, e.Text, e.Problem)
		}
		full := b.mount.path(dir) + "/" + name
		var st unix.Stat_t
		if err := lstat(full, &st); err != nil {
			b.t.Errorf("%q: in the mount: %v", full, err)
			continue
		}
		letter := map[uint32]string{
			unix.S_IFREG: "f", unix.S_IFDIR: "d", unix.S_IFLNK: "l", unix.S_IFIFO: "p", unix.S_IFSOCK: "s", unix.S_IFCHR: "c", unix.S_IFBLK: "b",
		}[st.Mode&unix.S_IFMT]
		if e.Type != letter || e.Leaf != (letter != "d") || e.Mtime == nil || *e.Mtime != st.Mtim.Sec || (e.Size != nil) != (letter == "f") || e.Size != nil && *e.Size != st.Size {
			b.t.Errorf("%q: got %+v, in the mount it is %s of %d bytes from %d", full, e, letter, st.Size, st.Mtim.Sec)
		}
		if letter == "l" {
			if target, err := os.Readlink(full); err != nil || e.Target != inJSON(b.t, target) {
				b.t.Errorf("%q: got the target %q, want %q, %v", full, e.Target, target, err)
			}
		}
		if e.Type == "d" {
			levels += b.level(p, e.Filepath, dir+"/"+name)
		}
	}
	slices.Sort(names)
	if want := b.entries(dir); !slices.Equal(names, want) {
		b.t.Errorf("%q: got %d names, in the mount there are %d: %.500q, want %.500q", dir, len(names), len(want), names, want)
	}
	return levels
}

// inJSON returns what is left of a text that may be no UTF-8.
func inJSON(t *testing.T, s string) (out string) {
	t.Helper()
	text, err := json.Marshal(s)
	must(t, err)
	must(t, json.Unmarshal(text, &out))
	return out
}

// Every file of ds-basic comes as it is in the mount: those in archives, and those that
// are stored as they are.
func TestServeSendsFilesAsTheyAre(t *testing.T) {
	needRoot(t)
	b := serveBeside(t, fixture(t, "ds-basic"), nil, "--no-tls")
	sent := 0
	for _, a := range truth(t, "ds-basic") {
		p := snapshotParams(t, a.snapshot())
		if strings.Contains(a.name, ".img.") {
			continue
		}
		stored := b.storedName(p, filepath.Base(a.name))
		if !a.isTree() {
			sent++
			b.same(b.get(at("download-decoded"), p.and(params{"file-name": stored})), a.entries[0].SHA256)
			continue
		}
		for _, e := range a.entries {
			if e.Type == "file" {
				sent++
				b.same(b.get(at("pxar-file-download"), p.and(params{"filepath": filepathOf(stored, string(*e.Path))})), e.SHA256)
			}
		}
	}
	if sent < 500 {
		t.Errorf("only %d files were sent", sent)
	}
	// The manifest and an archive as a stream of bytes are stored files, too.
	p := snapshotParams(t, alpha)
	manifest, err := os.ReadFile(b.mount.path(alpha, "index.json"))
	must(t, err)
	if got := b.get(at("download-decoded"), p.and(params{"file-name": manifestName})).want(http.StatusOK); !bytes.Equal(got.body, manifest) {
		t.Errorf("the manifest: got %d bytes, in the mount there are %d", len(got.body), len(manifest))
	}
	b.get(at("download-decoded"), p.and(params{"file-name": "etc.pxar.didx"})).want(http.StatusOK)
}

// same checks a file that was sent.
func (b beside) same(a *answer, sum string) {
	b.t.Helper()
	a.want(http.StatusOK)
	if got := sha256.Sum256(a.body); hex.EncodeToString(got[:]) != sum {
		b.t.Errorf("%s: got %d bytes with the sum %x, want %s", a.what, len(a.body), got, sum)
	}
	if length := a.header.Get("Content-Length"); length != strconv.Itoa(len(a.body)) {
		b.t.Errorf("%s: the length is said to be %q, and there are %d bytes", a.what, length, len(a.body))
	}
	if !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment") || a.header.Get("Content-Type") != "application/octet-stream" {
		b.t.Errorf("%s: would be shown by a browser: %v", a.what, a.header)
	}
}

// A download can be resumed, and is not sent again if it has not changed.
func TestServeSendsRanges(t *testing.T) {
	s := servesTank(t, fixture(t, "ds-basic"))
	path := apiBase + at("download-decoded") + "?" + imageDownload(t).encode()
	whole := s.as("read").send("GET", path, "", nil).want(http.StatusOK)
	tag := whole.header.Get("ETag")
	size := len(whole.body)
	for header, want := range map[string]struct{ from, to int }{
		"bytes=0-0":                       {0, 1},
		"bytes=5000000-5000999":           {5000000, 5001000},
		"bytes=-1000":                     {size - 1000, size},
		fmt.Sprintf("bytes=%d-", size-10): {size - 10, size},
	} {
		c := s.as("read")
		c.header.Set("Range", header)
		a := c.send("GET", path, "", nil).want(http.StatusPartialContent)
		if !bytes.Equal(a.body, whole.body[want.from:want.to]) {
			t.Errorf("%s: got %d bytes, or others than those of the whole", header, len(a.body))
		}
		if got := a.header.Get("Content-Range"); got != fmt.Sprintf("bytes %d-%d/%d", want.from, want.to-1, size) {
			t.Errorf("%s: Content-Range is %q", header, got)
		}
	}
	past := s.as("read")
	past.header.Set("Range", fmt.Sprintf("bytes=%d-", size))
	past.send("GET", path, "", nil).want(http.StatusRequestedRangeNotSatisfiable)
	known := s.as("read")
	known.header.Set("If-None-Match", tag)
	if a := known.send("GET", path, "", nil).want(http.StatusNotModified); tag == "" || len(a.body) > 0 {
		t.Errorf("with the tag %s: got %d bytes", tag, len(a.body))
	}
	head := s.as("read").send("HEAD", path, "", nil)
	if head.status != http.StatusOK || len(head.body) > 0 || head.header.Get("Content-Length") != strconv.Itoa(size) {
		t.Errorf("HEAD: got %d, %v", head.status, head.header)
	}
}

// packed is an entry of an archive that was sent.
type packed struct {
	typ    string
	mode   uint32
	uid    uint32
	gid    uint32
	mtime  timestamp
	size   int64
	sum    string
	target string
}

// A directory as an archive is what the mount shows of it: names, contents, modes and
// links.
func TestServeSendsDirectoriesAsArchives(t *testing.T) {
	needRoot(t)
	all := []string{""}
	for _, c := range []struct {
		fixture, archive string
		below            []string
		keys             func(h *host) []string
	}{
		{"ds-basic", alpha + "/root.pxar", all, nil},
		{"ds-basic", "host/void/2023-11-15T15:10:00Z/empty.pxar", all, nil},
		// All but what is many or large.
		{"ds-nasty", nasty, []string{"acl", "deep", "flags", "hard", "modes", "names", "owners", "times", "types", "xattr"}, nil},
		{"ds-split", split1 + "/root.pxar", all, nil},
		{"ds-crypt", encLast + "/root.pxar", all, func(h *host) []string { return []string{"--keyfile", h.keyFile(keyNone)} }},
	} {
		t.Run(c.archive, func(t *testing.T) {
			b := serveBeside(t, fixture(t, c.fixture), c.keys, "--no-tls")
			b.t = t
			for _, below := range c.below {
				b.archives(c.archive, below)
			}
		})
	}
}

// archives compares a directory of an archive with what is sent of it.
func (b beside) archives(archive, below string) {
	b.t.Helper()
	p := snapshotParams(b.t, filepath.Dir(archive))
	p = p.and(params{"filepath": filepathOf(b.storedName(p, filepath.Base(archive)), below)})
	name := path.Base(path.Join(archive, below))
	want := walkMounted(b.t, b.mount.path(archive, below), name)

	a := b.get(at("pxar-file-download"), p.and(params{"tar": "1"})).want(http.StatusOK)
	if got := a.header.Get("Content-Disposition"); !strings.Contains(got, name+".tar.zst") {
		b.t.Errorf("tar.zst: called %q, want %s", got, name)
	}
	comparePacked(b.t, "tar.zst", unpackTar(b.t, a.body), want, func(_ string, p packed) (packed, bool) { return p, p.typ != "s" })

	a = b.get(at("pxar-file-download"), p).want(http.StatusOK)
	if got := a.header.Get("Content-Disposition"); !strings.Contains(got, name+".zip") {
		b.t.Errorf("zip: called %q, want %s", got, name)
	}
	comparePacked(b.t, "zip", unpackZip(b.t, a.body), want, func(_ string, p packed) (packed, bool) {
		p.uid, p.gid, p.mtime.nsec = 0, 0, 0
		p.mtime.sec = min(max(p.mtime.sec, time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).Unix()), 1<<31-1)
		return p, strings.Contains("dfl", p.typ)
	})
}

// comparePacked compares an archive with a tree, of which the format can carry what
// carried returns.
func comparePacked(t *testing.T, format string, got, want map[string]packed, carried func(string, packed) (packed, bool)) {
	t.Helper()
	failed := 0
	fail := func(text string, args ...any) {
		if failed++; failed <= 10 {
			t.Errorf(format+": "+text, args...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w, ok := carried(name, want[name])
		g, there := got[name]
		switch {
		case !ok && there:
			fail("%q: is there as %+v", name, g)
		case ok && !there:
			fail("%q: is missing", name)
		case ok && g != w:
			fail("%q: got %+v, want %+v", name, g, w)
		}
		delete(got, name)
	}
	for name := range got {
		fail("%q: is there, and not in the mount", name)
	}
	if len(want) == 0 {
		fail("nothing was compared")
	}
}

// walkMounted returns what is below a directory of a mount, by path as in an archive
// where the directory is called name.
func walkMounted(t *testing.T, dir, name string) map[string]packed {
	t.Helper()
	out := make(map[string]packed)
	var walk func(full, name string)
	walk = func(full, name string) {
		var st unix.Stat_t
		must(t, lstat(full, &st))
		p := packed{mode: st.Mode &^ unix.S_IFMT, uid: st.Uid, gid: st.Gid, mtime: timestamp{st.Mtim.Sec, st.Mtim.Nsec}}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			p.typ = "d"
			names, err := readNames(full)
			must(t, err)
			for _, n := range names {
				walk(full+"/"+n, name+"/"+n)
			}
		case unix.S_IFREG:
			var err error
			p.typ, p.size = "f", st.Size
			p.sum, err = digest(full)
			must(t, err)
		case unix.S_IFLNK:
			var err error
			p.typ = "l"
			p.target, err = os.Readlink(full)
			must(t, err)
		case unix.S_IFSOCK:
			p.typ = "s"
		default:
			p.typ, p.target = "n", fmt.Sprint(st.Mode&unix.S_IFMT, unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		out[name] = p
	}
	walk(dir, name)
	return out
}

func sumOf(t *testing.T, r io.Reader) (string, int64) {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, r)
	must(t, err)
	return hex.EncodeToString(h.Sum(nil)), n
}

// unpackTar reads a tar.zst. A hard link is what it leads to.
func unpackTar(t *testing.T, body []byte) map[string]packed {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(body))
	must(t, err)
	defer z.Close()
	out := make(map[string]packed)
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, z) // the sum at the end
			must(t, err)
			return out
		}
		must(t, err)
		name := strings.TrimSuffix(h.Name, "/")
		if _, twice := out[name]; twice {
			t.Errorf("tar.zst: %q is there twice", name)
		}
		p := packed{mode: uint32(h.Mode), uid: uint32(h.Uid), gid: uint32(h.Gid), mtime: timestamp{h.ModTime.Unix(), int64(h.ModTime.Nanosecond())}}
		kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}
		switch h.Typeflag {
		case tar.TypeDir:
			p.typ = "d"
		case tar.TypeReg:
			p.typ = "f"
			p.sum, p.size = sumOf(t, in)
		case tar.TypeLink:
			p = out[strings.TrimSuffix(h.Linkname, "/")]
		case tar.TypeSymlink:
			p.typ, p.target = "l", h.Linkname
		default:
			p.typ, p.target = "n", fmt.Sprint(kind[h.Typeflag], h.Devmajor, h.Devminor)
		}
		out[name] = p
	}
}

// unpackZip reads a zip.
func unpackZip(t *testing.T, body []byte) map[string]packed {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	must(t, err)
	out := make(map[string]packed)
	for _, f := range z.File {
		name := strings.TrimSuffix(f.Name, "/")
		if _, twice := out[name]; twice {
			t.Errorf("zip: %q is there twice", name)
		}
		mode := f.ExternalAttrs >> 16
		p := packed{mode: mode &^ unix.S_IFMT, mtime: timestamp{f.Modified.Unix(), 0}}
		in, err := f.Open()
		must(t, err)
		switch mode & unix.S_IFMT {
		case unix.S_IFDIR:
			p.typ = "d"
		case unix.S_IFREG:
			p.typ = "f"
			p.sum, p.size = sumOf(t, in)
		case unix.S_IFLNK:
			p.typ = "l"
			text, err := io.ReadAll(in)
			must(t, err)
			p.target = string(text)
		}
		must(t, in.Close())
		out[name] = p
	}
	return out
}

// What is encrypted is refused without its key, which the answer names, and comes whole
// with it.
func TestServeNeedsTheKeyOfWhatIsEncrypted(t *testing.T) {
	needRoot(t)
	fingerprint := fingerprintOf(t, keyNone)[:23] // as lists show it
	without := serveBeside(t, fixture(t, "ds-crypt"), nil)
	with := serveBeside(t, fixture(t, "ds-crypt"), func(h *host) []string { return []string{"--keyfile", h.keyFile(keyNone)} })
	image := filepath.Dir(encryptedImage)
	for _, c := range []struct {
		operation string
		p         params
		sum       string
	}{
		{"catalog", snapshotParams(t, encLast).and(params{"filepath": filepathOf("root.pxar.didx")}), ""},
		{"pxar-file-download", snapshotParams(t, encLast).and(params{"filepath": filepathOf("root.pxar.didx")}), ""},
		{"pxar-file-download", snapshotParams(t, encLast).and(params{"filepath": filepathOf("root.pxar.didx"), "tar": "1"}), ""},
		{"pxar-file-download", snapshotParams(t, encLast).and(params{"filepath": filepathOf("root.pxar.didx", "etc")}), ""},
		{"download-decoded", snapshotParams(t, encLast).and(params{"file-name": "secret.conf.blob"}), truthOf(t, "ds-crypt", encLast+"/secret.conf").entries[0].SHA256},
		{"download-decoded", snapshotParams(t, image).and(params{"file-name": "drive-scsi0.img.fidx"}), truthOf(t, "ds-crypt", encryptedImage).entries[0].SHA256},
	} {
		without.get(at(c.operation), c.p).refused(http.StatusForbidden, "key", fingerprint)
		a := with.get(at(c.operation), c.p).want(http.StatusOK)
		if c.sum != "" {
			with.same(a, c.sum)
		}
	}
	// It is listed all the same, with the reason.
	var files []struct{ Filename, Problem string }
	without.get(at("files"), snapshotParams(t, encLast)).into(&files)
	for _, f := range files {
		if locked := f.Filename != manifestName; strings.Contains(f.Problem, fingerprint) != locked && f.Filename != "client.log.blob" {
			t.Errorf("%s: got the problem %q, want one with the key %s", f.Filename, f.Problem, fingerprint)
		}
	}
	// Nothing that needs a key is damage.
	if s := without.host.status(); len(s.Problems) > 0 {
		t.Errorf("problems: %+v", s.Problems)
	}
}

// The status of the API is what the command prints.
func TestServeTellsWhatStatusTells(t *testing.T) {
	needRoot(t)
	b := serveBeside(t, fixture(t, "ds-basic"), nil, "--no-tls")
	held := startActor(t, "hold", b.mount.path(diskImage))
	b.get(at("groups"), nil).want(http.StatusOK)
	plain := func(text []byte) string {
		var v []map[string]any
		must(t, json.Unmarshal(text, &v))
		for _, s := range v {
			for _, h := range s["handles"].([]any) {
				h.(map[string]any)["age_s"] = nil // which goes on
			}
		}
		out, err := json.Marshal(v)
		must(t, err)
		return string(out)
	}
	eventually(t, "both telling the same", func() error { // what was just read counts for a moment
		var answer struct{ Data json.RawMessage }
		b.get("pbsfs/status", params{"store": tank}).want(http.StatusOK).decode(&answer)
		printed := b.host.run("status", tank, "--json")
		printed.want(t, 0)
		if got, want := plain(answer.Data), plain([]byte(printed.stdout)); got != want {
			return unlike("the API tells %s, and the command %s", got, want)
		}
		return nil
	})
	held.end()
}
