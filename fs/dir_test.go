package fs

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/storetest"
)

// dirent is an entry as getdents64(2) returns it.
type dirent struct {
	name string
	ino  uint64
	typ  byte
}

func readDirents(t *testing.T, dir string) (out []dirent) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(int(f.Fd()), buf)
		if err != nil {
			t.Fatalf("listing %s: %v", dir, err)
		}
		if n == 0 {
			return out
		}
		for b := buf[:n]; len(b) > 0; {
			size := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := strings.Cut(string(b[19:size]), "\x00")
			if name != "." && name != ".." {
				out = append(out, dirent{name, binary.NativeEndian.Uint64(b), b[18]})
			}
			b = b[size:]
		}
	}
}

// Entries that only the catalog was asked for have the numbers and types that
// stat gives afterwards.
func TestListedBeforeLookedUp(t *testing.T) {
	needFUSE(t)
	first := storetest.File("first", strings.Repeat("1", 900))
	kids := []*storetest.Node{first, storetest.Symlink("symlink", "first")}
	for i := range 300 {
		kids = append(kids, storetest.File(fmt.Sprintf("file-%03d", i), strings.Repeat(fmt.Sprint(i), 500)))
	}
	kids = append(kids, storetest.Link("again", first), storetest.Dir("sub", storetest.File("f", strings.Repeat("x", 900))))
	root := storetest.Dir("", storetest.Dir("dir", kids...))
	m := newDatastore(t, root, func(sn *storetest.Snapshot) { sn.Catalog("root.pxar.didx", root) })
	_, where := mount(t, m, Options{})
	dir := filepath.Join(where, m.dir, "root.pxar", "dir")
	listed := readDirents(t, dir)
	if len(listed) != len(kids) {
		t.Errorf("%d entries, want %d", len(listed), len(kids))
	}
	for _, e := range listed {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, e.name), &st); err != nil || st.Ino != e.ino || byte(st.Mode>>12) != e.typ {
			t.Errorf("%s: listed as %d, type %d; stat: %d, mode %o, %v", e.name, e.ino, e.typ, st.Ino, st.Mode, err)
		}
	}
	if again := readDirents(t, dir); !slices.Equal(again, listed) {
		t.Error("listed in another way when all is known")
	}
	out, msg, ok := run(t, "find", dir, "-type", "f")
	if n := strings.Count(out, "\n"); !ok || n != len(kids)-1 { // the symlink is none, sub has one for itself
		t.Errorf("find -type f: %d lines, %s, want %d", n, msg, len(kids)-1)
	}
}

// That a name is missing in an archive is asked for once; above the snapshots it is asked
// for again, because it may come.
func TestMissingNamesAreRemembered(t *testing.T) {
	needFUSE(t)
	root := storetest.Dir("", storetest.Dir("dir", storetest.File("there", "content")))
	m := newDatastore(t, root, func(*storetest.Snapshot) {})
	log := &logged{}
	_, where := mount(t, m, Options{Log: log.logger(), Debug: true})
	for _, c := range []struct {
		dir   string
		asked int
	}{{filepath.Join(m.dir, "root.pxar", "dir"), 1}, {filepath.Dir(m.dir), 2}} {
		dir := filepath.Join(where, c.dir)
		if out, msg, ok := run(t, "ls", "-l", dir); !ok {
			t.Fatal(out, msg)
		}
		missing := "missing in " + filepath.Base(c.dir)
		for range 2 {
			if _, _, ok := run(t, "stat", filepath.Join(dir, missing)); ok {
				t.Errorf("%s is there", missing)
			}
		}
		if n := log.lines(`LOOKUP`); n == 0 {
			t.Error("no request is in the log")
		}
		if n := log.lines(missing); n != c.asked {
			t.Errorf("%s: asked for %d times, want %d", c.dir, n, c.asked)
		}
	}
}
