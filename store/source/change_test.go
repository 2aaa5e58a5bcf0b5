package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/pxar"
)

const mib = 1 << 20

// A file that changes under the reader, after its first piece has been read:
// what is stored has the size it had, and what comes behind it is whole.
func TestFileChangesWhileItIsRead(t *testing.T) {
	before := strings.Repeat("a", 3*mib)
	for name, test := range map[string]struct {
		change  func(path string) error
		want    string
		warning string
	}{
		"shrinks": {
			func(path string) error { return os.Truncate(path, mib+5) },
			strings.Repeat("a", mib+5) + strings.Repeat("\x00", 2*mib-5),
			"file: it shrank while it was read: its last 2097147 bytes are stored as zeros",
		},
		"is emptied": {
			func(path string) error { return os.Truncate(path, 0) },
			strings.Repeat("a", mib) + strings.Repeat("\x00", 2*mib),
			"file: it shrank while it was read: its last 2097152 bytes",
		},
		"grows": {
			func(path string) error { return add(path, "more") },
			before, "file: it grew while it was read: its first 3145728 bytes are stored",
		},
		"is changed": {
			func(path string) error { return overwrite(path, "b", 2*mib) },
			before[:2*mib] + "b" + before[2*mib+1:],
			"file: it was changed while it was read",
		},
		"vanishes": {os.Remove, before, ""},
		"is replaced": {
			func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) },
			before, "",
		},
	} {
		for _, split := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "file")
				write(t, path, before)
				write(t, filepath.Join(dir, "later"), "still here")
				changed := false
				a := archive(t, dir, split, Options{}, func() {
					if !changed {
						changed = true
						must(t, test.change(path))
					}
				})
				_, objects := a.decode(t)
				if got := objects["file"]; got.Entry == nil || got.data != test.want {
					t.Errorf("stored %d bytes, want others, %d", len(got.data), len(test.want))
				}
				if got := objects["later"].data; got != "still here" {
					t.Errorf("the next file has %q", got)
				}
				if test.warning == "" {
					a.expectWarnings(t)
				} else {
					a.expectWarnings(t, test.warning)
				}
			})
		}
	}
}

func add(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func overwrite(path, text string, off int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), off)
	// Clocks of file systems stand still for some milliseconds.
	ts := []unix.Timespec{{Sec: 1}, {Sec: 1}}
	return errors.Join(err, f.Close(), unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, 0))
}

// A sparse file that shrinks in a hole is not filled with the zeros of a hole
// in silence.
func TestSparseFileShrinks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	sparse(t, path, 8*mib, 0)
	changed := false
	a := archive(t, dir, false, Options{}, func() {
		if !changed {
			changed = true
			must(t, os.Truncate(path, 5*mib))
		}
	})
	a.expectWarnings(t, "file: it shrank while it was read: its last 3145728 bytes")
	if _, objects := a.decode(t); len(objects["file"].data) != 8*mib {
		t.Errorf("stored %d bytes, want %d", len(objects["file"].data), 8*mib)
	}
}

// Names that were listed and are something else when their turn comes.
func TestTreeChangesBehindTheListing(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("1"), "first")
	for _, name := range []string{"file", "to fifo", "to dir", "to link"} {
		write(t, at(name), "text")
	}
	for _, name := range []string{"gone", "dir to file", "dir to link"} {
		write(t, mkdir(t, at(name))+"/inside", "x")
	}
	must(t, os.Symlink("/etc", at("link to dir")))
	changed := false
	a := archive(t, dir, false, Options{}, func() {
		if changed {
			return
		}
		changed = true
		for _, name := range []string{"file", "to fifo", "to dir", "to link", "gone", "dir to file", "dir to link", "link to dir"} {
			must(t, os.RemoveAll(at(name)))
		}
		must(t, unix.Mkfifo(at("to fifo"), 0o600), os.Symlink("/etc", at("to link")), os.Symlink("/etc", at("dir to link")))
		write(t, at("dir to file"), "now a file")
		write(t, mkdir(t, at("to dir"))+"/new", "new")
		mkdir(t, at("link to dir"))
	})
	a.expectWarnings(t, "file: left out: it vanished", "gone: left out: it vanished")
	_, objects := a.decode(t)
	for path, want := range map[string]uint32{
		"1": pxar.TypeRegular, "to fifo": pxar.TypeFIFO, "to dir": pxar.TypeDir, "to dir/new": pxar.TypeRegular, "to link": pxar.TypeSymlink,
		"dir to file": pxar.TypeRegular, "dir to link": pxar.TypeSymlink, "link to dir": pxar.TypeDir, "": pxar.TypeDir,
	} {
		if o := objects[path]; o.Entry == nil || o.Type() != want {
			t.Errorf("%q: got %+v, want type %#o", path, o.Entry, want)
		}
	}
	if len(objects) != 9 {
		t.Errorf("%d entries, want 9", len(objects))
	}
}

// begun returns an archiver that is in a directory, for what happens between
// two system calls.
func begun(t *testing.T, dir string) (a *archiver, fd int, warnings *[]string, end func() map[string]object) {
	t.Helper()
	tree, out := open(t, dir), new(archived)
	opts := Options{Warn: func(_ string, err error) { out.warnings = append(out.warnings, err.Error()) }}
	w := &walker{ctx: t.Context(), tree: tree, opts: opts}
	begin := func(m *pxar.Metadata) (*pxar.Encoder, error) { return pxar.NewEncoder(&out.meta, m) }
	a = &archiver{walker: w, begin: begin, list: &listing{}, links: make(links[pxar.Link])}
	must(t, w.enterTop(a))
	t.Cleanup(w.close)
	return a, tree.fd, &out.warnings, func() map[string]object {
		must(t, a.enc.Close())
		_, objects := out.decode(t)
		return objects
	}
}

// Something took the place of a name after it was looked at and before it was
// opened. A fifo would block whoever opens it, a device could do anything.
func TestNameChangesBeforeItIsOpened(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("file"), "x")
	mkdir(t, at("dir"))
	must(t, os.Symlink("file", at("symlink")), unix.Mkfifo(at("fifo"), 0o600), unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0))
	must(t, unix.Mknod(at("device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	a, fd, warnings, end := begun(t, dir)
	keep := a.opts.Warn
	a.opts.Warn = func(path string, err error) {
		if errors.Is(err, ErrIncomplete) == errors.Is(err, unix.ENOENT) {
			t.Errorf("%v: what is there and left out makes the archive incomplete, what is gone does not", err)
		}
		keep(path, err)
	}
	stats := make(map[string]*unix.Stat_t)
	for _, name := range []string{"file", "symlink", "fifo", "socket", "device"} {
		st, err := statAt(fd, name)
		must(t, err)
		stats[name] = st
	}
	want := 0
	for was, st := range stats {
		for _, is := range []string{"file", "dir", "symlink", "fifo", "socket", "device", "gone"} {
			if was != is {
				must(t, a.leaf(fd, is, st))
				want++
			}
		}
	}
	if err := a.down(a, "symlink", &unix.Stat_t{Dev: a.top().id.dev}); err != nil {
		t.Error(err)
	}
	for _, w := range *warnings {
		if !strings.HasPrefix(w, "left out: it ") {
			t.Errorf("warning %q", w)
		}
	}
	if got := len(*warnings); got != want+1 {
		t.Errorf("%d warnings, want %d", got, want+1)
	}
	if got := end(); len(got) != 1 {
		t.Errorf("stored %d entries, want none but the root", len(got))
	}
}

// Reading this process's memory at 0 is an input/output error.
func TestReadError(t *testing.T) {
	a, _, warnings, end := begun(t, t.TempDir())
	mem, err := os.Open("/proc/self/mem")
	must(t, err)
	defer mem.Close()
	st, err := fstat(int(mem.Fd()))
	must(t, err)
	st.Size = 1000
	must(t, a.content("damaged", int(mem.Fd()), st))
	if got := end()["damaged"].data; got != strings.Repeat("\x00", 1000) {
		t.Errorf("stored %d bytes, want 1000 zeros", len(got))
	}
	want := "its last 1000 bytes are stored as zeros: cannot read them: input/output error"
	if got := *warnings; len(got) != 1 || got[0] != want {
		t.Errorf("warnings %q, want %q", got, want)
	}
}

// asNobody runs fn with the rights of an ordinary user: those of root's thread
// go with its file system identity.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread() // for good: the thread ends with the test
	_, err := unix.SetfsuidRetUid(65534)
	must(t, err)
	defer func() { _, _ = unix.SetfsuidRetUid(0) }()
	fn()
}

// What may not be read is left out, a directory is stored empty, and the rest
// is stored, also of files whose access time is not ours to keep.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755))
	write(t, at("file"), "readable")
	write(t, at("secret"), "secret")
	write(t, mkdir(t, at("closed"))+"/inside", "x")
	write(t, mkdir(t, at("names only"))+"/inside", "x")
	mkdir(t, at("names only/dir"))
	must(t, unix.Mkfifo(at("fifo"), 0), os.Chmod(at("secret"), 0), os.Chmod(at("closed"), 0o700), os.Chmod(at("names only"), 0o744))
	xattr(t, at("closed"), "trusted.hidden", "x")
	asNobody(t, func() {
		a := archive(t, dir, false, Options{}, nil)
		a.expectWarnings(t, "closed: stored empty: cannot read it: permission denied", "names only/dir: left out: cannot look at it: permission denied",
			"names only/inside: left out: cannot look at it: permission denied", "secret: left out: cannot open it: permission denied")
		_, objects := a.decode(t)
		for _, path := range []string{"", "file", "closed", "names only", "fifo"} {
			if objects[path].Entry == nil {
				t.Errorf("%q is not stored", path)
			}
		}
		if got := objects["file"].data; got != "readable" || len(objects) != 5 {
			t.Errorf("%d entries, content %q", len(objects), got)
		}
		if objects["closed"].Mode != pxar.TypeDir|0o700 {
			t.Errorf("closed directory with mode %#o", objects["closed"].Mode)
		}
		if _, err := Open(at("closed")); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), at("closed")) {
			t.Errorf("a closed top directory gives %v", err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	must(t, os.Symlink(dir, filepath.Join(dir, "link")))
	for path, want := range map[string]error{
		filepath.Join(dir, "missing"): os.ErrNotExist, filepath.Join(dir, "file"): unix.ENOTDIR, "/proc": os.ErrInvalid, "/sys": os.ErrInvalid, "": os.ErrNotExist,
	} {
		if _, err := Open(path); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%q) = %v, want %v with the path", path, err, want)
		}
	}
	tree := open(t, filepath.Join(dir, "link"))
	if files, _, err := tree.Total(t.Context(), Options{}); err != nil || files != 2 {
		t.Errorf("behind a link: %d files, %v, want 2", files, err)
	}
}

func TestCancel(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "large"), strings.Repeat("x", 3*mib))
	for _, when := range []string{"before", "within a file"} {
		ctx, cancel := context.WithCancel(t.Context())
		if when == "before" {
			cancel()
		}
		opts := Options{Progress: func(int64, int64) { cancel() }, Warn: func(path string, err error) { t.Errorf("%s: %v", path, err) }}
		tree := open(t, dir)
		if err := tree.Unified(ctx, io.Discard, catalog.NewEncoder(io.Discard), archiveName, opts); !errors.Is(err, context.Canceled) {
			t.Errorf("Unified canceled %s: %v", when, err)
		}
		if err := tree.Split(ctx, io.Discard, io.Discard, opts); !errors.Is(err, context.Canceled) {
			t.Errorf("Split canceled %s: %v", when, err)
		}
		if _, _, err := tree.Total(ctx, opts); !errors.Is(err, context.Canceled) {
			t.Errorf("Total canceled %s: %v", when, err)
		}
		cancel()
	}
}

// full is a writer without room behind so many bytes.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, unix.ENOSPC
	}
	return len(p), nil
}

func TestWriterFails(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "large"), strings.Repeat("x", 3*mib))
	tree := open(t, dir)
	for name, err := range map[string]error{
		"archive": tree.Unified(t.Context(), &full{mib}, nil, "", Options{}),
		"end":     tree.Unified(t.Context(), &full{3 * mib}, nil, "", Options{}),
		"catalog": tree.Unified(t.Context(), io.Discard, catalog.NewEncoder(&full{8}), archiveName, Options{}),
		"meta":    tree.Split(t.Context(), &full{10}, io.Discard, Options{}),
		"payload": tree.Split(t.Context(), io.Discard, &full{mib}, Options{}),
	} {
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v, want that there is no space", name, err)
		}
	}
	var b bytes.Buffer
	must(t, tree.Unified(t.Context(), &b, nil, "", Options{}))
}
