package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/pattern"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

const noon = "2023-11-14T12:00:00Z"

// view is a datastore and a right to read it.
type view struct {
	t *testing.T
	s *storetest.Store
	r *store.Reader
	*tree.Tree
	guard *Guard
}

func open(t *testing.T, s *storetest.Store) *view {
	t.Helper()
	return openWith(t, s, store.Options{})
}

func openWith(t *testing.T, s *storetest.Store, o store.Options) *view {
	t.Helper()
	o.Name, o.Path, o.Host = "tank", s.Dir, storetest.Host(t, "")
	ref, err := store.Open(t.Context(), o)
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
	guard, err := NewGuard(t.Context(), s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return &view{t, s, r, tree.New(ref), guard}
}

// archive makes a datastore with one archive, and returns it opened, and the archive.
func archive(t *testing.T, root *storetest.Node) (*view, Source, []name.Digest) {
	t.Helper()
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	chunks := sn.Pxar("root.pxar.didx", root)
	sn.Finish()
	v := open(t, s)
	return v, v.source(sn.Dir + "/root.pxar"), chunks
}

func (v *view) source(path string) Source {
	v.t.Helper()
	n, err := v.Walk(v.t.Context(), v.r, path, false)
	if err != nil {
		v.t.Fatal(err)
	}
	return Source{Path: path, Node: n}
}

// restore restores a source right into a directory, and fails the test for an error.
func (v *view) restore(s Source, to string, o Options) *Report {
	v.t.Helper()
	report, err := v.try(v.t.Context(), s, to, o)
	if err != nil {
		v.t.Fatal(err)
	}
	return report
}

func (v *view) try(ctx context.Context, s Source, to string, o Options) (*Report, error) {
	return Tree(ctx, v.r, v.guard, []Source{s}, to, Marker{Version: 1, Sources: []MarkedSource{{Path: s.Path, Name: s.Name}}}, o)
}

// mine gives a tree to the user of the test, so that any user can restore it.
func mine(n *storetest.Node) *storetest.Node {
	n.UID, n.GID = uint32(os.Geteuid()), uint32(os.Getegid())
	for _, k := range n.Kids {
		mine(k)
	}
	return n
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// everything is a tree with objects of all kinds that any user can make.
func everything() *storetest.Node {
	file := storetest.File("file", strings.Repeat("content ", 1000)).With("user.one", "1")
	file.Sec, file.Nsec = 1_600_000_000, 123456789
	file.Mode = pxar.TypeRegular | 0o640
	sub := storetest.Dir("sub", storetest.Link("hard", file), storetest.File("holes", "x"+strings.Repeat("\x00", 300_000)+"y"), storetest.Dir("empty"))
	sub.Mode, sub.Sec, sub.Nsec = pxar.TypeDir|0o1750, 1_500_000_000, 7
	sub.With("user.dir", "d")
	link := storetest.Symlink("link", "../../etc/pass\xffwd")
	link.Sec = 1_400_000_000
	return mine(storetest.Dir("", file, sub, link, storetest.File("none", ""), &storetest.Node{Name: "pipe", Mode: pxar.TypeFIFO | 0o600}, &storetest.Node{Name: "socket", Mode: pxar.TypeSocket | 0o755}))
}

func TestEverythingIsRestored(t *testing.T) {
	v, s, _ := archive(t, everything())
	to := filepath.Join(t.TempDir(), "to")
	before := descriptors(t)
	report := v.restore(s, to, Options{Verify: true})
	if err := report.Err(); err != nil || report.Differs > 0 || len(report.Lacks) > 0 {
		t.Errorf("%v: %+v", err, report)
	}
	if want := (Counts{Files: 3, Directories: 3, Symlinks: 1, HardLinks: 1, Fifos: 1, Sockets: 1}); report.Restored != want {
		t.Errorf("restored %+v, want %+v", report.Restored, want)
	}
	if n := descriptors(t); n != before {
		t.Errorf("%d descriptors are open, and %d before", n, before)
	}
	a, b := stat(t, filepath.Join(to, "file")), stat(t, filepath.Join(to, "sub/hard"))
	if a.Ino != b.Ino || a.Mode != unix.S_IFREG|0o640 || a.Mtim != (unix.Timespec{Sec: 1_600_000_000, Nsec: 123456789}) {
		t.Errorf("%+v and %+v", a, b)
	}
	if st := stat(t, filepath.Join(to, "sub")); st.Mode != unix.S_IFDIR|0o1750 || st.Mtim != (unix.Timespec{Sec: 1_500_000_000, Nsec: 7}) {
		t.Errorf("directory: %+v", st)
	}
	if st := stat(t, filepath.Join(to, "sub/holes")); st.Size != 300_002 || st.Blocks*512 > 100_000 {
		t.Errorf("holes: size %d, %d blocks", st.Size, st.Blocks)
	}
	if got, err := os.Readlink(filepath.Join(to, "link")); got != "../../etc/pass\xffwd" || stat(t, filepath.Join(to, "link")).Mtim.Sec != 1_400_000_000 {
		t.Errorf("link to %q, %v", got, err)
	}
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return st
}

// A deep tree needs few descriptors: directories are opened again on the way up.
func TestDeepTree(t *testing.T) {
	deep := storetest.Dir("d", storetest.File("bottom", "x"))
	for range 600 {
		deep = storetest.Dir("d", deep, storetest.File("z", "x"))
	}
	v, s, _ := archive(t, mine(storetest.Dir("", deep)))
	to := filepath.Join(t.TempDir(), "to")
	var most atomic.Int64
	before := descriptors(t)
	report := v.restore(s, to, Options{Progress: func(int64, int64) { most.Store(max(most.Load(), int64(descriptors(t)-before))) }})
	if err := report.Err(); err != nil || report.Restored.Files != 601 || report.Restored.Directories != 602 {
		t.Errorf("%v: %+v", err, report.Restored)
	}
	if n := most.Load(); n > 300 {
		t.Errorf("%d descriptors were open", n)
	}
	// Paths are too long to be used as a whole.
	fd, err := unix.Open(to, unix.O_PATH, 0)
	for level := 0; level < 601 && err == nil; level++ {
		next, oerr := unix.Openat(fd, "d", unix.O_PATH, 0)
		unix.Close(fd)
		fd, err = next, oerr
	}
	if err == nil {
		err = unix.Faccessat(fd, "bottom", unix.F_OK, 0)
		unix.Close(fd)
	}
	if err != nil {
		t.Error(err)
	}
}

// Names that lead out of their directory are damage, and nothing is written there.
func TestHostileNames(t *testing.T) {
	above := t.TempDir()
	to := filepath.Join(above, "to")
	v, s, _ := archive(t, mine(storetest.Dir("", storetest.File("good", "x"), storetest.File("../evil", "x"), storetest.File("..", "x"), storetest.File("a/b", "x"))))
	report := v.restore(s, to, Options{})
	if !errors.Is(report.Err(), store.ErrCorrupt) {
		t.Errorf("%v", report.Err())
	}
	for dir, want := range map[string]string{above: "to", to: "good"} {
		if got := strings.Join(namesIn(t, dir), " "); got != want {
			t.Errorf("%s: %s, want %s", dir, got, want)
		}
	}
}

func namesIn(t *testing.T, dir string) (out []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

// An archive with a link and a directory of one name does not write through the link.
func TestNamesThatAreThereTwice(t *testing.T) {
	outside := t.TempDir()
	v, s, _ := archive(t, mine(storetest.Dir("", storetest.Symlink("a", outside), storetest.Dir("a", storetest.File("f", "x")))))
	for _, o := range []Options{{}, {Overwrite: Always, IntoOthers: true}} {
		v.restore(s, filepath.Join(t.TempDir(), "to"), o)
		if got := namesIn(t, outside); len(got) > 0 {
			t.Errorf("%q was written outside", got)
		}
	}
}

// Whichever chunk is damaged, a file is whole or not there, and then it is named.
func TestDamagedChunksCostWhatLiesInThem(t *testing.T) {
	root := storetest.Dir("")
	for i := range 20 {
		root.Kids = append(root.Kids, storetest.File(fmt.Sprintf("f%02d", i), strings.Repeat(fmt.Sprint(i), 300)))
	}
	v, s, chunks := archive(t, mine(root))
	hit := 0
	for i, d := range chunks {
		file := filepath.Join(v.s.Dir, storetest.ChunkFile(d))
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(good)
		bad[len(bad)-1] ^= 1
		v.s.Write(storetest.ChunkFile(d), bad)
		other := open(t, v.s)
		to := filepath.Join(t.TempDir(), fmt.Sprint(i))
		n, err := other.Walk(t.Context(), other.r, s.Path, false)
		if err == nil && n.Broken() == nil {
			report := other.restore(Source{Path: s.Path, Node: n}, to, Options{})
			hit += checkWhole(t, to, report)
		}
		v.s.Write(storetest.ChunkFile(d), good)
	}
	if hit == 0 {
		t.Error("no damage was met")
	}
}

// checkWhole checks that each file is whole, or is named.
func checkWhole(t *testing.T, to string, report *Report) int {
	t.Helper()
	there := 0
	for i := range 20 {
		name := fmt.Sprintf("f%02d", i)
		text, err := os.ReadFile(filepath.Join(to, name))
		named := slices.ContainsFunc(report.Problems, func(p Problem) bool { return p.Kind == Damaged && (p.Path == name || p.Path == ".") })
		switch {
		case err == nil && string(text) != strings.Repeat(fmt.Sprint(i), 300):
			t.Errorf("%s: %d bytes, %.20q", name, len(text), text)
		case err == nil:
			there++
		case !named:
			t.Errorf("%s is not there and not named: %+v", name, report.Problems)
		}
	}
	if there < 20 && !errors.Is(report.Err(), store.ErrCorrupt) {
		t.Errorf("%d files, and %v", there, report.Err())
	}
	return 20 - there
}

// A restore goes on only with what it has begun itself.
func TestMarker(t *testing.T) {
	v, s, _ := archive(t, everything())
	to := filepath.Join(t.TempDir(), "to")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.try(ctx, s, to, Options{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	text := `{"pbsfs_restore":1,"datastore":"","sources":[{"path":"` + s.Path + `","name":"","id":""}],"patterns":null}` + "\n"
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(to, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	temp := temporary()
	write(markerName, "another\n")
	if _, err := v.try(t.Context(), s, to, Options{}); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("%v", err)
	}
	write(markerName, text)
	write(temp, "left")
	write(temporaryPrefix+"not one of ours", "stays")
	if err := os.Mkdir(filepath.Join(to, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("sub/"+temporary(), "left")
	report := v.restore(s, to, Options{})
	if err := report.Err(); err != nil || !report.Resumed {
		t.Errorf("%v: %+v", err, report)
	}
	if st := stat(t, filepath.Join(to, "sub")); st.Mode != unix.S_IFDIR|0o1750 {
		t.Errorf("directory that was there: mode %o", st.Mode)
	}
	got := strings.Join(append(namesIn(t, to), namesIn(t, filepath.Join(to, "sub"))...), " ")
	if want := temporaryPrefix + "not one of ours file link none pipe socket sub empty hard holes"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Two restores into one directory at once are one too many.
func TestSecondRestoreIsRefused(t *testing.T) {
	v, s, _ := archive(t, everything())
	to := filepath.Join(t.TempDir(), "to")
	var second error
	told := false
	v.restore(s, to, Options{Progress: func(int64, int64) {
		if !told {
			told = true
			_, second = v.try(context.WithoutCancel(t.Context()), s, to, Options{})
		}
	}})
	_ = second // it may have come too late to be refused
	fd, err := unix.Open(to, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	m, err := makeMarker(fd, to, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if _, err := v.try(t.Context(), s, to, Options{}); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("%v", err)
	}
}

// Where files cannot be without a name, they have temporary ones, and nothing is left.
func TestTemporaryNames(t *testing.T) {
	v, s, _ := archive(t, everything())
	for _, over := range []Overwrite{Never, Always} {
		to := filepath.Join(t.TempDir(), "to")
		for range 2 {
			r := newRun(t.Context(), v.r, v.guard, Options{Overwrite: over, IntoOthers: true, Verify: true})
			r.noTmpfile.Store(true)
			r.noEmptyPath.Store(true)
			if err := r.tree([]Source{s}, to, Marker{}); err != nil {
				t.Fatal(err)
			}
			report := r.tally.report()
			if err := report.Err(); err != nil {
				t.Errorf("%v: %+v", err, report.Problems)
			}
			r.stop(nil)
		}
		if got := strings.Join(namesIn(t, to), " "); got != "file link none pipe socket sub" {
			t.Errorf("%v: %s", over, got)
		}
	}
}

func TestPatternsMakeOnlyTheDirectoriesThatAreNeeded(t *testing.T) {
	v, s, _ := archive(t, mine(storetest.Dir("", storetest.Dir("a", storetest.Dir("b", storetest.File("x.conf", "x"), storetest.File("y", "y")), storetest.Dir("c")), storetest.Dir("d", storetest.File("z", "z")))))
	var l pattern.List
	p, err := pattern.Parse("*.conf", true)
	if err != nil {
		t.Fatal(err)
	}
	l.Add(p)
	to := filepath.Join(t.TempDir(), "to")
	report := v.restore(s, to, Options{Patterns: l})
	if got := namesIn(t, filepath.Join(to, "a", "b")); len(namesIn(t, to)) != 1 || len(namesIn(t, filepath.Join(to, "a"))) != 1 || !slices.Equal(got, []string{"x.conf"}) {
		t.Errorf("%q", got)
	}
	if report.Restored.Directories != 3 || report.LeftOut != 2 {
		t.Errorf("%+v", report)
	}
}

// What TARGET has for new files is not theirs: an inherited ACL would let others in.
func TestInheritedACLsAreTakenAway(t *testing.T) {
	v, s, _ := archive(t, everything())
	to := t.TempDir()
	// user::rwx, user:1:rwx, group::rwx, mask::rwx, other::rwx
	acl := []byte("\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x07\x00\x01\x00\x00\x00\x04\x00\x07\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x07\x00\xff\xff\xff\xff")
	if err := unix.Setxattr(to, defaultACL, acl, 0); err != nil {
		t.Skipf("no ACLs here: %v", err)
	}
	v.restore(s, to, Options{})
	for _, path := range []string{"file", "sub", "sub/hard", "sub/empty", "pipe"} {
		for _, attr := range []string{accessACL, defaultACL} {
			if n, err := unix.Getxattr(filepath.Join(to, path), attr, nil); err == nil {
				t.Errorf("%s has %s of %d bytes", path, attr, n)
			}
		}
	}
	if st := stat(t, filepath.Join(to, "file")); st.Mode != unix.S_IFREG|0o640 {
		t.Errorf("file: mode %o", st.Mode)
	}
}

func TestImageKeepsItsHoles(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("vm/100", noon)
	data := slices.Concat([]byte(strings.Repeat("data", 16<<10)), make([]byte, 40<<20), []byte(strings.Repeat("more", 16<<10)), make([]byte, 1<<20))
	sn.Fixed("disk.img.fidx", 64<<10, data)
	sn.Finish()
	v := open(t, s)
	src := v.source(sn.Dir + "/disk.img")
	src.Name = "disk.img"
	to := t.TempDir()
	report := v.restore(src, to, Options{Verify: true})
	got, err := os.ReadFile(filepath.Join(to, "disk.img"))
	if err != nil || !slices.Equal(got, data) || report.Err() != nil {
		t.Errorf("%d bytes of %d, %v, %v", len(got), len(data), err, report.Err())
	}
	st := stat(t, filepath.Join(to, "disk.img"))
	if st.Blocks*512 > 1<<20 || st.Mode != unix.S_IFREG|ownFileMode || st.Mtim.Sec != time.Date(2023, 11, 14, 12, 0, 0, 0, time.UTC).Unix() {
		t.Errorf("%+v", st)
	}
}

func TestBlocksOfZerosAreNotWritten(t *testing.T) {
	zero, one := strings.Repeat("\x00", blockSize), strings.Repeat("1", blockSize)
	for _, c := range []struct {
		data string
		off  int64
		want string // offset+length
	}{
		{one, 0, "0+4096"},
		{zero, 0, ""},
		{zero + one + zero, 0, "4096+4096"},
		{one + zero + one + one, 4096, "4096+4096 12288+8192"},
		{"\x00\x00", 0, ""},
		{"a" + zero, 0, "0+4096"},
		{zero[1:] + "a", 0, "0+4096"},
		{one + zero[:100], 0, "0+4096"},
		{"", 0, ""},
	} {
		var got []string
		err := withoutZeros([]byte(c.data), c.off, func(p []byte, off int64) error {
			got = append(got, fmt.Sprintf("%d+%d", off, len(p)))
			if at := off - c.off; string(p) != c.data[at:at+int64(len(p))] {
				t.Errorf("%d: other bytes", off)
			}
			return nil
		})
		if text := strings.Join(got, " "); err != nil || text != c.want {
			t.Errorf("%d bytes at %d: got %s, want %s", len(c.data), c.off, text, c.want)
		}
	}
}

func TestNamesOfTemporaryFiles(t *testing.T) {
	for name, want := range map[string]bool{
		temporary(): true, temporaryPrefix + "0123456789abcdef": true,
		markerName: false, temporaryPrefix: false, temporaryPrefix + "0123456789abcdeg": false, temporaryPrefix + "0123456789abcdef0": false, "x" + temporary(): false,
	} {
		if isTemporary(name) != want {
			t.Errorf("%q: %v, want %v", name, !want, want)
		}
	}
}
