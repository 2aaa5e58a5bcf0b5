package ext

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

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

// format returns a format that mke2fs makes: its type, and more options.
func format(kind string, options ...string) imagetest.Format {
	f := imagetest.Format{Type: kind, Size: 80 << 20}
	f.Mkfs = append([]string{"mke2fs", "-q", "-F", "-t", kind, "-E", "nodiscard,lazy_itable_init=0"}, options...)
	if kind != "ext4" {
		f.Lacks = imagetest.LackUnwritten
	}
	return f
}

func TestEverythingIsAsTheKernelShowsIt(t *testing.T) {
	for name, c := range map[string]struct {
		imagetest.Format
		entries int
	}{
		"ext2":                             {format("ext2", "-b", "1024"), 300},
		"ext2 without types and hash tree": {format("ext2", "-b", "4096", "-O", "^filetype,^dir_index"), 300},
		"ext3":                             {format("ext3", "-b", "4096"), 500},
		"ext3, deep hash tree":             {format("ext3", "-b", "1024"), 2500},
		"ext4":                             {format("ext4", "-b", "4096"), 1000},
		"ext4, deep hash tree":             {format("ext4", "-b", "1024", "-O", "large_dir"), 3000},
		"ext4 of 2023":                     {format("ext4", "-b", "2048", "-O", "metadata_csum_seed,orphan_file"), 300},
		"ext4 without checksums":           {format("ext4", "-b", "1024", "-I", "128", "-O", "^metadata_csum,^64bit,^extra_isize"), 300},
		"checksums of descriptors":         {format("ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"), 300},
		"inline data":                      {format("ext4", "-b", "1024", "-I", "256", "-O", "inline_data"), 300},
		"inline data, large inodes":        {format("ext4", "-b", "4096", "-I", "1024", "-O", "inline_data,ea_inode"), 300},
		"values in inodes":                 {format("ext4", "-b", "1024", "-O", "ea_inode"), 60},
		"values in inodes, no checksums":   {format("ext4", "-b", "4096", "-O", "ea_inode,^metadata_csum"), 60},
		"clusters":                         {format("ext4", "-b", "1024", "-C", "16384", "-O", "bigalloc", "-N", "4096"), 60},
		"groups of descriptors":            {format("ext4", "-b", "1024", "-g", "1024", "-O", "meta_bg,^resize_inode"), 300},
		"two copies":                       {format("ext4", "-b", "1024", "-g", "2048", "-O", "meta_bg,^resize_inode,sparse_super2,^sparse_super"), 60},
	} {
		t.Run(name, func(t *testing.T) {
			im := imagetest.New(t, c.Format)
			im.Update(t, func(dir string) {
				imagetest.Populate(t, dir, imagetest.Content{Lacks: c.Lacks, Entries: c.entries})
			})
			im.Compare(t, open)
		})
	}
}

func TestLabelAndUUIDAreAsBlkidShowsThem(t *testing.T) {
	for kind, features := range map[string]string{"ext2": "^ext_attr", "ext3": "ext_attr", "ext4": "extent"} {
		const uuid = "01234567-89ab-cdef-0123-456789abcdef"
		f, size := imagetest.New(t, format(kind, "-L", "a label", "-U", uuid, "-O", features)).Open(t)
		fs, err := Open(f, size)
		if err != nil {
			t.Fatal(err)
		}
		if fs.Name() != kind || fs.Label() != "a label" || fs.UUID() != uuid || fs.Note() != "" {
			t.Errorf("%s: %q, %q, %q, %q", kind, fs.Name(), fs.Label(), fs.UUID(), fs.Note())
		}
	}
}

// smallImage returns an image of a few MiB in memory, with a bit of everything. It needs no root.
func smallImage(t testing.TB, options ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("mke2fs"); err != nil {
		t.Skipf("no mke2fs: %v", err)
	}
	dir, path := t.TempDir(), t.TempDir()+"/image"
	imagetest.Populate(t, dir, imagetest.Content{
		Entries: 70, Deep: 5, Big: 30 << 10,
		Lacks: imagetest.LackSpecial | imagetest.LackOwners | imagetest.LackXattrs | imagetest.LackACLs | imagetest.LackHoles | imagetest.LackUnwritten,
	})
	if err := errors.Join(os.Remove(dir+"/links/1023"), os.Remove(dir+"/links/4000")); err != nil { // too long for the block size
		t.Fatal(err)
	}
	command := append([]string{"-q", "-F", "-b", "1024", "-N", "700", "-J", "size=1", "-d", dir}, options...)
	if out, err := exec.Command("mke2fs", append(command, path, "4M")...).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
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

// setSuper changes the superblock, and its checksum, in a copy.
func (s source) setSuper(change func(p []byte)) source {
	s = append(source{}, s...)
	p := s[superblockOff:][:superblockSize]
	change(p)
	binary.LittleEndian.PutUint32(p[0x3fc:], chksum(math.MaxUint32, p[:0x3fc]))
	return s
}

func TestWhatIsNotKnownIsRefused(t *testing.T) {
	s := source(smallImage(t, "-t", "ext4"))
	or := func(field int, bits uint32) func(p []byte) {
		return func(p []byte) {
			binary.LittleEndian.PutUint32(p[field:], binary.LittleEndian.Uint32(p[field:])|bits)
		}
	}
	for name, c := range map[string]struct {
		change func(p []byte)
		want   error
	}{
		"nothing":            {func([]byte) {}, nil},
		"read-only feature":  {or(0x64, 1<<30), nil},
		"compatible feature": {or(0x5c, 1<<30), nil},
		"compression":        {or(0x60, incompatCompression), image.ErrUnsupported},
		"journal":            {or(0x60, incompatJournalDev), image.ErrUnsupported},
		"new feature":        {or(0x60, 1<<30), image.ErrUnsupported},
		"checksums":          {func(p []byte) { p[0x175] = 2 }, image.ErrUnsupported},
		"revision":           {func(p []byte) { p[0x4c] = 2 }, image.ErrUnsupported},
		"magic":              {func(p []byte) { p[0x38]++; clear(p[0x68:0x78]) }, image.ErrUnknown},
		"no groups":          {func(p []byte) { clear(p[0x20:0x24]); clear(p[0x68:0x78]) }, corrupt.Err},
		"inode size":         {func(p []byte) { p[0x58]++; clear(p[0x68:0x78]) }, corrupt.Err},
		"number of inodes":   {func(p []byte) { p[0]++; clear(p[0x68:0x78]) }, corrupt.Err},
	} {
		changed := s.setSuper(c.change)
		if _, err := Open(changed, int64(len(changed))); !errors.Is(err, c.want) {
			t.Errorf("%s: Open = %v, want %v", name, err, c.want)
		}
	}
	for _, n := range []int{0, 1024, 2047} {
		if _, err := Open(s[:n], int64(n)); !errors.Is(err, image.ErrUnknown) {
			t.Errorf("Open of %d bytes = %v, want %v", n, err, image.ErrUnknown)
		}
	}
}

func TestCopyOfADamagedSuperblockIsUsed(t *testing.T) {
	small := source(smallImage(t, "-t", "ext4", "-g", "1024"))
	for name, change := range map[string]func(p []byte){
		"checksum": func(p []byte) { p[0x3fc]++ },
		"size":     func(p []byte) { p[0x58]++ },
	} {
		s := append(source{}, small...)
		change(s[superblockOff:][:superblockSize])
		fs, err := Open(s, int64(len(s)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if errs := imagetest.Walk(fs, s, true); len(errs) > 0 || !strings.Contains(fs.Note(), "a copy of it is used") {
			t.Errorf("%s: %q, %v", name, fs.Note(), errs)
		}
	}
	// Where nothing says how large a group is, the copy is where it is by default.
	im := imagetest.New(t, format("ext4", "-b", "1024"))
	f, size := im.Open(t)
	p := make([]byte, size)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	p[superblockOff+0x38]++
	fs, err := Open(source(p), size)
	if err != nil || fs.Note() == "" {
		t.Errorf("wrong magic: %v", err)
	}
	clear(p[superblockOff:][:superblockSize])
	if _, err := Open(source(p), size); !errors.Is(err, image.ErrUnknown) {
		t.Errorf("with no superblock, but an old copy: %v, want %v", err, image.ErrUnknown)
	}
}

func TestEncryptedObjectsAreRefused(t *testing.T) {
	path := t.TempDir() + "/image"
	if err := os.WriteFile(path, smallImage(t, "-t", "ext4", "-O", "encrypt"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/names", "/names/lower.txt", "/links/1", "/links/100"} {
		if out, err := exec.Command("debugfs", "-w", "-R", "set_inode_field "+name+" flags 0x80800", path).CombinedOutput(); err != nil {
			t.Skipf("debugfs: %v: %s", err, out)
		}
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := source(p)
	fs, err := Open(s, int64(len(s)))
	if err != nil {
		t.Fatal(err)
	}
	top := lookup(t, fs, s, "names")
	if list, err := fs.Entries(s, top); !errors.Is(err, image.ErrEncrypted) || len(list) > 0 {
		t.Errorf("Entries = %v, %v, want %v", list, err, image.ErrEncrypted)
	}
	if _, err := fs.Lookup(s, top, "lower.txt"); !errors.Is(err, image.ErrEncrypted) {
		t.Errorf("Lookup: %v, want %v", err, image.ErrEncrypted)
	}
	if in, err := fs.Inode(s, top); err != nil || in.Type() != image.Dir {
		t.Errorf("Inode = %v, %v", in, err)
	}
	links := lookup(t, fs, s, "links")
	for _, name := range []string{"1", "100"} {
		e, err := fs.Lookup(s, links, name)
		if err != nil {
			t.Fatal(err)
		}
		if target, err := fs.Readlink(s, e.Number); !errors.Is(err, image.ErrEncrypted) {
			t.Errorf("Readlink = %q, %v, want %v", target, err, image.ErrEncrypted)
		}
	}
}

func lookup(t *testing.T, fs *FS, r io.ReaderAt, name string) uint64 {
	t.Helper()
	e, err := fs.Lookup(r, fs.Root(), name)
	if err != nil {
		t.Fatal(err)
	}
	return e.Number
}

// What is asked of the wrong kind of object is an error, and so are numbers that no directory names.
func TestNumbersThatNoDirectoryNamesAreErrors(t *testing.T) {
	s := source(smallImage(t, "-t", "ext4"))
	fs, err := Open(s, int64(len(s)))
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []uint64{0, 1, 7, 8, 10, fs.inodes, fs.inodes + 1, math.MaxUint64} {
		if in, err := fs.Inode(s, number); !errors.Is(err, corrupt.Err) {
			t.Errorf("Inode(%d) = %v, %v, want %v", number, in, err, corrupt.Err)
		}
	}
	_, openErr := fs.Open(s, fs.Root())
	_, linkErr := fs.Readlink(s, fs.Root())
	_, listErr := fs.Entries(s, lookup(t, fs, s, "big"))
	for what, err := range map[string]error{"Open": openErr, "Readlink": linkErr, "Entries": listErr} {
		if !errors.Is(err, corrupt.Err) {
			t.Errorf("%s of another kind of object: %v, want %v", what, err, corrupt.Err)
		}
	}
}

func TestListingReadsLittle(t *testing.T) {
	const names = 3000
	im := imagetest.New(t, format("ext4", "-b", "4096", "-N", "8192"))
	im.Update(t, func(dir string) {
		for i := range names {
			if err := os.WriteFile(fmt.Sprintf("%s/a-file-with-a-name-%06d", dir, i), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	f, size := im.Open(t)
	c := &imagetest.Counter{R: f}
	fs, err := Open(c, size)
	if err != nil {
		t.Fatal(err)
	}
	imagetest.ReadsLittle(t, fs, c, names+1, 40, 150)
}

func TestConcurrentUse(t *testing.T) {
	s := source(smallImage(t, "-t", "ext4"))
	fs, err := Open(s, int64(len(s)))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
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

// The kernel mounts blocks of 64 KiB on few machines: what mke2fs put there is compared.
func TestLargestBlocks(t *testing.T) {
	dir, path := t.TempDir(), t.TempDir()+"/image"
	for i := range 3000 {
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), fmt.Append(nil, i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", "-b", "65536", "-d", dir, path, "64M").CombinedOutput(); err != nil {
		t.Skipf("mke2fs: %v: %s", err, out)
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := source(p)
	fs, err := Open(s, int64(len(s)))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := fs.Entries(s, fs.Root()); len(list) != 3001 || err != nil {
		t.Errorf("%d entries, %v", len(list), err)
	}
	f, err := fs.Open(s, lookup(t, fs, s, "2999"))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := f.ReadAt(s, got, 0); err != nil || string(got) != "2999" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTruncatedImageIsToldOf(t *testing.T) {
	s := source(smallImage(t, "-t", "ext4"))
	s = s[:len(s)-4096]
	if fs, err := Open(s, int64(len(s))); err != nil || !strings.Contains(fs.Note(), "ends before") {
		t.Errorf("%v, %v", fs, err)
	}
}
