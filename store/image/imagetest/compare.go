package imagetest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/image"
)

// comparison is one walk through both trees.
type comparison struct {
	testing.TB
	fsys  image.FileSystem
	r     io.ReaderAt
	lacks Lack
	found int // differences

	got, want []byte // for content and attributes
}

// CompareTree compares what a decoder shows with the tree mounted at dir.
func CompareTree(t testing.TB, fsys image.FileSystem, r io.ReaderAt, dir string, lacks Lack) {
	t.Helper()
	c := &comparison{t, fsys, r, lacks, 0, make([]byte, 256<<10), make([]byte, 256<<10)}
	type pair struct {
		path   string
		number uint64
	}
	objects := 0
	for queue := []pair{{dir, fsys.Root()}}; len(queue) > 0 && c.found < 30; {
		p := queue[0]
		queue = queue[1:]
		objects++
		if !c.object(p.path, p.number) {
			continue
		}
		for _, e := range c.entries(p.path, p.number) {
			queue = append(queue, pair{p.path + "/" + e.Name, e.Number})
		}
	}
	t.Logf("%d objects compared", objects)
}

func (c *comparison) differ(path, format string, args ...any) {
	c.Helper()
	c.found++
	c.Errorf("%.300q: %s", path, fmt.Sprintf(format, args...))
}

// object compares one object, and says whether it is a directory.
func (c *comparison) object(path string, number uint64) bool {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		c.Fatal(err)
	}
	in, err := c.fsys.Inode(c.r, number)
	if err != nil {
		c.differ(path, "Inode(%d): %v", number, err)
		return false
	}
	c.attributes(path, &st, in)
	c.compareXattrs(path, number)
	switch in.Type() {
	case image.Symlink:
		want, err := os.Readlink(path)
		if err != nil {
			c.Fatal(err)
		}
		if got, err := c.fsys.Readlink(c.r, number); got != want || err != nil {
			c.differ(path, "Readlink = %q, %v, want %q", got, err, want)
		}
	case image.Regular:
		c.content(path, number, st.Size)
	}
	return in.Type() == image.Dir
}

func (c *comparison) attributes(path string, st *unix.Stat_t, in *image.Inode) {
	equal := func(what string, got, want any, unless Lack) {
		if got != want && c.lacks&unless == 0 {
			c.differ(path, "%s = %v, want %v", what, got, want)
		}
	}
	device := image.Device{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
	equal("Type", in.Type(), st.Mode&image.TypeMask, 0)
	equal("Mode", fmt.Sprintf("%o", in.Mode), fmt.Sprintf("%o", st.Mode), LackOwners)
	equal("Number", in.Number, st.Ino, LackInodeNumbers)
	equal("Nlink", in.Nlink, uint32(st.Nlink), LackNlink)
	equal("UID", in.UID, st.Uid, LackOwners)
	equal("GID", in.GID, st.Gid, LackOwners)
	equal("Rdev", in.Rdev, device, LackSpecial)
	equal("Blocks", in.Blocks, st.Blocks, LackBlocks)
	equal("Mtime", in.Mtime, image.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}, 0)
	if in.Type() != image.Dir || c.lacks&LackDirSizes == 0 {
		equal("Size", in.Size, st.Size, 0)
	}
}

// kernelXattrs returns what the kernel shows to root.
func (c *comparison) kernelXattrs(path string) map[string]string {
	all := map[string]string{}
	list, value := c.got[:64<<10], c.want[:64<<10]
	n, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return all
	}
	if err != nil {
		c.Fatalf("listxattr %q: %v", path, err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			c.Fatalf("getxattr %q %s: %v", path, name, err)
		}
		all[name] = string(value[:n])
	}
	return all
}

func (c *comparison) compareXattrs(path string, number uint64) {
	if c.lacks&LackXattrs != 0 {
		return
	}
	want := c.kernelXattrs(path)
	list, err := c.fsys.Xattrs(c.r, number)
	got := map[string]string{}
	for _, x := range list {
		got[x.Name] = string(x.Value)
	}
	sorted := slices.IsSortedFunc(list, func(a, b image.Xattr) int { return strings.Compare(a.Name, b.Name) })
	if err != nil || !maps.Equal(got, want) || len(got) != len(list) || !sorted {
		c.differ(path, "Xattrs = %.200q (sorted: %v), %v, want %.200q", list, sorted, err, want)
	}
}

// entries compares a directory and returns the entries that both have.
func (c *comparison) entries(path string, number uint64) []image.Entry {
	want := map[string]uint64{} // type
	list, err := os.ReadDir(path)
	if err != nil {
		c.Fatal(err)
	}
	for _, e := range list {
		want[e.Name()] = uint64(kernelType(e.Type()))
	}
	got, err := c.fsys.Entries(c.r, number)
	if err != nil {
		c.differ(path, "Entries: %v", err)
	}
	var both []image.Entry
	for _, e := range got {
		kind, ok := want[e.Name]
		delete(want, e.Name)
		if !ok {
			c.differ(path, "entry %q, which is not there or twice", e.Name)
			continue
		}
		if e.Type != 0 && uint64(e.Type) != kind {
			c.differ(path, "type of entry %q = %o, want %o", e.Name, e.Type, kind)
		}
		if found, err := c.fsys.Lookup(c.r, number, e.Name); err != nil || found != e {
			c.differ(path, "Lookup(%q) = %v, %v, want %v", e.Name, found, err, e)
		}
		both = append(both, e)
	}
	for name := range want {
		c.differ(path, "no entry %q", name)
	}
	for _, name := range []string{"is not there", ".", "..", ""} {
		if e, err := c.fsys.Lookup(c.r, number, name); !errors.Is(err, fs.ErrNotExist) {
			c.differ(path, "Lookup(%q) = %v, %v, want fs.ErrNotExist", name, e, err)
		}
	}
	return both
}

func kernelType(m fs.FileMode) uint32 {
	switch {
	case m&fs.ModeDir != 0:
		return image.Dir
	case m&fs.ModeSymlink != 0:
		return image.Symlink
	case m&fs.ModeNamedPipe != 0:
		return image.Fifo
	case m&fs.ModeSocket != 0:
		return image.Socket
	case m&fs.ModeCharDevice != 0:
		return image.CharDevice
	case m&fs.ModeDevice != 0:
		return image.BlockDevice
	default:
		return image.Regular
	}
}
