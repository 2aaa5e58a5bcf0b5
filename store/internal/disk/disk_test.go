package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/backend"
)

// newRoot opens a directory that has one of each: a file, a directory with a
// file, links to both, out of the directory and to itself, a fifo and a socket.
func newRoot(t testing.TB) (*Root, string) {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "ds")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "sub"), 0o755),
		os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o644),
		os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644),
		os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "sub/file"), []byte("below"), 0o644),
		os.Symlink("file", filepath.Join(dir, "link")),
		os.Symlink("sub", filepath.Join(dir, "dirlink")),
		os.Symlink("../secret", filepath.Join(dir, "outlink")),
		os.Symlink("/etc", filepath.Join(dir, "rootlink")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644),
		unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o644, 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r, dir
}

func TestReadFile(t *testing.T) {
	r, _ := newRoot(t)
	for name, want := range map[string]string{"file": "content", "sub/file": "below", "empty": "", "./sub/../file": "content"} {
		got, info, err := r.ReadFile(t.Context(), name, 100, nil)
		if err != nil || string(got) != want || info.Size != int64(len(want)) || !info.IsRegular() {
			t.Errorf("ReadFile(%s) = %q, %+v, %v, want %q", name, got, info, err, want)
		}
	}
}

// Nothing leads out of the directory, and no link leads anywhere.
func TestNothingLeadsElsewhere(t *testing.T) {
	r, dir := newRoot(t)
	for _, name := range []string{
		"link", "outlink", "loop", "dirlink/file", "rootlink/passwd", "../secret", "sub/../../secret",
		"/etc/passwd", filepath.Join(dir, "file"), "..", "sub/../..",
	} {
		if got, _, err := r.ReadFile(t.Context(), name, 1<<20, nil); err == nil {
			t.Errorf("ReadFile(%s) = %q, want an error", name, got)
		}
		if info, err := r.Stat(t.Context(), name); err == nil {
			t.Errorf("Stat(%s) = %+v, want an error", name, info)
		}
		if got, err := r.List(t.Context(), name); err == nil {
			t.Errorf("List(%s) = %v, want an error", name, got)
		}
		if d, err := r.OpenDir(t.Context(), name); err == nil {
			t.Errorf("OpenDir(%s) succeeded, want an error", name)
			_ = d.Close()
		}
	}
}

// The test ends, which it would not if a fifo were waited for.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	r, _ := newRoot(t)
	for _, name := range []string{"fifo", "sub", "."} {
		got, _, err := r.ReadFile(t.Context(), name, 100, nil)
		if !errors.Is(err, corrupt.Err) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%s) = %q, %v, want corrupt data", name, got, err)
		}
	}
	if got, _, err := r.ReadFile(t.Context(), "socket", 100, nil); err == nil {
		t.Errorf("ReadFile(socket) = %q, want an error", got)
	}
}

func TestReadFileLimit(t *testing.T) {
	r, _ := newRoot(t)
	size := int64(len("content"))
	if _, _, err := r.ReadFile(t.Context(), "file", size, nil); err != nil {
		t.Errorf("file of %d bytes with that limit: %v", size, err)
	}
	got, _, err := r.ReadFile(t.Context(), "file", size-1, nil)
	if !errors.Is(err, backend.ErrTooLarge) || !errors.Is(err, corrupt.Err) {
		t.Errorf("file of %d bytes, limit %d: %q, %v, want ErrTooLarge", size, size-1, got, err)
	}
}

func TestReadFileUsesTheBuffer(t *testing.T) {
	r, _ := newRoot(t)
	buf := make([]byte, 3, 100)
	got, _, err := r.ReadFile(t.Context(), "file", 100, buf)
	if err != nil || string(got) != "content" || &got[0] != &buf[0] {
		t.Errorf("ReadFile = %q, %v, in the buffer: %v, want it there", got, err, err == nil && &got[0] == &buf[0])
	}
	got, _, err = r.ReadFile(t.Context(), "file", 100, make([]byte, 0, 3))
	if err != nil || string(got) != "content" {
		t.Errorf("ReadFile with a short buffer = %q, %v", got, err)
	}
}

func TestMissingIsNotExist(t *testing.T) {
	r, _ := newRoot(t)
	for _, name := range []string{"none", "sub/none", "none/file"} {
		if _, _, err := r.ReadFile(t.Context(), name, 1, nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%s): %v, want ErrNotExist", name, err)
		}
		if _, err := r.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat(%s): %v, want ErrNotExist", name, err)
		}
	}
	if _, err := Open("/no/such/place"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: %v, want ErrNotExist", err)
	}
}

func TestListOmitsLinksAndSpecialFiles(t *testing.T) {
	r, _ := newRoot(t)
	got, err := r.List(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, func(a, b backend.Entry) int { return strings.Compare(a.Name, b.Name) })
	want := []backend.Entry{{Name: "empty"}, {Name: "file"}, {Name: "sub", Dir: true}}
	if !slices.Equal(got, want) {
		t.Errorf("List = %v, want %v", got, want)
	}
	if _, err := r.List(t.Context(), "file"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("List(file): %v, want ENOTDIR", err)
	}
}

func TestListOfManyEntries(t *testing.T) {
	r, dir := newRoot(t)
	const n = 2500 // more than are read at once
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, "sub", "n"+string(rune('a'+i%26))+strings.Repeat("x", i/26)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.List(t.Context(), "sub")
	if err != nil || len(got) != n+1 {
		t.Errorf("List has %d entries, %v, want %d", len(got), err, n+1)
	}
}

func TestDirStat(t *testing.T) {
	r, _ := newRoot(t)
	d, err := r.OpenDir(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if info, err := d.Stat(t.Context(), "sub/file"); err != nil || !info.IsRegular() || info.Size != 5 {
		t.Errorf("Stat(sub/file) = %+v, %v, want a file of 5 bytes", info, err)
	}
	if info, err := d.Stat(t.Context(), "link"); err != nil || info.IsRegular() || info.IsDir() {
		t.Errorf("Stat(link) = %+v, %v, want the link itself", info, err)
	}
	for _, name := range []string{"dirlink/file", "../secret", "rootlink/passwd"} {
		if info, err := d.Stat(t.Context(), name); err == nil {
			t.Errorf("Stat(%s) = %+v, want an error", name, info)
		}
	}
	if _, err := r.OpenDir(t.Context(), "file"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("OpenDir(file): %v, want ENOTDIR", err)
	}
}

func TestOpenFollowsTheAdministratorsLink(t *testing.T) {
	_, dir := newRoot(t)
	link := filepath.Join(t.TempDir(), "ds")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	r, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, _, err := r.ReadFile(t.Context(), "file", 10, nil); err != nil || string(got) != "content" {
		t.Errorf("ReadFile = %q, %v", got, err)
	}
	if _, err := Open(filepath.Join(dir, "file")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("Open(file): %v, want ENOTDIR", err)
	}
}

// An open directory costs one descriptor, and no call leaves one behind,
// whether it succeeds or fails.
func TestDescriptorsStayFlat(t *testing.T) {
	r, dir := newRoot(t)
	before := descriptors(t, dir)
	if len(before) != 1 {
		t.Errorf("an open Root has %d descriptors %v, want 1", len(before), before)
	}
	for range 50 {
		for _, name := range []string{".", "file", "sub", "sub/file", "link", "dirlink/file", "fifo", "socket", "none", "../secret"} {
			_, _, _ = r.ReadFile(t.Context(), name, 3, nil)
			_, _, _ = r.ReadFile(t.Context(), name, 100, nil)
			_, _ = r.Stat(t.Context(), name)
			_, _ = r.List(t.Context(), name)
			if d, err := r.OpenDir(t.Context(), name); err == nil {
				_, _ = d.Stat(t.Context(), "file")
				_, _ = d.Stat(t.Context(), "none")
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if after := descriptors(t, dir); !slices.Equal(after, before) {
		t.Errorf("descriptors %v, before %v", after, before)
	}
}

// descriptors returns what this process has open in or below dir.
func descriptors(t testing.TB, dir string) (open []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && (to == dir || strings.HasPrefix(to, dir+"/")) {
			open = append(open, to)
		}
	}
	return open
}
