package xfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

func open(r io.ReaderAt, size int64) (image.FileSystem, error) { return Open(r, size) }

func mkfs(options ...string) imagetest.Format {
	// An image and its copy may be mounted at one time.
	return imagetest.Format{Type: "xfs", Mkfs: append([]string{"mkfs.xfs", "-q"}, options...), Size: 400 << 20, Mount: "nouuid"}
}

// populated makes an image with everything in it.
func populated(t testing.TB, f imagetest.Format, c imagetest.Content) *imagetest.Image {
	t.Helper()
	im := imagetest.New(t, f)
	im.Update(t, func(dir string) { imagetest.Populate(t, dir, c) })
	return im
}

func TestSameAsMount(t *testing.T) {
	for name, options := range map[string][]string{
		"as mkfs makes it":        nil,
		"large counts of extents": {"-i", "nrext64=1", "-m", "rmapbt=1,reflink=1,bigtime=1,inobtcount=1"},
		"times of 32 bits":        {"-m", "bigtime=0", "-i", "sparse=0,nrext64=0"},
		"small blocks":            {"-b", "size=1024"},
		"large directory blocks":  {"-n", "size=65536"},
		"many groups":             {"-d", "agcount=20"},
		"large inodes":            {"-i", "size=2048", "-s", "size=4096"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := mkfs(options...)
			if name == "many groups" {
				f.Size = 1600 << 20 // each has to have room for a log
			}
			populated(t, f, imagetest.Content{Entries: 300, Deep: 5, Big: 300 << 10}).Compare(t, open)
		})
	}
}

// inPieces makes a file and a directory of so many pieces that their trees of extents have
// more than one level, and attributes that fill more than one leaf.
func inPieces(t testing.TB, dir string) {
	f, err := os.Create(dir + "/pieces")
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3000) {
		if _, err := f.WriteAt([]byte{byte(i), 1}, i*2048); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Mkdir(dir+"/mixed", 0o755)); err != nil {
		t.Fatal(err)
	}
	for i := range 1500 {
		name := fmt.Sprintf("%s/mixed/%0200d", dir, i)
		if err := os.WriteFile(name, bytes.Repeat([]byte{1}, 900), 0o600); err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 {
			imagetest.Sync(t, dir)
		}
	}
}

func TestTreesOfSeveralLevels(t *testing.T) {
	im := imagetest.New(t, mkfs("-b", "size=1024"))
	im.Update(t, func(dir string) { inPieces(t, dir) })
	im.Compare(t, open)
}

func TestDamage(t *testing.T) {
	im := populated(t, mkfs(), imagetest.Content{Entries: 100, Deep: 5, Big: 300 << 10})
	f, size := im.Open(t)
	imagetest.Damage(t, f, size, open, 15)
}

func TestUnreadablePages(t *testing.T) {
	im := populated(t, mkfs(), imagetest.Content{Entries: 100, Deep: 5, Big: 300 << 10})
	f, size := im.Open(t)
	imagetest.Unreadable(t, f, size, open, 10)
}

// patched is an image with other bytes in some places.
type patched struct {
	io.ReaderAt
	at map[int64][]byte
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	for at, other := range p.at {
		for i, c := range other {
			if k := at + int64(i) - off; k >= 0 && k < int64(n) {
				b[k] = c
			}
		}
	}
	return n, err
}

// superblockWith returns the first sector, changed and with a right checksum.
func superblockWith(t testing.TB, r io.ReaderAt, change func(b []byte)) patched {
	t.Helper()
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	change(b)
	clear(b[224:228])
	binary.LittleEndian.PutUint32(b[224:], crc32.Checksum(b, castagnoli))
	return patched{r, map[int64][]byte{0: b}}
}

func TestUnknownFeaturesAreRefusedByName(t *testing.T) {
	f, size := imagetest.New(t, mkfs()).Open(t)
	for bit, want := range map[uint32]string{
		incompatMetadir: "metadir", incompatZoned: "zoned", incompatZoneGaps: "zone gaps", 1 << 20: "0x100000",
	} {
		r := superblockWith(t, f, func(b []byte) { be.PutUint32(b[216:], be.Uint32(b[216:])|bit) })
		if _, err := Open(r, size); !errors.Is(err, image.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("Open with incompatible feature %#x: %v, want ErrUnsupported with %q", bit, err, want)
		}
	}
	r := superblockWith(t, f, func(b []byte) {
		be.PutUint32(b[216:], be.Uint32(b[216:])|incompatNeedsRepair|incompatExchange|incompatParent)
	})
	if fsys, err := Open(r, size); err != nil || !strings.Contains(fsys.Note(), "repair") {
		t.Errorf("Open of one that needs repair: %v, want a note", err)
	}
}

func TestAnotherSuperblockServes(t *testing.T) {
	im := imagetest.New(t, mkfs("-L", "label", "-m", "uuid=01234567-89ab-cdef-0123-456789abcdef"))
	im.Update(t, func(dir string) { imagetest.Populate(t, dir, imagetest.Content{Entries: 100}) })
	f, size := im.Open(t)
	for name, damage := range map[string]map[int64][]byte{
		"a number":          {140: {0xff}},
		"all but the magic": {4: bytes.Repeat([]byte{0xee}, 500)},
		"size of a group":   {84: {1, 2, 3, 4}},
	} {
		fsys, err := Open(patched{f, damage}, size)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(fsys.Note(), "superblock") || fsys.Label() != "label" || fsys.UUID() != "01234567-89ab-cdef-0123-456789abcdef" {
			t.Errorf("%s: note %q, label %q, UUID %s", name, fsys.Note(), fsys.Label(), fsys.UUID())
		}
		if errs := imagetest.Walk(fsys, f, true); len(errs) > 0 {
			t.Errorf("%s: %v", name, errs[0])
		}
	}
	if _, err := Open(patched{f, map[int64][]byte{0: {0}}}, size); !errors.Is(err, image.ErrUnknown) {
		t.Errorf("Open without magic number: %v, want ErrUnknown", err)
	}
	if _, err := Open(bytes.NewReader([]byte("XFSB")), 4); !errors.Is(err, image.ErrUnknown) {
		t.Errorf("Open of 4 bytes: %v, want ErrUnknown", err)
	}
}

func TestImageThatEndsEarlyHasANoteAndErrors(t *testing.T) {
	im := populated(t, mkfs(), imagetest.Content{Entries: 100})
	f, size := im.Open(t)
	fsys, err := Open(f, size*3/5)
	if err != nil || !strings.Contains(fsys.Note(), "ends") {
		t.Fatalf("Open: %v, want a note", err)
	}
	errs := imagetest.Walk(fsys, f, true)
	if len(errs) == 0 {
		t.Error("no errors, though two of four groups are missing")
	}
	for _, err := range errs {
		if !errors.Is(err, corrupt.Err) {
			t.Errorf("%v, want corrupt.Err", err)
		}
	}
}

// A listing with attributes reads what lies side by side in one go.
func TestListingReadsLittle(t *testing.T) {
	const entries = 5000
	im := imagetest.New(t, mkfs())
	im.Update(t, func(dir string) {
		for i := range entries {
			if err := os.WriteFile(fmt.Sprintf("%s/file-%06d-with-a-longer-name", dir, i), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	f, size := im.Open(t)
	c := &imagetest.Counter{R: f}
	fsys, err := Open(c, size)
	if err != nil {
		t.Fatal(err)
	}
	list, err := fsys.Entries(c, fsys.Root())
	if err != nil || len(list) != entries {
		t.Fatalf("%d entries, %v, want %d", len(list), err, entries)
	}
	for _, e := range list {
		if _, err := fsys.Inode(c, e.Number); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.Calls.Load(); n > 120 {
		t.Errorf("%d reads, want 120 at most", n)
	}
}

// FuzzOpen opens and walks images with wrong bytes: pairs of a place and what is changed
// there. Checksums are no obstacle in version 4.
func FuzzOpen(f *testing.F) {
	src := f.TempDir()
	for i := range 60 {
		if err := os.WriteFile(fmt.Sprintf("%s/file-%d", src, i), []byte("content"), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	if err := os.WriteFile(src+"/../description", description(f, src), 0o600); err != nil {
		f.Fatal(err)
	}
	im := imagetest.New(f, mkfs("-m", "crc=0", "-b", "size=512", "-p", src+"/../description"))
	file, size := im.Open(f)
	base := &imagetest.Counter{R: file}
	fsys, err := Open(base, size)
	if err != nil {
		f.Fatal(err)
	}
	root, _ := fsys.sb.inodePosition(fsys.Root())
	for _, at := range []int64{0, 84, root, root + 5, root + 76, root + 100} {
		f.Add(binary.BigEndian.AppendUint32(nil, uint32(at)), byte(0xff))
	}
	f.Fuzz(func(t *testing.T, places []byte, value byte) {
		p := patched{file, map[int64][]byte{}}
		for ; len(places) >= 4 && len(p.at) < 50; places = places[4:] {
			p.at[int64(be.Uint32(places))%size] = []byte{value}
		}
		if fsys, err := Open(p, size); err == nil {
			imagetest.Walk(fsys, p, true)
		}
	})
}
