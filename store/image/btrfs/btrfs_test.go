package btrfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

func open(r io.ReaderAt, size int64) (image.FileSystem, error) {
	fs, err := Open(r, size)
	if err != nil {
		return nil, err
	}
	return fs, nil
}

// format returns a format that mkfs.btrfs makes, and how it is mounted.
func format(mount string, options ...string) imagetest.Format {
	return imagetest.Format{
		Type: "btrfs", Size: 300 << 20, Mount: mount,
		Mkfs: append([]string{"mkfs.btrfs", "-q"}, options...),
	}
}

// source is an image in memory.
type source []byte

func (s source) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(s)) {
		return 0, io.EOF
	}
	if n := copy(p, s[off:]); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}

// small returns an image of 16 MiB, changed by fn while it is mounted.
func small(t testing.TB, mount string, fn func(dir string), options ...string) source {
	t.Helper()
	f := format(mount, append([]string{"--mixed"}, options...)...)
	f.Size = 16 << 20
	im := imagetest.New(t, f)
	im.Update(t, fn)
	p, err := os.ReadFile(im.Path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// bitOfEverything fills a small image.
func bitOfEverything(t testing.TB) func(dir string) {
	return func(dir string) {
		imagetest.Populate(t, dir, imagetest.Content{
			Entries: 30, Deep: 5, Big: 200 << 10, Lacks: imagetest.LackUnwritten | imagetest.LackOwners,
		})
		sub := dir + "/sub"
		btrfs(t, "subvolume", "create", sub)
		btrfs(t, "subvolume", "create", sub+"/below")
		for i := range 20 {
			must(t, os.WriteFile(fmt.Sprintf("%s/%d", sub, i), imagetest.Noise(i*100, 1), 0o600))
		}
		btrfs(t, "subvolume", "snapshot", sub, dir+"/snapshot")
	}
}

func btrfs(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("btrfs", args...).CombinedOutput(); err != nil {
		t.Fatalf("btrfs %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func opened(t testing.TB, r io.ReaderAt, size int64) *FS {
	t.Helper()
	fs, err := Open(r, size)
	must(t, err)
	return fs
}

// at returns what lies at a path.
func at(t testing.TB, fs image.FileSystem, r io.ReaderAt, path string) uint64 {
	t.Helper()
	n := fs.Root()
	for name := range strings.SplitSeq(path, "/") {
		e, err := fs.Lookup(r, n, name)
		if err != nil {
			t.Fatalf("look up %q of %q: %v", name, path, err)
		}
		n = e.Number
	}
	return n
}

func TestEverythingIsAsTheKernelShowsIt(t *testing.T) {
	for name, c := range map[string]struct {
		imagetest.Format
		entries int
	}{
		"default":                     {format(""), 400},
		"zlib":                        {format("compress-force=zlib", "--csum", "xxhash"), 50},
		"lzo":                         {format("compress-force=lzo", "--csum", "sha256"), 50},
		"zstd":                        {format("compress-force=zstd", "--csum", "blake2"), 50},
		"holes as items, small nodes": {format("", "-O", "^no-holes", "--nodesize", "4096"), 200},
		"mixed chunks, large nodes":   {format("nodatasum", "--mixed"), 50},
		"largest nodes":               {format("compress=zstd", "--nodesize", "65536", "-d", "dup"), 50},
	} {
		t.Run(name, func(t *testing.T) {
			im := imagetest.New(t, c.Format)
			im.Update(t, func(dir string) {
				imagetest.Populate(t, dir, imagetest.Content{Entries: c.entries})
				text := []byte(strings.Repeat("a line that is like others; ", 30000))
				must(t, os.WriteFile(dir+"/text", text, 0o600), os.WriteFile(dir+"/a-line", text[:1000], 0o600), os.WriteFile(dir+"/lines", text[:5000], 0o600))
			})
			im.Compare(t, open)
		})
	}
}

func TestLabelAndUUIDAreAsBlkidShowsThem(t *testing.T) {
	const uuid, other = "01234567-89ab-cdef-0123-456789abcdef", "11234567-89ab-cdef-0123-456789abcdef"
	im := imagetest.New(t, format("", "-L", "a label", "-U", uuid))
	for want := range strings.SplitSeq(uuid+" "+other, " ") {
		f, size := im.Open(t)
		fs := opened(t, f, size)
		if fs.Name() != "btrfs" || fs.Label() != "a label" || fs.UUID() != want || fs.Note() != "" || fs.LogDirty() {
			t.Errorf("%q, %q, %q, %q", fs.Name(), fs.Label(), fs.UUID(), fs.Note())
		}
		if list, err := fs.Entries(f, fs.Root()); len(list) > 0 || err != nil {
			t.Errorf("%v, %v", list, err)
		}
		// The blocks keep the old UUID.
		if out, err := exec.Command("btrfstune", "-M", other, im.Path).CombinedOutput(); err != nil {
			t.Skipf("btrfstune: %v: %s", err, out)
		}
	}
}

func TestSubvolumesAreEnteredWhereTheyAreMounted(t *testing.T) {
	im := imagetest.New(t, format(""))
	im.Update(t, func(dir string) {
		top := dir + "/@"
		btrfs(t, "subvolume", "create", top)
		btrfs(t, "subvolume", "create", top+"/var")
		btrfs(t, "subvolume", "create", top+"/var/log")
		must(t, os.WriteFile(top+"/file", []byte("old"), 0o600), os.WriteFile(top+"/var/file", []byte("in var"), 0o600))
		must(t, os.Chown(top, 7, 8), os.WriteFile(dir+"/outside", nil, 0o600))
		btrfs(t, "subvolume", "snapshot", "-r", top, top+"/var/snapshot")
		must(t, os.WriteFile(top+"/file", []byte("new"), 0o600))
		btrfs(t, "subvolume", "create", top+"/moved")
		must(t, os.Rename(top+"/moved", top+"/var/other"))
		btrfs(t, "subvolume", "set-default", top)
	})
	f, size := im.Open(t)
	fsys := opened(t, f, size)
	for path, want := range map[string]string{"file": "new", "var/file": "in var", "var/snapshot/file": "old"} {
		c, err := fsys.Open(f, at(t, fsys, f, path))
		must(t, err)
		p := make([]byte, c.Size())
		if _, err := c.ReadAt(f, p, 0); string(p) != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", path, p, err, want)
		}
	}
	empty := at(t, fsys, f, "var/snapshot/var")
	in, err := fsys.Inode(f, empty)
	if err != nil || in.Mode != image.Dir|0o755 || in.Nlink != 1 || in.Size != 0 || in.UID != 7 || in.GID != 8 || in.Number != empty {
		t.Errorf("%+v, %v", in, err)
	}
	list, err := fsys.Entries(f, empty)
	attributes, err2 := fsys.Xattrs(f, empty)
	_, err3 := fsys.Lookup(f, empty, "log")
	if len(list)+len(attributes) > 0 || err != nil || err2 != nil || !errors.Is(err3, fs.ErrNotExist) {
		t.Errorf("in place of a subvolume: %v, %v, %v, %v, %v", list, err, attributes, err2, err3)
	}
	if _, err := fsys.Open(f, empty); !errors.Is(err, corrupt.Err) {
		t.Errorf("opened: %v", err)
	}
	numbers := map[uint64]string{}
	for path := range strings.SplitSeq("var|var/log|var/other|var/snapshot|var/snapshot/var|file|var/file|var/snapshot/file", "|") {
		n := at(t, fsys, f, path)
		if numbers[n] != "" {
			t.Errorf("%s and %s have the number %d", path, numbers[n], n)
		}
		numbers[n] = path
	}
	// Without the snapshot, which shows the time of the mount, all of it is as the kernel shows it.
	im.Lacks = imagetest.LackInodeNumbers
	im.Update(t, func(dir string) { btrfs(t, "subvolume", "delete", dir+"/var/snapshot") })
	im.Compare(t, open)
	im.Update(t, func(dir string) { btrfs(t, "subvolume", "set-default", "5", dir) })
	im.Compare(t, open)
}

// colliding returns names of which some have the same hash.
func colliding() []string {
	var all []string
	seen := map[uint32]string{}
	for i := uint64(1); len(all) < 6; i++ {
		name := strconv.FormatUint(i*0x9e3779b97f4a7c15, 36)
		if other, ok := seen[hashName("user."+name)]; ok {
			all = append(all, other, name)
		}
		seen[hashName("user."+name)] = name
	}
	return all
}

func TestNamesWithTheSameHash(t *testing.T) {
	names := colliding()
	im := imagetest.New(t, format(""))
	im.Update(t, func(dir string) {
		for i, name := range names {
			must(t, unix.Setxattr(dir, "user."+name, fmt.Append(nil, i), 0), os.WriteFile(dir+"/user."+name, fmt.Append(nil, i), 0o600))
		}
	})
	im.Compare(t, open)
}

func TestLogIsToldOf(t *testing.T) {
	im := imagetest.New(t, format("")).Dirty(t, func(dir string) {
		f, err := os.Create(dir + "/synchronized")
		must(t, err)
		_, err = f.WriteString("content")
		must(t, err, f.Sync(), f.Close())
	})
	f, size := im.Open(t)
	fs := opened(t, f, size)
	if !fs.LogDirty() || !strings.Contains(fs.Note(), "log") {
		t.Errorf("LogDirty = %v, %q", fs.LogDirty(), fs.Note())
	}
	if errs := imagetest.Walk(fs, f, true); len(errs) > 0 {
		t.Error(errs)
	}
}

// What is asked of the wrong kind of object is an error, and so are numbers that no directory names.
func TestNumbersThatNoDirectoryNamesAreErrors(t *testing.T) {
	s := small(t, "", bitOfEverything(t))
	fs := opened(t, s, int64(len(s)))
	for _, number := range []uint64{0, 1, 255, 1 << 40, otherTree - 1, otherTree, otherTree | 4<<objectBits | 300, otherTree | 9999<<objectBits | 300, 1<<64 - 1} {
		if in, err := fs.Inode(s, number); !errors.Is(err, corrupt.Err) {
			t.Errorf("Inode(%d) = %v, %v, want %v", number, in, err, corrupt.Err)
		}
	}
	_, openErr := fs.Open(s, fs.Root())
	_, linkErr := fs.Readlink(s, fs.Root())
	_, listErr := fs.Entries(s, at(t, fs, s, "big"))
	for what, err := range map[string]error{"Open": openErr, "Readlink": linkErr, "Entries": listErr} {
		if !errors.Is(err, corrupt.Err) {
			t.Errorf("%s of another kind of object: %v, want %v", what, err, corrupt.Err)
		}
	}
}

func TestListingReadsLittle(t *testing.T) {
	const names = 3000
	im := imagetest.New(t, format(""))
	im.Update(t, func(dir string) {
		for i := range names {
			must(t, os.WriteFile(fmt.Sprintf("%s/a-file-with-a-name-%06d", dir, i), nil, 0o600))
		}
	})
	f, size := im.Open(t)
	c := &imagetest.Counter{R: f}
	fs := opened(t, c, size)
	imagetest.ReadsLittle(t, fs, c, names, 60, 100)
}

func TestConcurrentUse(t *testing.T) {
	s := small(t, "compress-force=zstd", bitOfEverything(t))
	fs := opened(t, s, int64(len(s)))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if errs := imagetest.Walk(fs, s, true); len(errs) > 0 {
				t.Error(errs)
			}
			if _, err := fs.Lookup(s, fs.Root(), "big"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// The kernel mounts sectors of 64 KiB on few machines: what mkfs.btrfs put there is compared.
func TestLargestSectors(t *testing.T) {
	if _, err := exec.LookPath("mkfs.btrfs"); err != nil {
		t.Skip(err)
	}
	dir, path := t.TempDir(), t.TempDir()+"/image"
	second := time.Unix(1e9, 0) // mkfs.btrfs takes no more of a time
	for i := range 50 {
		name := fmt.Sprintf("%s/%d", dir, i)
		must(t, os.WriteFile(name, imagetest.Noise(i*3000, 1), 0o600), os.Chtimes(name, second, second))
	}
	// The top directory has the time at which it was made.
	out, err := exec.Command("mkfs.btrfs", "-q", "-s", "65536", "-n", "65536", "--rootdir", dir, path).CombinedOutput()
	if err != nil {
		t.Skipf("mkfs.btrfs: %v: %s", err, out)
	}
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	must(t, err)
	fs := opened(t, f, size)
	in, err := fs.Inode(f, fs.Root())
	must(t, err, os.Chtimes(dir, second, time.Unix(in.Mtime.Sec, int64(in.Mtime.Nsec))))
	imagetest.CompareTree(t, fs, f, dir, imagetest.LackInodeNumbers|imagetest.LackBlocks|imagetest.LackHoles|imagetest.LackDirSizes|imagetest.LackNlink)
}
