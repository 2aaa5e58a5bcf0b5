package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func testXattrSizes(t *testing.T, p *posixTree) {
	for _, c := range []struct{ path, attr string }{
		{p.nasty.path(bigXattr), "user.big60k"},
		{p.nasty.path(nasty, "xattr/big4k"), ""},
		{p.nasty.path(nasty, "xattr/many"), ""},
	} {
		checkSizes(t, "listxattr of "+c.path, func(b []byte) (int, error) { return llistxattr(c.path, b) })
		all, err := xattrs(c.path)
		must(t, err)
		if _, ok := all[c.attr]; c.attr != "" && !ok {
			t.Errorf("%s has no attribute %s", c.path, c.attr)
		}
		for name, value := range all {
			checkSizes(t, name+" of "+c.path, func(b []byte) (int, error) { return lgetxattr(c.path, name, b) })
			buf := make([]byte, len(value))
			if n, err := lgetxattr(c.path, name, buf); err != nil || n != len(value) || !bytes.Equal(buf, value) {
				t.Errorf("%s of %s, into a buffer that just fits: got %d bytes and %v", name, c.path, n, err)
			}
		}
		_, err = lgetxattr(c.path, "user.not-there", make([]byte, 10))
		wantErrno(t, "an attribute that is not there", err, unix.ENODATA)
		_, err = lgetxattr(c.path, "user.not-there", nil)
		wantErrno(t, "the size of an attribute that is not there", err, unix.ENODATA)
	}
}

// checkSizes checks that a call tells the size when there is no buffer, and
// refuses one that is too short.
func checkSizes(t *testing.T, what string, call func([]byte) (int, error)) {
	t.Helper()
	size, err := call(nil)
	if err != nil {
		t.Errorf("%s: asking for the size: %v", what, err)
		return
	}
	if size > 1 {
		_, err = call(make([]byte, size-1))
		wantErrno(t, what+" into a buffer that is short by one", err, unix.ERANGE)
	}
	for _, more := range []int{1, 100} { // one more, so that an empty value has a buffer
		if n, err := call(make([]byte, size+more)); err != nil || n != size {
			t.Errorf("%s: got %d and %v, want %d", what, n, err, size)
		}
	}
}

// pathsLike returns the paths of ds-nasty whose last name is like that.
func pathsLike(t *testing.T, p *posixTree, like func(name string) bool) []string {
	t.Helper()
	var out []string
	for _, e := range truthOf(t, "ds-nasty", nasty).entries {
		if path := string(*e.Path); like(filepath.Base(path)) {
			out = append(out, p.nasty.path(nasty)+"/"+path)
		}
	}
	if len(out) == 0 {
		t.Fatal("there is no such name")
	}
	return out
}

// checkFound checks that each path is there, and is listed by its directory.
func checkFound(t *testing.T, paths []string) {
	t.Helper()
	for _, path := range paths {
		var st unix.Stat_t
		if err := lstat(path, &st); err != nil {
			t.Errorf("%q: %v", path, err)
		}
		dir, name := filepath.Split(path)
		if !slices.ContainsFunc(entriesOf(t, dir), func(d dirent) bool { return d.name == name }) {
			t.Errorf("%q is not listed", path)
		}
	}
}

func testLongNames(t *testing.T, p *posixTree) {
	checkFound(t, pathsLike(t, p, func(name string) bool { return len(name) == 255 }))
	for _, dir := range []string{p.nasty.dir, p.nasty.path(snapDir), p.nasty.path(posixDir)} {
		_, err := os.Lstat(dir + "/" + strings.Repeat("x", 255))
		wantErrno(t, "a name of 255 bytes that is not there", err, unix.ENOENT)
		_, err = os.Lstat(dir + "/" + strings.Repeat("x", 256))
		wantErrno(t, "a name of 256 bytes in "+dir, err, unix.ENAMETOOLONG)
	}
}

func testNonUTF8Names(t *testing.T, p *posixTree) {
	checkFound(t, pathsLike(t, p, func(name string) bool { return !utf8.ValidString(name) }))
	checkFound(t, pathsLike(t, p, func(name string) bool { return strings.Contains(name, "\n") }))
}

func testLookupErrors(t *testing.T, p *posixTree) {
	for _, path := range []string{
		"nothing", "vm", "host/nobody", "host/..x", "host/nasty/2001-01-01T00:00:00Z", "host/nasty/index.json",
		snapDir + "/root.pxar", snapDir + "/nasty.pxar.didx", snapDir + "/nasty.mpxar", nasty + "/nothing", posixDir + "/nothing", ".chunks", ".lock", "ns",
		// Other ways to write a name that is there.
		"HOST", "host/nasty/2023-11-14T22:13:30z", "host/nasty/2023-11-14t22:13:30Z", "host/nasty/2023-11-14T22:13:30+00:00",
	} {
		_, err := os.Lstat(p.nasty.path(path))
		wantErrno(t, "lstat "+path, err, unix.ENOENT)
		_, err = os.Open(p.nasty.path(path))
		wantErrno(t, "open "+path, err, unix.ENOENT)
	}
	for _, path := range []string{plainFile, snapDir + "/index.json", "host/nasty/owner"} {
		_, err := os.Lstat(p.nasty.path(path) + "/below")
		wantErrno(t, "a name below "+path, err, unix.ENOTDIR)
		_, err = open(p.nasty.path(path), unix.O_RDONLY|unix.O_DIRECTORY)
		wantErrno(t, "open of "+path+" as a directory", err, unix.ENOTDIR)
	}
	_, err := open(p.nasty.path(posixLink), unix.O_RDONLY|unix.O_NOFOLLOW)
	wantErrno(t, "open of a symbolic link, not following it", err, unix.ELOOP)
	_, err = os.Open(p.nasty.path(posixDir, "loop"))
	wantErrno(t, "open of a link to itself", err, unix.ELOOP)
	dir := openFile(t, p.nasty.path(posixDir))
	_, err = unix.Read(int(dir.Fd()), make([]byte, 10))
	wantErrno(t, "read of a directory", err, unix.EISDIR)
}

func testAccess(t *testing.T, p *posixTree) {
	for _, c := range []struct {
		path string
		mode uint32
		want error
	}{
		{plainFile, unix.F_OK, nil},
		{plainFile, unix.R_OK, nil},
		{plainFile, unix.W_OK, unix.EROFS},
		{plainFile, unix.X_OK, unix.EACCES},
		{posixDir, unix.R_OK | unix.X_OK, nil},
		{posixDir, unix.W_OK, unix.EROFS},
		{nasty + "/nothing", unix.F_OK, unix.ENOENT},
		{snapDir + "/index.json", unix.R_OK, nil},
		{snapDir + "/index.json", unix.W_OK, unix.EROFS},
		{snapDir, unix.R_OK | unix.X_OK, nil},
		{snapDir, unix.W_OK, unix.EROFS},
	} {
		err := access(p.nasty.path(c.path), c.mode)
		if !errors.Is(err, c.want) {
			t.Errorf("access(%s, %d): got %v, want %v", c.path, c.mode, err, c.want)
		}
	}
}

func testStatfs(t *testing.T, p *posixTree) {
	// Others use that file system meanwhile, so only what stays is compared.
	figures := func(path string) string {
		var st unix.Statfs_t
		must(t, statfs(path, &st))
		return fmt.Sprintf("%d blocks of %d/%d bytes, %d files, names of %d", st.Blocks, st.Bsize, st.Frsize, st.Files, st.Namelen)
	}
	want := figures(p.nasty.store)
	for _, path := range []string{p.nasty.dir, p.nasty.path(snapDir), p.nasty.path(plainFile)} {
		if got := figures(path); got != want {
			t.Errorf("statfs %s: got %s, want %s", path, got, want)
		}
	}
}

func testReadlinkSizes(t *testing.T, p *posixTree) {
	links := 0
	for _, e := range truthOf(t, "ds-nasty", nasty).entries {
		if e.Type != "symlink" {
			continue
		}
		links++
		path := p.nasty.path(nasty, string(*e.Path))
		var st unix.Stat_t
		must(t, lstat(path, &st))
		buf := make([]byte, st.Size+1)
		n, err := readlink(path, buf)
		if err != nil || int64(n) != st.Size || !bytes.Equal(buf[:n], e.Target) {
			t.Errorf("%s: st_size is %d, readlink gives %d bytes and %v", path, st.Size, n, err)
		}
		short := make([]byte, 1)
		if n, err := readlink(path, short); err != nil || n != 1 || short[0] != e.Target[0] {
			t.Errorf("%s: readlink into one byte: got %d, %q and %v", path, n, short, err)
		}
	}
	if links == 0 {
		t.Error("there are no symbolic links")
	}
	target, err := os.Readlink(p.nasty.path("host/nasty/latest"))
	if err != nil || target != filepath.Base(snapDir) {
		t.Errorf("latest: got %q and %v, want %q", target, err, filepath.Base(snapDir))
	}
}
