package tree_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// view is a datastore and a right to read it.
type view struct {
	*storetest.Store
	t testing.TB
	r *store.Reader
	*tree.Tree
}

// open opens a datastore that was made, with what no other view remembers.
func open(t testing.TB, s *storetest.Store, ring ...*storetest.Key) *view {
	t.Helper()
	opts := store.Options{Name: "tank", Path: s.Dir, Host: storetest.Host(t, "")}
	for _, k := range ring {
		opts.Keys = append(opts.Keys, k.Key)
	}
	return openWith(t, s, opts)
}

func openWith(t testing.TB, s *storetest.Store, opts store.Options) *view {
	t.Helper()
	ref, err := store.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ref.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	r, err := ref.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Release)
	return &view{s, t, r, tree.New(ref)}
}

func (v *view) walk(path string) *tree.Node {
	v.t.Helper()
	n, err := v.Walk(v.t.Context(), v.r, path, false)
	if err != nil {
		v.t.Fatalf("Walk(%s): %v", path, err)
	}
	return n
}

// list returns the names in a directory, and the first thing that is wrong
// with the listing.
func (v *view) list(path string) (names []string, damage error) {
	v.t.Helper()
	n := v.walk(path)
	l, err := n.List(v.t.Context(), v.r)
	if err != nil {
		return nil, err
	}
	damage = l.Err()
	for i := range l.Len() {
		e, err := l.At(v.t.Context(), v.r, i)
		if err != nil {
			v.t.Fatalf("%s: entry %d: %v", path, i, err)
		}
		if e.Err != nil {
			damage = e.Err
		}
		if e.Name == "" {
			continue
		}
		names = append(names, e.Name)
		if e.Err != nil {
			continue
		}
		// What is listed can be looked up, and is the same thing.
		child, err := n.Lookup(v.t.Context(), v.r, e.Name)
		if err != nil || child.ID() != e.ID || child.Type() != e.Type {
			v.t.Errorf("%s/%s: listed as %x, %o, looked up: %v", path, e.Name, e.ID, e.Type, err)
		}
	}
	slices.Sort(names)
	return names, damage
}

func (v *view) read(path string) string {
	v.t.Helper()
	n := v.walk(path)
	f, err := n.Open(v.t.Context(), v.r)
	if err != nil {
		v.t.Fatalf("Open(%s): %v", path, err)
	}
	if f.Size() != n.Attr().Size {
		v.t.Errorf("%s: open it has %d bytes, its node says %d", path, f.Size(), n.Attr().Size)
	}
	text, err := io.ReadAll(io.NewSectionReader(readerAt{v, f}, 0, f.Size()))
	if err != nil {
		v.t.Fatalf("reading %s: %v", path, err)
	}
	return string(text)
}

type readerAt struct {
	v *view
	f tree.File
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	return r.f.ReadAt(r.v.t.Context(), r.v.r, p, off)
}

const (
	noon    = "2023-11-14T12:00:00Z"
	evening = "2023-11-14T20:00:00Z"
)

func TestUpperLevels(t *testing.T) {
	s := storetest.New(t)
	s.Snapshot("host/alpha", noon).Finish()
	s.Snapshot("host/alpha", evening).Finish()
	s.Snapshot("host/alpha", "2023-11-15T00:00:00Z") // not finished
	s.Write("host/alpha/owner", []byte("root@pam\n"))
	s.Write("host/alpha/notes", []byte("text"))
	s.Mkdir("vm/100")
	s.Snapshot("ns/prod/ns/db/ct/101", noon).Finish()
	s.Mkdir("lost+found")
	v := open(t, s)
	for path, want := range map[string][]string{
		"": {"host", "ns", "vm"}, "host": {"alpha"}, "host/alpha": {noon, evening, "latest", "notes", "owner"},
		"vm/100": nil, "ns": {"prod"}, "ns/prod": {"ns"}, "ns/prod/ns/db": {"ct"},
		"ns/prod/ns/db/ct/101/latest/": {"index.json"},
	} {
		if got, err := v.list(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("list(%q) = %v, %v, want %v", path, got, err, want)
		}
	}
	for path, want := range map[string]string{"host/alpha/owner": "root@pam\n", "host/alpha/notes": "text"} {
		if got := v.read(path); got != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{
		"lost+found", ".chunks", "vm/latest", "vm/100/latest", "vm/100/owner", "host/beta", "host/alpha/2023-11-15T00:00:00Z",
		"host/alpha/2023-11-14", "ns/none", "ns/a b", "ns/prod/none",
	} {
		if n, err := v.Walk(t.Context(), v.r, path, false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Walk(%s) = %v, %v, want ErrNotExist", path, n, err)
		}
	}
	if n := v.walk("host/alpha/latest"); n.Target() != evening || n.Attr().Size != int64(len(evening)) {
		t.Errorf("latest leads to %q with size %d, want %s", n.Target(), n.Attr().Size, evening)
	}
	snap := v.walk("host/alpha/" + noon)
	if got := snap.Attr().Mtime.Sec; got != 1699963200 {
		t.Errorf("snapshot has mtime %d, want its backup time", got)
	}
	for _, path := range []string{"", "host", "host/alpha", "ns", "ns/prod"} {
		if n := v.walk(path); n.Counted() || n.Frozen() || n.Attr().Nlink != 1 || !n.IsDir() {
			t.Errorf("%q: counted %v, frozen %v, links %d", path, n.Counted(), n.Frozen(), n.Attr().Nlink)
		}
	}
	if !snap.Counted() || snap.Frozen() {
		t.Errorf("snapshot: counted %v, frozen %v, want counted and not frozen", snap.Counted(), snap.Frozen())
	}
}

func TestNamesInASnapshot(t *testing.T) {
	archive := storetest.Dir("", storetest.File("f", "x"))
	for what, c := range map[string]struct {
		make func(sn *storetest.Snapshot)
		want []string
	}{
		"plain": {func(sn *storetest.Snapshot) {
			sn.Pxar("root.pxar.didx", archive)
			sn.Fixed("drive-scsi0.img.fidx", 4096, []byte("x"))
			sn.Blob("qemu-server.conf.blob", []byte("x"))
			sn.Dynamic("catalog.pcat1.didx", []byte("x"))
			sn.Log("log")
		}, []string{"catalog.pcat1", "client.log", "drive-scsi0.img", "drive-scsi0.img.d", "index.json", "qemu-server.conf", "root.pxar"}},
		"a split pair is one archive": {func(sn *storetest.Snapshot) { sn.Split("root", archive) }, []string{"index.json", "root.pxar"}},
		"a payload half alone": {func(sn *storetest.Snapshot) {
			sn.Split("root", archive)
			sn.Lines = sn.Lines[1:]
		}, []string{"index.json", "root.ppxar"}},
		"unified and split": {func(sn *storetest.Snapshot) {
			sn.Pxar("root.pxar.didx", archive)
			sn.Split("root", archive)
		}, []string{"index.json", "root.mpxar.didx", "root.pxar.didx"}},
		"one stem in three formats": {func(sn *storetest.Snapshot) {
			sn.Blob("a.blob", []byte("x"))
			sn.Dynamic("a.didx", []byte("x"))
			sn.Fixed("a.fidx", 4096, []byte("x"))
		}, []string{"a.blob", "a.didx", "a.fidx", "index.json"}},
		"names of the manifest and the log": {func(sn *storetest.Snapshot) {
			sn.Dynamic("index.json.didx", []byte("x"))
			sn.Dynamic("client.log.didx", []byte("x"))
			sn.Log("log")
		}, []string{"client.log", "client.log.didx", "index.json", "index.json.didx"}},
		"a stored name that is another's shown one": {func(sn *storetest.Snapshot) {
			sn.Blob("a.blob", []byte("1"))
			sn.Dynamic("a.didx", []byte("2"))
			sn.Blob("a.didx.blob", []byte("3"))
		}, []string{"a.blob", "a.didx", "a.didx.blob", "index.json"}},
	} {
		s := storetest.New(t)
		sn := s.Snapshot("host/alpha", noon)
		c.make(sn)
		sn.Finish()
		v := open(t, s)
		if got, err := v.list("host/alpha/" + noon); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", what, got, err, c.want)
		}
	}
}

func TestContentOfASnapshot(t *testing.T) {
	image := append(bytes.Repeat([]byte("x"), 4096), make([]byte, 8192)...)
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Unprotected["notes"] = "my notes"
	sn.Unprotected["verify_state"] = map[string]string{"state": "ok", "upid": "x"}
	sn.Blob("a.conf.blob", []byte("conf"))
	sn.Fixed("disk.img.fidx", 4096, image)
	sn.Split("root", storetest.Dir("", storetest.File("file", "content")))
	sn.Log("the log")
	s.Write(sn.Dir+"/.protected", nil)
	sn.Finish()
	v := open(t, s)
	for path, want := range map[string]string{
		"a.conf": "conf", "disk.img": string(image), "client.log": "the log", "root.pxar/file": "content",
	} {
		if got := v.read(sn.Dir + "/" + path); got != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
	if got := v.read(sn.Dir + "/index.json"); !strings.Contains(got, `"backup-id":"alpha"`) {
		t.Errorf("index.json = %s", got)
	}
	for path, want := range map[string]bool{"a.conf": false, "index.json": false, "client.log": false, "disk.img": true, "root.pxar": true, "root.pxar/file": true} {
		if got := v.walk(sn.Dir + "/" + path).Frozen(); got != want {
			t.Errorf("%s is frozen: %v, want %v", path, got, want)
		}
	}
	if got := v.walk(sn.Dir + "/disk.img").Attr(); got.Size != int64(len(image)) || got.Blocks != 8 {
		t.Errorf("image: size %d, %d blocks, want %d and 8: the rest are holes", got.Size, got.Blocks, len(image))
	}
	want := map[string]string{"comment": "my notes", "encrypted": "no", "protected": "yes", "signature": "unsigned", "verify-state": "ok"}
	all, complete := v.walk(sn.Dir).Xattrs()
	for _, a := range all {
		key, _ := strings.CutPrefix(a.Name, "user.pbs.")
		if want[key] != string(a.Value) {
			t.Errorf("%s = %q, want %q", a.Name, a.Value, want[key])
		}
		delete(want, key)
	}
	if len(want) != 0 || !complete {
		t.Errorf("attributes %v are missing, complete %v", want, complete)
	}
}

func TestIDs(t *testing.T) {
	build := func(text string) *storetest.Store {
		s := storetest.New(t)
		sn := s.Snapshot("host/alpha", noon)
		f := storetest.File("f", "same")
		sub := storetest.Dir("sub", f, storetest.File("g", "same"))
		sn.Pxar("root.pxar.didx", storetest.Dir("", sub, storetest.Link("hard", f), storetest.File("z", text)))
		sn.Pxar("copy.pxar.didx", storetest.Dir("", storetest.Dir("sub", storetest.File("f", "same"))))
		sn.Fixed("disk.img.fidx", 4096, []byte(text))
		sn.Finish()
		return s
	}
	one := build("one")
	a, b, other := open(t, one), open(t, one), open(t, build("two"))
	snap := "host/alpha/" + noon
	seen := make(map[tree.ID]string)
	for path, differs := range map[string]bool{ // from the other datastore, whose content differs in part
		"": false, "host": false, "host/alpha": false, "host/alpha/latest": false, snap: false, snap + "/index.json": false,
		snap + "/disk.img": true, snap + "/root.pxar": true, snap + "/root.pxar/sub": true, snap + "/root.pxar/sub/f": true,
		snap + "/root.pxar/sub/g": true, snap + "/root.pxar/z": true,
		snap + "/copy.pxar": false, snap + "/copy.pxar/sub": false, snap + "/copy.pxar/sub/f": false,
	} {
		id := a.walk(path).ID()
		if id != b.walk(path).ID() {
			t.Errorf("%s has another ID when it is opened again", path)
		}
		if was, ok := seen[id]; ok {
			t.Errorf("%s has the ID of %s", path, was)
		}
		seen[id] = path
		if got := id != other.walk(path).ID(); got != differs {
			t.Errorf("%s: in the other datastore the ID differs: %v, want %v", path, got, differs)
		}
	}
	file, hard := a.walk(snap+"/root.pxar/sub/f"), a.walk(snap+"/root.pxar/hard")
	if file.ID() != hard.ID() || file.Attr().Nlink != 2 || hard.Attr().Nlink != 2 {
		t.Errorf("hard link has ID %x and %d links, its file %x and %d", hard.ID(), hard.Attr().Nlink, file.ID(), file.Attr().Nlink)
	}
}

func TestWalk(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Pxar("root.pxar.didx", storetest.Dir("",
		storetest.Dir("sub", storetest.File("file", "content"), storetest.Symlink("up", "..")),
		storetest.Symlink("rel", "sub/file"), storetest.Symlink("dir", "sub/"), storetest.Symlink("chain", "dir"),
		storetest.Symlink("abs", "/etc/passwd"), storetest.Symlink("loop", "loop"), storetest.Symlink("a", "b"), storetest.Symlink("b", "a"),
		storetest.Symlink("out", "../../../../../../../host/alpha"), storetest.Symlink("dangling", "none"), storetest.Symlink("self", "."),
	))
	sn.Finish()
	v := open(t, s)
	root := "host/alpha/latest/root.pxar/"
	file := v.walk(root + "sub/file").ID()
	for path, want := range map[string]tree.ID{
		"": v.Root().ID(), "/": v.Root().ID(), "..": v.Root().ID(), "/../..": v.Root().ID(), "host/..": v.Root().ID(),
		"/" + root + "sub//./file": file, root + "sub/../sub/file": file, root + "dir/../rel": v.walk(root + "rel").ID(), root + "dir/file": file,
		root + "chain/file": file, root + "sub/up/sub/file": file, root + "self/self/dir/file": file,
		root + "out/latest/root.pxar/dir/file": file,
		"host/alpha/latest/../latest/":         v.walk("host/alpha/" + noon).ID(),
	} {
		if got := v.walk(path).ID(); got != want {
			t.Errorf("Walk(%s) leads elsewhere", path)
		}
	}
	if n := v.walk(root + "rel"); n.Type() != unix.S_IFLNK || n.Target() != "sub/file" {
		t.Errorf("Walk(rel) has type %o, want the link itself", n.Type())
	}
	for path, want := range map[string]error{
		root + "abs/": fs.ErrNotExist, root + "abs/x": fs.ErrNotExist, root + "none": fs.ErrNotExist, root + "dangling/": fs.ErrNotExist,
		root + "loop/": unix.ELOOP, root + "a/x": unix.ELOOP, root + "sub/file/x": unix.ENOTDIR, root + "rel/x": unix.ENOTDIR,
	} {
		if n, err := v.Walk(t.Context(), v.r, path, false); !errors.Is(err, want) {
			t.Errorf("Walk(%s) = %v, %v, want %v", path, n, err, want)
		}
	}
}

func TestWithoutTheKey(t *testing.T) {
	key := storetest.NewKey(t, 1)
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Key = key
	sn.Blob("a.conf.blob", []byte("secret"))
	sn.Fixed("disk.img.fidx", 4096, make([]byte, 5000))
	sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("file", "secret")))
	sn.Log("secret")
	sn.Key = nil
	sn.Blob("rsa-encrypted.key.blob", []byte("for everybody"))
	sn.Key = key
	sn.Finish()
	v := open(t, s)
	if got, err := v.list(sn.Dir); err != nil || len(got) != 7 {
		t.Errorf("list = %v, %v, want all six, and a directory for the disk", got, err)
	}
	for name, mode := range map[string]uint32{
		"a.conf": unix.S_IFREG | 0o440, "disk.img": unix.S_IFREG | 0o440, "client.log": unix.S_IFREG | 0o440, "root.pxar": unix.S_IFDIR | 0o500,
	} {
		n := v.walk(sn.Dir + "/" + name)
		if n.Attr().Mode != mode || !errors.Is(n.Broken(), store.ErrKeyNeeded) || n.Frozen() {
			t.Errorf("%s: mode %o, %v, frozen %v, want mode %o and ErrKeyNeeded", name, n.Attr().Mode, n.Broken(), n.Frozen(), mode)
		}
		_, openErr := n.Open(t.Context(), v.r)
		if n.IsDir() {
			_, openErr = n.List(t.Context(), v.r)
			_, err := n.Lookup(t.Context(), v.r, "file")
			openErr = errors.Join(openErr, err)
		}
		if !errors.Is(openErr, store.ErrKeyNeeded) {
			t.Errorf("%s: opening: %v, want ErrKeyNeeded", name, openErr)
		}
	}
	if size := v.walk(sn.Dir + "/disk.img").Attr().Size; size != 5000 {
		t.Errorf("image has size %d, want 5000", size)
	}
	if got := v.read(sn.Dir + "/rsa-encrypted.key"); got != "for everybody" {
		t.Errorf("rsa-encrypted.key = %q", got)
	}
	w := open(t, s, key)
	if got := w.read(sn.Dir + "/root.pxar/file"); got != "secret" {
		t.Errorf("with the key: %q", got)
	}
	attrs, _ := w.walk(sn.Dir).Xattrs()
	got := make(map[string]string)
	for _, a := range attrs {
		got[a.Name] = string(a.Value)
	}
	if fp, err := keys.ParseFingerprint(got["user.pbs.fingerprint"]); got["user.pbs.encrypted"] != "yes" || err != nil || fp != key.Fingerprint() {
		t.Errorf("attributes %v, want encrypted with %s", got, key.Fingerprint())
	}
}

func TestDamage(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Blob("a.conf.blob", []byte("conf"))
	chunks := sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("f", strings.Repeat("x", 1000))))
	sn.Dynamic("nopxar.pxar.didx", []byte("this is no archive"))
	sn.Fixed("disk.img.fidx", 4096, make([]byte, 5000))
	sn.Finish()
	bad := s.Snapshot("host/bad", noon)
	bad.Finish()
	s.Write(bad.Dir+"/index.json.blob", []byte("no manifest"))
	list := s.Snapshot("host/list", noon)
	list.Blob("good.conf.blob", []byte("x"))
	list.Blob("bad.conf.blob", []byte("x"))
	list.Lines[1].Csum = "no sum"
	list.Finish()
	s.Remove(sn.Dir + "/a.conf.blob")
	s.Remove(sn.Dir + "/disk.img.fidx")
	s.Remove(storetest.ChunkFile(chunks[len(chunks)-1]))
	v := open(t, s)
	for path, mode := range map[string]uint32{
		sn.Dir + "/a.conf": unix.S_IFREG | 0o440, sn.Dir + "/disk.img": unix.S_IFREG | 0o440,
		sn.Dir + "/root.pxar": unix.S_IFDIR | 0o500, sn.Dir + "/nopxar.pxar": unix.S_IFDIR | 0o500, bad.Dir: unix.S_IFDIR | 0o555,
	} {
		n := v.walk(path)
		if n.Attr().Mode != mode || !errors.Is(n.Broken(), store.ErrCorrupt) || errors.Is(n.Broken(), fs.ErrNotExist) {
			t.Errorf("%s: mode %o, %v, want %o and corrupt data", path, n.Attr().Mode, n.Broken(), mode)
		}
	}
	// What cannot be used in a manifest keeps the listing from being complete,
	// and the rest in it.
	if got, err := v.list(list.Dir); !errors.Is(err, store.ErrCorrupt) || !slices.Equal(got, []string{"good.conf", "index.json"}) {
		t.Errorf("list = %v, %v, want the good ones and an error", got, err)
	}
}

// One damaged entry in a directory of an archive: the others are listed, its
// name too, and the listing is not complete.
func TestDamagedEntryInAnArchive(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	spoiled := storetest.File("spoiled", "")
	spoiled.Spoil = bytes.Repeat([]byte("?"), 80)
	sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("a", "1"), spoiled, storetest.File("z", "2")))
	sn.Finish()
	v := open(t, s)
	got, err := v.list(sn.Dir + "/root.pxar")
	if !errors.Is(err, store.ErrCorrupt) || !slices.Equal(got, []string{"a", "spoiled", "z"}) {
		t.Errorf("list = %v, %v, want all three and corrupt data", got, err)
	}
	if got := v.read(sn.Dir + "/root.pxar/z"); got != "2" {
		t.Errorf("z = %q", got)
	}
}

func TestLargeXattrsAreReadAgain(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	big := strings.Repeat("v", 5000)
	small := strings.Repeat("v", 1024-len("user.small"))
	sn.Pxar("root.pxar.didx", storetest.Dir("",
		storetest.File("small", "").With("user.small", small), storetest.File("big", "").With("user.big", big), storetest.Device("dev"),
		storetest.Dir("dir").With("user.big", big), storetest.File("none", ""),
	).With("user.root", big))
	sn.Finish()
	v := open(t, s)
	for path, want := range map[string]struct {
		name, value string
		kept        bool
	}{
		"small": {"user.small", small, true}, "big": {"user.big", big, false}, "dir": {"user.big", big, false}, "": {"user.root", big, false}, "none": {"", "", true},
	} {
		n := v.walk(sn.Dir + "/root.pxar/" + path)
		kept, complete := n.Xattrs()
		if complete != want.kept || !want.kept && kept != nil {
			t.Errorf("%q: %d attributes are kept, all: %v, want %v", path, len(kept), complete, want.kept)
		}
		all, err := n.ReadXattrs(t.Context(), v.r)
		switch {
		case err != nil:
			t.Errorf("%q: %v", path, err)
		case want.name == "" && len(all) != 0, want.name != "" && (len(all) != 1 || all[0].Name != want.name || string(all[0].Value) != want.value):
			t.Errorf("%q: attributes %v, want %s", path, all, want.name)
		}
	}
	if got := v.walk(sn.Dir + "/root.pxar/dev").Attr(); got.Mode != unix.S_IFBLK|0o600 || got.Rdev != 8<<8|1 {
		t.Errorf("device: mode %o, rdev %#x", got.Mode, got.Rdev)
	}
}

func TestOpenOfWhatIsNoFile(t *testing.T) {
	s := storetest.New(t)
	s.Snapshot("host/alpha", noon).Finish()
	v := open(t, s)
	if _, err := v.walk("host").Open(t.Context(), v.r); !errors.Is(err, unix.EISDIR) {
		t.Errorf("Open of a directory: %v, want EISDIR", err)
	}
	if _, err := v.walk("host/alpha/latest").Open(t.Context(), v.r); err == nil {
		t.Error("a symbolic link was opened")
	}
	index := v.walk("host/alpha/" + noon + "/index.json")
	_, listErr := index.List(t.Context(), v.r)
	_, lookupErr := index.Lookup(t.Context(), v.r, "x")
	if !errors.Is(listErr, unix.ENOTDIR) || !errors.Is(lookupErr, unix.ENOTDIR) {
		t.Errorf("a file was listed: %v, or searched: %v", listErr, lookupErr)
	}
}

// Whole real archives: every object can be looked up, and every file read.
func TestRealDatastores(t *testing.T) {
	dir := os.Getenv("PBSFS_FIXTURES")
	if dir == "" {
		t.Skip("PBSFS_FIXTURES names no directory with real datastores")
	}
	for _, name := range []string{"ds-basic", "ds-nasty", "ds-split"} {
		t.Run(name, func(t *testing.T) {
			v := openWith(t, nil, store.Options{Name: name, Path: filepath.Join(dir, name), Host: storetest.Host(t, "")})
			objects := v.visit("", v.Root())
			if objects < 50 {
				t.Errorf("%d objects, want more", objects)
			}
			t.Logf("%d objects", objects)
		})
	}
}

// visit looks at everything below n, reads the beginnings of its files, and
// counts.
func (v *view) visit(path string, n *tree.Node) (count int) {
	switch {
	case n.Broken() != nil:
		if !errors.Is(n.Broken(), store.ErrKeyNeeded) {
			v.t.Errorf("%s: %v", path, n.Broken())
		}
	case n.IsDir():
		names, err := v.list(path)
		if err != nil {
			v.t.Errorf("list(%s): %v", path, err)
		}
		for _, name := range names {
			child, err := n.Lookup(v.t.Context(), v.r, name)
			if err != nil {
				v.t.Errorf("%s/%s: %v", path, name, err)
				continue
			}
			count += v.visit(path+"/"+name, child)
		}
	case n.Type() == unix.S_IFREG:
		f, err := n.Open(v.t.Context(), v.r)
		if err != nil {
			v.t.Errorf("%s: %v", path, err)
			break
		}
		buf := make([]byte, min(4096, f.Size()))
		if m, err := f.ReadAt(v.t.Context(), v.r, buf, 0); m != len(buf) || err != nil && !errors.Is(err, io.EOF) {
			v.t.Errorf("%s: %d bytes of %d, %v", path, m, len(buf), err)
		}
	}
	return count + 1
}

func TestWalkFollowsTheLastLinkWhenAsked(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("file", "x"), storetest.Symlink("link", "file")))
	sn.Finish()
	v := open(t, s)
	link := "host/alpha/latest/root.pxar/link"
	n, err := v.Walk(t.Context(), v.r, link, true)
	if err != nil || n.ID() != v.walk("host/alpha/latest/root.pxar/file").ID() {
		t.Errorf("Walk(%s) with follow: %v, want the file", link, err)
	}
	if _, err := v.Walk(t.Context(), v.r, link+"/", true); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("Walk(%s/): %v, want ENOTDIR: a slash comes after a directory", link, err)
	}
}

// A listing that lacks something is told from one that does not, after all that
// there is was visited.
func TestVisitTellsWhatIsIncomplete(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	bad := storetest.File("bad", "x")
	bad.Spoil = []byte("not an entry at all")
	sn.Pxar("good.pxar.didx", storetest.Dir("", storetest.File("a", "x"), storetest.File("c", "x")))
	sn.Pxar("part.pxar.didx", storetest.Dir("", storetest.File("a", "x"), bad, storetest.File("c", "x")))
	sn.Finish()
	v := open(t, s)
	stop := errors.New("stop")
	for path, want := range map[string]struct {
		names      []string
		incomplete bool
	}{
		"good.pxar": {[]string{"a", "c"}, false},
		"part.pxar": {[]string{"a", "bad", "c"}, true},
	} {
		var names []string
		n := v.walk(sn.Dir + "/" + path)
		err := tree.Visit(t.Context(), v.r, n, func(e tree.Entry) error {
			names = append(names, e.Name)
			return nil
		})
		if !slices.Equal(names, want.names) || errors.Is(err, tree.ErrIncomplete) != want.incomplete || want.incomplete != errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: visited %q, %v, want %q, incomplete %v", path, names, err, want.names, want.incomplete)
		}
		if err := tree.Visit(t.Context(), v.r, n, func(tree.Entry) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("%s: %v, want the error of the function", path, err)
		}
	}
	if err := tree.Visit(t.Context(), v.r, v.walk(sn.Dir+"/good.pxar/a"), nil); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: %v, want %v", err, unix.ENOTDIR)
	}
}
