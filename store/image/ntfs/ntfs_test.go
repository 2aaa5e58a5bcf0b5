package ntfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

const mib = 1 << 20

func open(r io.ReaderAt, size int64) (image.FileSystem, error) { return Open(r, size) }

// formatOf is NTFS with clusters of a size, mounted by ntfs-3g.
func formatOf(cluster string) imagetest.Format {
	return imagetest.Format{
		Type: "ntfs", Mkfs: []string{"mkntfs", "-Q", "-F", "-q", "-c", cluster, "-L", "MY DISK"}, Size: 64 * mib,
		MountWith: []string{"ntfs-3g"}, Mount: "streams_interface=xattr,compression,special_files=wsl",
		Lacks: imagetest.LackOwners | imagetest.LackACLs | imagetest.LackHoles | imagetest.LackUnwritten | imagetest.LackRawNames | imagetest.LackInodeNumbers | imagetest.LackNlink |
			imagetest.LackBlocks | imagetest.LackDirSizes,
	}
}

// populate makes what NTFS stores in ways of its own.
func populate(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(path string, content []byte) {
		t.Helper()
		file := filepath.Join(dir, path)
		must(errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644)))
	}
	must(os.Mkdir(filepath.Join(dir, "compressed"), 0o755))
	must(unix.Setxattr(filepath.Join(dir, "compressed"), "system.ntfs_attrib", []byte{0, 8, 0, 0}, 0))
	text := bytes.Repeat([]byte("a line of some text that repeats\n"), 10_000)
	mixed := bytes.Join([][]byte{imagetest.Noise(40_960, 1), make([]byte, 200_000), text[:70_001], imagetest.Noise(100_000, 2)}, nil)
	write("compressed/text", text)
	write("compressed/zeros", make([]byte, 300_000))
	write("compressed/random", imagetest.Noise(300_000, 3))
	write("compressed/mixed", mixed)
	write("compressed/small", []byte("small"))
	write("compressed/odd", text[:65_537])
	for i := range 600 { // names in several blocks of an index, of which some are deleted again
		write(fmt.Sprintf("many/file number %04d with a longer name", i), fmt.Append(nil, i))
	}
	for i := 200; i < 400; i++ {
		must(os.Remove(filepath.Join(dir, fmt.Sprintf("many/file number %04d with a longer name", i))))
	}
	write("links/one", []byte("linked"))
	for i := range 40 { // more than a record can hold
		must(os.Link(filepath.Join(dir, "links/one"), filepath.Join(dir, fmt.Sprintf("links/%s%d", strings.Repeat("another name of it ", 5), i))))
	}
	write("streams", []byte("host"))
	for i := range 30 {
		must(unix.Setxattr(filepath.Join(dir, "streams"), fmt.Sprintf("user.stream number %d", i), imagetest.Noise(100*i+1, uint64(i)), 0))
	}
	write("scattered", nil)
	f, err := os.OpenFile(filepath.Join(dir, "scattered"), os.O_WRONLY, 0)
	must(err)
	for i := range 150 { // every second piece, so that its runs do not fit into one record
		_, err := f.WriteAt(imagetest.Noise(4096, uint64(i)), int64(i)*131_072)
		must(err)
	}
	must(f.Close())
}

func TestAMountSeesTheSame(t *testing.T) {
	if _, err := exec.LookPath("ntfs-3g"); err != nil {
		t.Skip("ntfs-3g is not installed")
	}
	for _, cluster := range []string{"512", "4096", "65536"} {
		t.Run(cluster, func(t *testing.T) {
			im := imagetest.New(t, formatOf(cluster))
			im.Update(t, func(dir string) {
				populate(t, dir)
				imagetest.Populate(t, dir, imagetest.Content{Lacks: im.Lacks, Entries: 100, Big: mib})
				for _, path := range []string{"times/2", "xattr"} { // ntfs-3g has its own way with half a second before 1970, and with security.*
					if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
						t.Error(err)
					}
				}
			})
			r, size := im.Open(t)
			f, err := Open(r, size)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("blkid", "-p", "-o", "value", "-s", "UUID", im.Path).Output(); err == nil && strings.TrimSpace(string(out)) != f.UUID() {
				t.Errorf("UUID %q, and blkid says %q", f.UUID(), out)
			}
			if f.Label() != "MY DISK" {
				t.Errorf("label %q", f.Label())
			}
			im.Compare(t, open)
			if cluster == "4096" {
				imagetest.Damage(t, r, size, open, 15)
				imagetest.Unreadable(t, r, size, open, 8)
			}
		})
	}
}

func TestLZNT1(t *testing.T) {
	// The example of [MS-XCA], section 3.
	in := []byte{
		0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2, 0x47, 0x01, 0xa0, 0x45, 0x20, 0x44, 0x00, 0x08, 0x45, 0x01,
		0x50, 0x79, 0x00, 0xc0, 0x45, 0x20, 0x05, 0x24, 0x13, 0x88, 0x05, 0xb4, 0x02, 0x4a, 0x44, 0xef, 0x03, 0x58, 0x02, 0x8c, 0x09, 0x16, 0x01, 0x48,
		0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00, 0x04, 0x01, 0x18, 0x90, 0x00,
	}
	want := "F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D E F# G F# E D E A F# F# G A A G F# E D D E F# E D D\x00"
	out := make([]byte, len(want))
	if err := lznt1(out, in); err != nil || string(out) != want {
		t.Errorf("%q, %v", out, err)
	}
	for what, in := range map[string][]byte{
		"a chunk that is cut off":      {0x38, 0xb0, 0x88},
		"a reference to nothing":       {0x02, 0xb0, 0x01, 0x00, 0x00},
		"a reference before the start": {0x04, 0xb0, 0x02, 'a', 0x00, 0x20, 0x00},
	} {
		if err := lznt1(make([]byte, 100), in); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestReparsePoints(t *testing.T) {
	utf16le := func(s string) []byte {
		var out []byte
		for _, r := range s {
			out = append(out, byte(r), byte(r>>8))
		}
		return out
	}
	symlink := func(target string, relative byte) []byte {
		b := utf16le(target)
		return append([]byte{0, 0, byte(len(b)), 0, 0, 0, 0, 0, relative, 0, 0, 0}, b...)
	}
	junction := append([]byte{0, 0, 24, 0, 0, 0, 0, 0}, utf16le(`\??\C:\Users`)...)
	f := &FS{}
	for what, c := range map[string]struct {
		tag  uint32
		data []byte
		want string
		err  error
	}{
		"relative":       {tagSymlink, symlink(`..\dir\file`, 1), "link ../dir/file", nil},
		"absolute":       {tagSymlink, symlink(`\??\C:\Windows`, 0), "link C:/Windows", nil},
		"a junction":     {tagMountPoint, junction, "link C:/Users", nil},
		"of WSL":         {tagWSLLink, append([]byte{2, 0, 0, 0}, "/etc/passwd"...), "link /etc/passwd", nil},
		"cut off":        {tagSymlink, symlink("x", 1)[:5], "", corrupt.Err},
		"without target": {tagSymlink, symlink("", 1), "", corrupt.Err},
		"WOF":            {tagWOF, make([]byte, 16), "compressed by Windows (WOF)", nil},
		"a cloud":        {0x9000601a, nil, "perhaps in a cloud only", nil},
		"unknown":        {0x1234, nil, "reparse point of the kind 0x1234", nil},
	} {
		s, err := f.reparse(nil, &inode{}, c.tag, c.data)
		got := s.elsewhere
		if s.mode == image.Symlink|linkMode {
			got = "link " + s.target
		}
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			t.Errorf("%s: %q, %v, want %q, %v", what, got, err, c.want, c.err)
		}
	}
}

func TestRuns(t *testing.T) {
	for what, c := range map[string]struct {
		runs []byte
		last int64
		want []run
		err  error
	}{
		"three":               {[]byte{0x11, 3, 10, 0x01, 2, 0x11, 4, 0xfe, 0}, 8, []run{{0, 10, 3}, {3, -1, 2}, {5, 8, 4}}, nil},
		"none":                {[]byte{0}, -1, nil, nil},
		"too few":             {[]byte{0x11, 3, 10, 0}, 5, nil, corrupt.Err},
		"before the disk":     {[]byte{0x11, 3, 0xf0, 0}, 2, nil, corrupt.Err},
		"behind the disk":     {[]byte{0x11, 3, 99, 0}, 2, nil, corrupt.Err},
		"of a negative count": {[]byte{0x11, 0xf0, 10, 0}, 2, nil, corrupt.Err},
		"cut off":             {[]byte{0x44, 3}, 2, nil, corrupt.Err},
		"as large as can be":  {[]byte{0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0}, 2, nil, corrupt.Err},
	} {
		s := &stream{cluster: 4096}
		err := s.add(attr{runs: c.runs, last: c.last}, 100)
		if !errors.Is(err, c.err) || err == nil && fmt.Sprint(s.runs) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, %v", what, s.runs, err)
		}
	}
}

func TestWhatIsNoNTFS(t *testing.T) {
	for _, n := range []int{0, 100, 512, mib} {
		if _, err := Open(bytes.NewReader(make([]byte, n)), int64(n)); !errors.Is(err, image.ErrUnknown) {
			t.Errorf("%d zeros: %v", n, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0})
	f.Add(append([]byte{0x80, 0, 0, 0, 72, 0, 0, 0, 1}, make([]byte, 63)...))
	f.Fuzz(func(t *testing.T, attrs []byte) {
		b := make([]byte, 1024)
		copy(b, "FILE")
		b[4], b[6], b[20], b[22] = 48, 3, 56, 1
		n := copy(b[56:1000], attrs)
		copy(b[56+n:], []byte{0xff, 0xff, 0xff, 0xff})
		used := 56 + n + 8
		b[24], b[25] = byte(used), byte(used>>8)
		copy(b[50:], b[510:512])
		copy(b[52:], b[1022:1024])
		clear(b[510:512])
		clear(b[1022:1024])
		rec, err := parseRecord(b, 0)
		if err != nil {
			return
		}
		disk := make([]byte, 64<<10)
		fsys := &FS{cluster: 4096, clusters: int64(len(disk)) / 4096}
		for _, a := range rec.attrs {
			if s, err := fsys.streamOf(rec.attrs, a.typ, a.name); err == nil {
				c := newContent(s)
				p := make([]byte, 10_000)
				for _, off := range []int64{0, s.size / 2, s.size - 1} {
					_, _ = c.ReadAt(bytes.NewReader(disk), p, max(0, off))
				}
				_ = c.next(0, true)
			}
		}
	})
}
