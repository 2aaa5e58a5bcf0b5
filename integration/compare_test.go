package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// difference is one between a tree and the truth about it.
type difference struct {
	path string // below the archive
	what string // which attribute, or "error", "missing", "extra"
	text string
	err  error // of an "error"
}

func (d difference) String() string {
	if d.err != nil {
		return fmt.Sprintf("%q: %v", d.path, d.err)
	}
	return fmt.Sprintf("%q: %s %s", d.path, d.what, d.text)
}

// comparison compares a tree with what is known about an archive. It calls
// nothing of testing, so that it may run on a thread of another user.
type comparison struct {
	// trusted is whether whoever compares sees attributes named trusted.*.
	trusted bool
	// except says which differences are expected, of tools that cannot carry
	// everything; nil expects none.
	except func(e *entry, what string) bool

	root  string
	found []difference
	links map[int]map[uint64]struct{} // inode numbers, by group of hard links
}

// compare returns how the tree or file at path differs from the archive.
func compare(path string, a archive) []difference {
	c := comparison{trusted: os.Geteuid() == 0}
	return c.run(path, a)
}

func (c *comparison) run(path string, a archive) []difference {
	c.root, c.found, c.links = path, nil, make(map[int]map[uint64]struct{})
	if !a.isTree() {
		c.file(&a.entries[0])
		return c.found
	}
	want := make(map[string]*entry, len(a.entries))
	for i := range a.entries {
		want[string(*a.entries[i].Path)] = &a.entries[i]
	}
	seen := make(map[string]bool, len(want))
	c.walk("", want, seen)
	for path, e := range want {
		if !seen[path] {
			c.differ(e, path, "missing", "entry")
		}
	}
	for group, inodes := range c.links {
		if len(inodes) > 1 {
			c.differ(nil, "", "hard links", fmt.Sprintf("group %d has %d different inodes", group, len(inodes)))
		}
	}
	return c.found
}

func (c *comparison) differ(e *entry, path, what, text string) {
	if c.except == nil || e == nil || !c.except(e, what) {
		c.found = append(c.found, difference{path: path, what: what, text: text})
	}
}

func (c *comparison) fail(e *entry, path string, err error) {
	if err != nil && (c.except == nil || e == nil || !c.except(e, "error")) {
		c.found = append(c.found, difference{path: path, what: "error", err: err})
	}
}

// walk compares the entry at path, and all below it.
func (c *comparison) walk(path string, want map[string]*entry, seen map[string]bool) {
	e := want[path]
	switch {
	case e == nil && path == ".pxarexclude-cli": // made by the client; the truth does not have it
		return
	case e == nil:
		c.differ(nil, path, "extra", "entry")
		return
	case seen[path]:
		c.differ(e, path, "extra", "listed twice")
		return
	}
	seen[path] = true
	isDir, err := c.entry(path, e)
	c.fail(e, path, err)
	if err != nil || !isDir {
		return
	}
	names, err := readNames(filepath.Join(c.root, path))
	c.fail(e, path, err)
	for _, name := range names {
		c.walk(strings.TrimPrefix(path+"/"+name, "/"), want, seen)
	}
}

// readNames lists a directory: as far as it goes, when there is an error.
func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

// kinds are the types of files as the truth calls them.
var kinds = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
	unix.S_IFSOCK: "socket", unix.S_IFCHR: "chardev", unix.S_IFBLK: "blockdev",
}

// entry compares one entry, and reports whether it is a directory as it should
// be.
func (c *comparison) entry(path string, e *entry) (isDir bool, err error) {
	full := filepath.Join(c.root, path)
	var st unix.Stat_t
	if err := lstat(full, &st); err != nil {
		return false, &os.PathError{Op: "lstat", Path: full, Err: err}
	}
	differ := func(what string, got, want any) {
		if got != want {
			c.differ(e, path, what, fmt.Sprintf("got %v, want %v", got, want))
		}
	}
	kind := kinds[st.Mode&unix.S_IFMT]
	if kind != e.Type {
		differ("type", kind, e.Type)
		return false, nil
	}
	differ("mode", fmt.Sprintf("%o", st.Mode&^unix.S_IFMT), fmt.Sprintf("%o", e.Mode))
	differ("uid", st.Uid, e.UID)
	differ("gid", st.Gid, e.GID)
	if e.Mtime != nil {
		differ("mtime", timestamp{st.Mtim.Sec, st.Mtim.Nsec}, *e.Mtime)
	}
	switch kind {
	case "chardev", "blockdev":
		differ("device", fmt.Sprint(unix.Major(st.Rdev), unix.Minor(st.Rdev)), fmt.Sprint(e.Rdev[0], e.Rdev[1]))
	case "symlink":
		target, err := os.Readlink(full)
		c.fail(e, path, err)
		differ("target", target, string(e.Target))
		differ("size", st.Size, e.Size)
	case "file":
		differ("size", st.Size, e.Size)
	}
	c.linkCount(path, e, &st, differ)
	c.xattrs(path, full, e)
	if kind == "file" {
		got, err := digest(full)
		c.fail(e, path, err)
		if err == nil {
			differ("content", got, e.SHA256)
		}
	}
	return kind == "dir", nil
}

func (c *comparison) linkCount(path string, e *entry, st *unix.Stat_t, differ func(what string, got, want any)) {
	if e.Nlink == 0 {
		if e.Type != "dir" {
			differ("link count", uint64(st.Nlink), uint64(1))
		}
		return
	}
	differ("link count", uint64(st.Nlink), e.Nlink)
	if c.except != nil && c.except(e, "hard links") {
		return
	}
	if c.links[e.Group] == nil {
		c.links[e.Group] = make(map[uint64]struct{})
	}
	c.links[e.Group][st.Ino] = struct{}{}
}

func (c *comparison) xattrs(path, full string, e *entry) {
	got, err := xattrs(full)
	if err != nil {
		c.fail(e, path, err)
		return
	}
	want := make(map[string][]byte, len(e.Xattrs))
	for name, value := range e.Xattrs {
		raw, err := base64.StdEncoding.DecodeString(name)
		c.fail(e, path, err)
		if c.trusted || !strings.HasPrefix(string(raw), "trusted.") {
			want[string(raw)] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		value, ok := got[name]
		switch {
		case !ok:
			c.differ(e, path, "xattr", fmt.Sprintf("%q is missing", name))
		case !bytes.Equal(value, want[name]):
			c.differ(e, path, "xattr", fmt.Sprintf("%q: got %.80q, want %.80q", name, value, want[name]))
		}
		delete(got, name)
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		c.differ(e, path, "xattr", fmt.Sprintf("%q is extra", name))
	}
}

// xattrs returns all extended attributes of a file.
func xattrs(path string) (map[string][]byte, error) {
	buf := make([]byte, 64<<10)
	n, err := llistxattr(path, buf)
	if err != nil {
		return nil, &os.PathError{Op: "listxattr", Path: path, Err: err}
	}
	out := make(map[string][]byte)
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := lgetxattr(path, name, value)
		if err != nil {
			return nil, &os.PathError{Op: "getxattr " + name, Path: path, Err: err}
		}
		out[name] = value[:n]
	}
	return out, nil
}

// file compares a file that is a whole image, blob or log.
func (c *comparison) file(e *entry) {
	var st unix.Stat_t
	if err := lstat(c.root, &st); err != nil {
		c.fail(e, "", &os.PathError{Op: "lstat", Path: c.root, Err: err})
		return
	}
	if kind := kinds[st.Mode&unix.S_IFMT]; kind != "file" {
		c.differ(e, "", "type", "got "+kind+", want file")
		return
	}
	if st.Size != e.Size {
		c.differ(e, "", "size", fmt.Sprintf("got %d, want %d", st.Size, e.Size))
	}
	got, err := digest(c.root)
	c.fail(e, "", err)
	if err == nil && got != e.SHA256 {
		c.differ(e, "", "content", fmt.Sprintf("got %s, want %s", got, e.SHA256))
	}
}

// digest returns the SHA-256 of a file's content.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	// Without ReadFrom or WriteTo: plain reads of that size.
	_, err = io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

// reportDifferences fails the test for differences, and shows the first ones.
func reportDifferences(t *testing.T, name string, found []difference) {
	t.Helper()
	for i, d := range found {
		if i == 10 {
			t.Errorf("%s: %d differences in all", name, len(found))
			return
		}
		t.Errorf("%s: %v", name, d)
	}
}
