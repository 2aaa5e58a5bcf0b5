package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

const mib = 1 << 20

func open(r io.ReaderAt, size int64) (image.FileSystem, error) { return Open(r, size) }

// everything is what FAT does not have.
const everything = imagetest.LackOwners | imagetest.LackSymlinks | imagetest.LackHardlinks | imagetest.LackSpecial | imagetest.LackXattrs | imagetest.LackACLs |
	imagetest.LackHoles | imagetest.LackUnwritten | imagetest.LackRawNames | imagetest.LackInodeNumbers | imagetest.LackNlink | imagetest.LackBlocks | imagetest.LackDirSizes

// source makes a directory with what FAT can hold.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(path string, content []byte) {
		t.Helper()
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("lower.txt", []byte("lower"))
	write("UPPER.TXT", []byte("upper"))
	write("Mixed Case.Extension", []byte("mixed"))
	write("Lower.EXT", []byte("x"))
	write("empty", nil)
	write("ünï ☃.txt", []byte("characters"))
	write(strings.Repeat("long", 50)+".txt", []byte("long"))
	write("big", imagetest.Noise(2*mib+12345, 1))
	write("deep/"+strings.Repeat("d/", 15)+"file", []byte("deep"))
	for i := range 300 {
		write(fmt.Sprintf("many/file number %d", i), fmt.Append(nil, i))
	}
	at := time.Date(2024, 3, 5, 6, 7, 8, 0, time.UTC)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, at, at))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// made makes an image with mkfs.fat and mtools.
func made(t *testing.T, bits string, size int64, dir string) []byte {
	t.Helper()
	for _, program := range []string{"mkfs.fat", "mcopy"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.fat", "-F", bits, "-n", "MY DISK", "-i", "12AB34CD", file).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.fat: %v: %s", err, out)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mcopy", append(append([]string{"-s", "-m", "-Q", "-i", file}, names...), "::/")...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mcopy: %v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatWasCopiedIsThere(t *testing.T) {
	dir := source(t)
	if err := os.Chtimes(dir, time.Unix(0, 0), time.Unix(0, 0)); err != nil { // the top has no time
		t.Fatal(err)
	}
	for bits, size := range map[string]int64{"12": 8 * mib, "16": 30 * mib, "32": 40 * mib} {
		t.Run("FAT"+bits, func(t *testing.T) {
			b := made(t, bits, size, dir)
			f, err := Open(bytes.NewReader(b), size)
			if err != nil {
				t.Fatal(err)
			}
			if f.Label() != "MY DISK" || f.UUID() != "12AB-34CD" {
				t.Errorf("label %q, UUID %q", f.Label(), f.UUID())
			}
			imagetest.CompareTree(t, f, bytes.NewReader(b), dir, everything)
		})
	}
}

func TestDamage(t *testing.T) {
	b := made(t, "16", 16*mib, source(t))
	imagetest.Damage(t, bytes.NewReader(b), int64(len(b)), open, 60)
	imagetest.Unreadable(t, bytes.NewReader(b), int64(len(b)), open, 20)
}

func TestWhatIsNoFAT(t *testing.T) {
	mbr := make([]byte, mib)
	mbr[510], mbr[511] = 0x55, 0xaa
	ntfs := bytes.Clone(mbr)
	copy(ntfs, "\xeb\x52\x90NTFS    ")
	ntfs[11], ntfs[12], ntfs[13], ntfs[21] = 0, 2, 8, 0xf8
	for what, b := range map[string][]byte{"nothing": make([]byte, mib), "an MBR": mbr, "NTFS": ntfs, "a few bytes": make([]byte, 100)} {
		if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, image.ErrUnknown) {
			t.Errorf("%s: %v, want %v", what, err, image.ErrUnknown)
		}
	}
}

// chained returns a FAT16 with one file in the top directory, whose chain is given.
func chained(t *testing.T, size int64, first uint16, next map[int]uint16) (*FS, []byte, image.File) {
	t.Helper()
	const reserved, fatSectors, rootSectors = 1, 32, 32
	b := make([]byte, 8*mib)
	copy(b, "\xeb\x3c\x90mkfs.fat")
	put := func(off int, v uint16) { b[off], b[off+1] = byte(v), byte(v>>8) }
	put(11, 512)
	b[13] = 1
	put(14, reserved)
	b[16] = 1
	put(17, rootSectors*512/entrySize)
	put(19, uint16(len(b)/512-1))
	b[21] = 0xf8
	put(22, fatSectors*2)
	put(510, 0xaa55)
	for cluster, n := range next {
		put(reserved*512+2*cluster, n)
	}
	e := b[(reserved+2*fatSectors)*512:]
	copy(e, "FILE    TXT")
	e[26], e[27] = byte(first), byte(first>>8)
	e[28], e[29], e[30], e[31] = byte(size), byte(size>>8), byte(size>>16), byte(size>>24)
	heap := (reserved + 2*fatSectors + rootSectors) * 512
	for c := 2; c < 100; c++ {
		copy(b[heap+(c-2)*512:], strings.Repeat(string(rune('a'+c%26)), 512))
	}
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := f.Lookup(bytes.NewReader(b), f.Root(), "FILE.TXT")
	if err != nil {
		t.Fatal(err)
	}
	file, err := f.Open(bytes.NewReader(b), entry.Number)
	if err != nil {
		t.Fatal(err)
	}
	return f, b, file
}

func TestChains(t *testing.T) {
	const end = 0xffff
	for what, c := range map[string]struct {
		size  int64
		first uint16
		next  map[int]uint16
		want  string // the letters of the clusters
		err   error
	}{
		"in pieces":             {1500, 5, map[int]uint16{5: 6, 6: 3, 3: end}, "fgd", nil},
		"ends early":            {1500, 5, map[int]uint16{5: 6, 6: end}, "fg", corrupt.Err},
		"leads out of the disk": {1500, 5, map[int]uint16{5: 6, 6: 0xfff0}, "fg", corrupt.Err},
		"leads back":            {1500, 5, map[int]uint16{5: 6, 6: 5}, "", corrupt.Err},
		"begins nowhere":        {100, 0, nil, "", corrupt.Err},
		"goes on":               {512, 5, map[int]uint16{5: 6, 6: 7}, "f", nil},
	} {
		_, b, file := chained(t, c.size, c.first, c.next)
		got := make([]byte, c.size)
		n, err := file.ReadAt(bytes.NewReader(b), got, 0)
		if c.err == nil && err != nil && !errors.Is(err, io.EOF) || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", what, err, c.err)
		}
		var letters string
		for i := 0; i < n; i += 512 {
			letters += string(got[i])
		}
		if letters != c.want {
			t.Errorf("%s: %q after %d bytes, want %q", what, letters, n, c.want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(uint16(700), []byte{1, 2}, []byte("FILE    TXT \x00\x00"))
	f.Add(uint16(11), []byte{0, 2, 1}, []byte{0xe5, 5, 0x41})
	f.Fuzz(func(t *testing.T, at uint16, boot, more []byte) {
		const size = 2 * mib
		_, b, _ := chained(t, 700, 5, map[int]uint16{5: 6, 6: 0xffff})
		b = b[:size]
		copy(b[11:], boot)
		copy(b[int(at)*16:], more)
		fsys, err := Open(bytes.NewReader(b), size)
		if err == nil {
			imagetest.Walk(fsys, bytes.NewReader(b), true)
		}
	})
}
