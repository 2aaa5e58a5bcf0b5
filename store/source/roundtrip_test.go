package source

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// buildTree makes a tree with everything that an archive can have, but flags.
func buildTree(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("empty"), "")
	write(t, at("text"), "hello\n")
	write(t, at("large"), strings.Repeat("0123456789abcdef", 300_000))
	write(t, at("\xff\xfe not UTF-8 \n"), "bytes")
	write(t, at(strings.Repeat("n", 255)), "long name")
	write(t, at(".pxarexclude"), "*\n")
	mkdir(t, at("empty dir"))
	mkdir(t, at("a/b/c"))
	write(t, at("a.txt"), "before a/ in bytes, behind it by path")
	for _, n := range []int{1, 60, 1000, longestLink(t, dir)} {
		must(t, os.Symlink(strings.Repeat("x", n), at(fmt.Sprintf("link of %d", n))))
	}
	must(t, os.Symlink("nowhere", at("a/dangling")))
	must(t, os.Link(at("text"), at("a/b/text again")))
	must(t, os.Link(at("text"), at("zz")))
	must(t, os.Link(at("a/dangling"), at("a/link of link")))
	for i := range 300 {
		write(t, at(fmt.Sprintf("a/b/c/%d", i)), strings.Repeat("x", i))
	}
	sparse(t, at("sparse"), 40<<20, 0, 5<<20, 20<<20+123)
	sparse(t, at("only a hole"), 3<<20)
	must(t, unix.Mkfifo(at("fifo"), 0o640))
	must(t, unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0))
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(at("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70_000))))

	must(t, os.Lchown(at("a/dangling"), 1000, 2000), os.Lchown(at("text"), 1<<31+5, 70_000), os.Lchown(at("a"), 33, 33))
	must(t, unix.Chmod(at("empty"), 0o6755), unix.Chmod(at("a"), 0o3711), unix.Chmod(at("fifo"), 0))
	xattr(t, at("text"), "user.one", "1")
	xattr(t, at("text"), "user.empty", "")
	xattr(t, at("text"), "user.long", strings.Repeat("v", 3000))
	xattr(t, at("text"), "trusted.secret", "\x00\xff")
	xattr(t, at("a/dangling"), "trusted.of.link", "yes")
	xattr(t, at("null"), "trusted.of.device", "yes")
	xattr(t, at("socket"), "trusted.of.socket", "yes")
	xattr(t, dir, "user.of.root", "yes")
	xattr(t, at("large"), "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	run(t, "setfacl", "-m", "u:1234:rw,g:4321:r,m::rwx", at("text"))
	run(t, "setfacl", "-m", "u:1:rwx,d:u:2:rx,d:g:3:-,d:o::-", at("a/b"))
	run(t, "setfacl", "-m", "g:5:x", at("fifo"))

	for name, when := range map[string]time.Time{
		"empty": time.Unix(-1, 999_999_999), "text": time.Unix(-1_000_000, 1), "fifo": time.Unix(0, 0),
		"a/dangling": time.Unix(1_234_567_890, 123_456_789), "a/b": time.Unix(5_000_000_000, 5), ".": time.Unix(1, 500),
	} {
		ts, err := unix.TimeToTimespec(when)
		must(t, err)
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at(name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// longestLink returns how long a symbolic link may be where dir is.
func longestLink(t *testing.T, dir string) int {
	t.Helper()
	switch fd, err := unix.Open(dir, unix.O_RDONLY, 0); fsType(fd) {
	case unix.EXT4_SUPER_MAGIC:
		must(t, err, unix.Close(fd))
		return 4095
	default:
		must(t, err, unix.Close(fd))
		return 1023
	}
}

// sparse makes a file of a size with some data at each of the offsets.
func sparse(t *testing.T, path string, size int64, offs ...int64) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
	for _, off := range offs {
		_, err := f.WriteAt([]byte(fmt.Sprint("data at ", off)), off)
		must(t, err)
	}
}

func xattr(t *testing.T, path, name, value string) {
	t.Helper()
	if err := unix.Lsetxattr(path, name, []byte(value), 0); err != nil {
		t.Fatalf("%s %s: %v", path, name, err)
	}
}

// Everything that stat, readlink, listxattr and reading say of the tree is in
// the archive, and nothing else.
func TestArchiveEqualsTree(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := mkdir(t, fileSystem(t, kind, 400), "tree")
			buildTree(t, dir)
			files, bytes, err := open(t, dir).Total(t.Context(), Options{})
			must(t, err)
			for _, a := range both(t, dir, Options{}) {
				order, objects := a.decode(t)
				checkOrder(t, order)
				checkTree(t, dir, objects)
				if a.files != files || a.bytes != bytes || int(files) != len(objects)-1 {
					t.Errorf("progress of %d entries, %d bytes, want %d, %d, and %d entries", a.files, a.bytes, files, bytes, len(objects)-1)
				}
				if a.catalog.Len() > 0 {
					checkCatalog(t, objects, a.listed(t))
				}
			}
		})
	}
}

// checkOrder checks that names are in the order of their bytes.
func checkOrder(t *testing.T, order []string) {
	t.Helper()
	byNames := func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) }
	if !slices.IsSortedFunc(order, byNames) {
		t.Errorf("not in order: %q", order)
	}
}

func checkTree(t *testing.T, dir string, objects map[string]object) {
	t.Helper()
	first := make(map[uint64]string) // path by inode number of regular files
	count := 0
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		must(t, err)
		rel := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		o, ok := objects[rel]
		if !ok {
			t.Errorf("%q is not in the archive", rel)
			return nil
		}
		count++
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		checkObject(t, path, &st, o)
		if typeOf(&st) == unix.S_IFREG {
			other, linked := first[st.Ino]
			if o.Link != linked || linked && o.NamePos != objects[other].NamePos {
				t.Errorf("%q: hard link %v to %d, want %v, to %q", rel, o.Link, o.NamePos, linked, other)
			}
			if !linked {
				first[st.Ino] = rel
			}
		}
		return nil
	}))
	if count != len(objects) {
		t.Errorf("%d entries, want %d", len(objects), count)
	}
}

func checkObject(t *testing.T, path string, st *unix.Stat_t, o object) {
	t.Helper()
	if o.Mode != st.Mode || o.UID != st.Uid || o.GID != st.Gid {
		t.Errorf("%q: %#o %d:%d, want %#o %d:%d", path, o.Mode, o.UID, o.GID, st.Mode, st.Uid, st.Gid)
	}
	if want := (pxar.Timestamp{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}); o.Mtime != want {
		t.Errorf("%q: modified %v, want %v", path, o.Mtime, want)
	}
	got := make(map[string]string)
	for _, x := range o.Attributes() {
		got[x.Name] = string(x.Value)
	}
	if want := attrs(t, path); !maps.Equal(got, want) {
		t.Errorf("%q: attributes %q, want %q", path, got, want)
	}
	switch typeOf(st) {
	case unix.S_IFREG:
		want, err := os.ReadFile(path)
		must(t, err)
		if o.data != string(want) {
			t.Errorf("%q: %d bytes, want others, %d", path, len(o.data), len(want))
		}
	case unix.S_IFLNK:
		want, err := os.Readlink(path)
		must(t, err)
		if o.Target != want {
			t.Errorf("%q: leads to %q, want %q", path, o.Target, want)
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if want := (pxar.Device{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}); o.Device != want {
			t.Errorf("%q: device %v, want %v", path, o.Device, want)
		}
	}
}

// checkCatalog checks that a catalog lists what the archive has.
func checkCatalog(t *testing.T, objects map[string]object, listed map[string]catalog.Entry) {
	t.Helper()
	kinds := map[uint32]catalog.Kind{
		pxar.TypeDir: catalog.Dir, pxar.TypeRegular: catalog.File, pxar.TypeSymlink: catalog.Symlink, pxar.TypeFIFO: catalog.Fifo,
		pxar.TypeSocket: catalog.Socket, pxar.TypeCharDevice: catalog.CharDevice, pxar.TypeBlockDevice: catalog.BlockDevice,
	}
	for path, o := range objects {
		if path == "" {
			continue
		}
		want := catalog.Entry{Name: filepath.Base(path), Kind: kinds[o.Type()]}
		if o.Link {
			want.Kind = catalog.HardLink
		} else if want.Kind == catalog.File {
			want.Size, want.Mtime = uint64(len(o.data)), o.Mtime.Sec
		}
		if got := listed[path]; got != want {
			t.Errorf("catalog has %+v of %q, want %+v", got, path, want)
		}
	}
	if len(listed) != len(objects)-1 {
		t.Errorf("catalog with %d entries, want %d", len(listed), len(objects)-1)
	}
}

// Flags of chattr.
const (
	flagAppend     = 0x20
	flagNoAtime    = 0x80
	flagNoDump     = 0x40
	flagImmutable  = 0x10
	flagSync       = 0x8
	flagCompress   = 0x4
	flagNoCow      = 0x800000
	flagNoCompress = 0x400
	flagDirSync    = 0x10000
)

func TestFlags(t *testing.T) {
	for kind, stored := range map[string]map[int]uint64{
		"ext4": {
			flagAppend: 0x10000, flagNoAtime: 0x20000, flagNoDump: 0x100000,
			flagImmutable: 0x400000, flagSync: 0x800000, flagAppend | flagNoDump: 0x110000,
		},
		"xfs":   {flagNoDump: 0x100000, flagImmutable: 0x400000},
		"btrfs": {flagCompress: 0x40000, flagNoCow: 0x80000, flagNoCompress: 0x1000000},
	} {
		t.Run(kind, func(t *testing.T) {
			dir := fileSystem(t, kind, 400)
			want := map[string]uint64{"": 0, "dir": 0x20000}
			if kind == "ext4" {
				want["dir"] |= 0x200000
			}
			for linux, flags := range stored {
				name := fmt.Sprintf("%#x", linux)
				write(t, filepath.Join(dir, name), "")
				setFlags(t, filepath.Join(dir, name), linux)
				want[name] = flags
			}
			setFlags(t, mkdir(t, dir, "dir"), flagNoAtime|map[bool]int{true: flagDirSync}[kind == "ext4"])
			for _, a := range both(t, dir, Options{}) {
				_, objects := a.decode(t)
				for name, flags := range want {
					if got := objects[name].Entry; got == nil || got.Flags != flags {
						t.Errorf("%q: %+v, want flags %#x", name, got, flags)
					}
				}
			}
			for linux := range stored { // so that the file system can be used
				setFlags(t, filepath.Join(dir, fmt.Sprintf("%#x", linux)), 0)
			}
		})
	}
}

func setFlags(t *testing.T, path string, flags int) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	old, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	must(t, err)
	const ours = flagAppend | flagNoAtime | flagNoDump | flagImmutable | flagSync | flagCompress | flagNoCow | flagNoCompress | flagDirSync
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(old)&^ours|flags); err != nil {
		t.Fatalf("%s: flags %#x: %v", path, flags, err)
	}
}

func TestQuotaProject(t *testing.T) {
	dir := fileSystem(t, "xfs", 400)
	write(t, filepath.Join(dir, "file"), "")
	write(t, filepath.Join(dir, "none"), "")
	setProject(t, filepath.Join(dir, "file"), 4711)
	setProject(t, mkdir(t, dir, "dir"), 1<<31+1)
	for _, a := range both(t, dir, Options{}) {
		_, objects := a.decode(t)
		for name, want := range map[string]uint32{"file": 4711, "none": 0, "dir": 1<<31 + 1, "": 0} {
			if got := objects[name].ProjectID; got != want {
				t.Errorf("%q: project %d, want %d", name, got, want)
			}
		}
	}
}

func setProject(t *testing.T, path string, id uint32) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	x := fsxattr{project: id}
	const request = 0x401c5820 // FS_IOC_FSSETXATTR
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&x))); errno != 0 {
		t.Fatalf("%s: project %d: %v", path, id, errno)
	}
}

// A second run of an unchanged tree gives the same bytes.
func TestSameTreeGivesSameBytes(t *testing.T) {
	needRoot(t)
	dir := mkdir(t, fileSystem(t, "ext4", 400), "tree")
	buildTree(t, dir)
	for i, a := range both(t, dir, Options{}) {
		b := both(t, dir, Options{})[i]
		if !bytes.Equal(a.meta.Bytes(), b.meta.Bytes()) || !bytes.Equal(a.payload.Bytes(), b.payload.Bytes()) || !bytes.Equal(a.catalog.Bytes(), b.catalog.Bytes()) {
			t.Errorf("split %v: other bytes", i == 1)
		}
	}
}
