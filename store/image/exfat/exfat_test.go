package exfat

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

const mib = 1 << 20

func open(r io.ReaderAt, size int64) (image.FileSystem, error) { return Open(r, size) }

// format is exFAT, mounted by a program, because not every kernel has it.
var format = imagetest.Format{
	Type: "exfat", Mkfs: []string{"mkfs.exfat", "-L", "MY DISK"}, Size: 48 * mib, MountWith: []string{"mount.exfat-fuse"},
	Lacks: imagetest.LackOwners | imagetest.LackSymlinks | imagetest.LackHardlinks | imagetest.LackSpecial | imagetest.LackXattrs | imagetest.LackACLs |
		imagetest.LackHoles | imagetest.LackUnwritten | imagetest.LackRawNames | imagetest.LackInodeNumbers | imagetest.LackNlink | imagetest.LackBlocks | imagetest.LackDirSizes,
}

// populated makes an image with files.
func populated(t *testing.T) *imagetest.Image {
	t.Helper()
	im := imagetest.New(t, format)
	im.Update(t, func(dir string) {
		write := func(path string, content []byte) {
			t.Helper()
			file := filepath.Join(dir, path)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		write("lower.txt", []byte("lower"))
		write("ünï ☃ 😀.txt", []byte("characters"))
		write(strings.Repeat("long", 60)+".txt", []byte("long"))
		write("empty", nil)
		write("big", imagetest.Noise(3*mib+123, 1))
		write("deep/"+strings.Repeat("d/", 20)+"file", []byte("deep"))
		for i := range 400 { // pieces of two files that grow in turn, and names over several clusters
			write("many/"+strings.Repeat("x", i%200)+string(rune('a'+i%26))+strings.Repeat("y", i/26), bytes.Repeat([]byte{byte(i)}, i*37))
		}
		for i := range 20 {
			for _, name := range []string{"one", "two"} {
				f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
				if err != nil {
					t.Fatal(err)
				}
				_, err = f.Write(imagetest.Noise(5000, uint64(i)))
				if err := errors.Join(err, f.Close()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := 100; i < 200; i++ { // deleted names must not show
			if err := os.Remove(filepath.Join(dir, "many/"+strings.Repeat("x", i%200)+string(rune('a'+i%26))+strings.Repeat("y", i/26))); err != nil {
				t.Fatal(err)
			}
		}
	})
	return im
}

func TestAMountSeesTheSame(t *testing.T) {
	if _, err := exec.LookPath("mount.exfat-fuse"); err != nil {
		t.Skip("exfat-fuse is not installed")
	}
	im := populated(t)
	r, size := im.Open(t)
	f, err := Open(r, size)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("blkid", "-o", "value", "-s", "UUID", im.Path).Output(); err == nil && strings.TrimSpace(string(out)) != f.UUID() {
		t.Errorf("UUID %q, and blkid says %q", f.UUID(), out)
	}
	if f.Label() != "MY DISK" {
		t.Errorf("label %q", f.Label())
	}
	im.Compare(t, open)
	imagetest.Damage(t, r, size, open, 40)
	imagetest.Unreadable(t, r, size, open, 20)
}

func TestTheCopyOfTheBootRegion(t *testing.T) {
	if _, err := exec.LookPath("mkfs.exfat"); err != nil {
		t.Skip("mkfs.exfat is not installed")
	}
	im := imagetest.New(t, format)
	b, err := os.ReadFile(im.Path)
	if err != nil {
		t.Fatal(err)
	}
	b[90] ^= 1
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil || f.Note() == "" {
		t.Errorf("%+v, %v", f, err)
	}
	b[12*512+90] ^= 1
	if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, corrupt.Err) {
		t.Errorf("with both damaged: %v", err)
	}
}

func TestWhatIsNoExFAT(t *testing.T) {
	for _, n := range []int{0, 100, 512, mib} {
		if _, err := Open(bytes.NewReader(make([]byte, n)), int64(n)); !errors.Is(err, image.ErrUnknown) {
			t.Errorf("%d zeros: %v", n, err)
		}
	}
}

// golden is a set of entries as a Linux kernel has made it: the file "a", 5 bytes from
// cluster 7, in one piece, changed on 2024-03-05 at 06:07:09.5 UTC.
func golden() []byte {
	b := make([]byte, 3*entrySize)
	b[0], b[1], b[4] = kindFile, 2, 0x20
	copy(b[12:], "\xe4\x30\x65\x58")
	b[21], b[23] = 150, 0x80
	d := b[entrySize:]
	d[0], d[1], d[3], d[8], d[20], d[24] = kindData, 3, 1, 5, 7, 5
	n := b[2*entrySize:]
	n[0], n[2] = kindName, 'a'
	return summed(b)
}

func summed(b []byte) []byte {
	var sum uint16
	for i, c := range b {
		if i != 2 && i != 3 {
			sum = (sum>>1 | sum<<15) + uint16(c)
		}
	}
	b[2], b[3] = byte(sum), byte(sum>>8)
	return b
}

func TestSets(t *testing.T) {
	s, err := parseSet(golden(), 0)
	if err != nil || s.name != "a" || s.size != 5 || s.first != 7 || !s.contiguous || s.mtime != (image.Time{Sec: 1709618829, Nsec: 500_000_000}) {
		t.Fatalf("%+v, %v", s, err)
	}
	for what, change := range map[string]func(b []byte) []byte{
		"a wrong checksum":          func(b []byte) []byte { b[40] ^= 1; return b },
		"more valid than there is":  func(b []byte) []byte { b[entrySize+8] = 9; return summed(b) },
		"a name that is too long":   func(b []byte) []byte { b[entrySize+3] = 16; return summed(b) },
		"a name with a slash":       func(b []byte) []byte { b[2*entrySize+2] = '/'; return summed(b) },
		"a name that leads up":      func(b []byte) []byte { b[entrySize+3] = 2; copy(b[2*entrySize+2:], ".\x00.\x00"); return summed(b) },
		"no data":                   func(b []byte) []byte { b[entrySize] = kindName; return summed(b) },
		"a size that is impossible": func(b []byte) []byte { b[entrySize+31] = 0xff; return summed(b) },
	} {
		if s, err := parseSet(change(golden()), 0); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %+v, %v", what, s, err)
		}
	}
}

func FuzzSet(f *testing.F) {
	f.Add(golden())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 3*entrySize || len(b)%entrySize != 0 || len(b) > (maxSet+1)*entrySize {
			return
		}
		s, err := parseSet(summed(b), 0)
		if err == nil && (s.name == "" || strings.ContainsAny(s.name, "/\x00") || s.valid > s.size || s.size < 0) {
			t.Errorf("%+v", s)
		}
	})
}
