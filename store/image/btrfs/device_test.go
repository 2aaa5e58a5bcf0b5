package btrfs

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

// setSuper changes the superblock, and its checksum, in a copy.
func (s source) setSuper(change func(p []byte)) source {
	s = append(source{}, s...)
	p := s[superblockOff:][:superblockSize]
	change(p)
	sum := checksums[0].of(p[checksumField:])
	copy(p, sum[:])
	return s
}

func TestWhatIsNotKnownIsRefused(t *testing.T) {
	s := small(t, "", func(string) {})
	or := func(field int, bits uint64) func(p []byte) {
		return func(p []byte) {
			binary.LittleEndian.PutUint64(p[field:], binary.LittleEndian.Uint64(p[field:])|bits)
		}
	}
	for name, c := range map[string]struct {
		change func(p []byte)
		want   error
	}{
		"nothing":              {func([]byte) {}, nil},
		"read-only feature":    {or(0xb4, 1<<62), nil},
		"compatible feature":   {or(0xac, 1<<62), nil},
		"zoned":                {or(0xbc, 1<<12), image.ErrUnsupported},
		"extent tree v2":       {or(0xbc, 1<<13), image.ErrUnsupported},
		"raid stripe tree":     {or(0xbc, 1<<14), image.ErrUnsupported},
		"new feature":          {or(0xbc, 1<<63), image.ErrUnsupported},
		"seed":                 {or(0x38, 1<<32), image.ErrUnsupported},
		"image of metadata":    {or(0x38, 1<<33), image.ErrUnsupported},
		"checksum":             {func(p []byte) { p[0xc4] = 9 }, image.ErrUnsupported},
		"magic":                {func(p []byte) { p[0x40]++ }, image.ErrUnknown},
		"place":                {func(p []byte) { p[0x32]++ }, corrupt.Err},
		"node size":            {func(p []byte) { p[0x95]++ }, corrupt.Err},
		"size of chunk array":  {func(p []byte) { p[0xa2]++ }, corrupt.Err},
		"place of the roots":   {func(p []byte) { p[0x57]++ }, corrupt.Err},
		"level of the chunks":  {func(p []byte) { p[0xc7]++ }, corrupt.Err},
		"highest level":        {func(p []byte) { p[0xc6] = 8 }, corrupt.Err},
		"generation":           {func(p []byte) { p[0x48]++ }, corrupt.Err},
		"UUID":                 {func(p []byte) { p[0x20]++ }, corrupt.Err},
		"chunk in chunk array": {func(p []byte) { p[0x32b+keySize+44]++ }, corrupt.Err},
	} {
		changed := s.setSuper(c.change)
		if _, err := Open(changed, int64(len(changed))); !errors.Is(err, c.want) {
			t.Errorf("%s: Open = %v, want %v", name, err, c.want)
		}
	}
	for _, n := range []int{0, 4096, superblockOff, superblockOff + superblockSize - 1} {
		if _, err := Open(s[:n], int64(n)); !errors.Is(err, image.ErrUnknown) {
			t.Errorf("Open of %d bytes = %v, want %v", n, err, image.ErrUnknown)
		}
	}
	short := s[:8<<20]
	if fs, err := Open(short, int64(len(short))); err != nil || !strings.Contains(fs.Note(), "ends before") {
		t.Errorf("%v, %v", fs, err)
	}
}

// changed is an image with other bytes at some place.
type changed struct {
	io.ReaderAt

	off int64
	p   []byte
}

func (c changed) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	for i := range c.p {
		if at := c.off + int64(i); at >= off && at < off+int64(n) {
			p[at-off] = c.p[i]
		}
	}
	return n, err
}

func TestCopyOfTheSuperblockIsUsed(t *testing.T) {
	im := imagetest.New(t, format(""))
	im.Update(t, func(dir string) { must(t, os.WriteFile(dir+"/file", []byte("content"), 0o600)) })
	f, size := im.Open(t)
	super := make([]byte, superblockSize)
	_, err := f.ReadAt(super, superblockOff)
	must(t, err)
	older := source(append(make([]byte, superblockOff), super...)).setSuper(func(p []byte) { p[0x48]-- })
	for name, c := range map[string]struct {
		changed
		note string
	}{
		"nothing":  {changed{f, 0, nil}, ""},
		"checksum": {changed{f, superblockOff, []byte{super[0] + 1}}, "damaged"},
		"magic":    {changed{f, superblockOff + 0x40, []byte("wrong")}, "damaged"},
		"older":    {changed{f, superblockOff, older[superblockOff:]}, "older"},
		"copy":     {changed{f, copiesOff[0] + 50, []byte("wrong")}, ""},
	} {
		fs, err := Open(c, size)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if errs := imagetest.Walk(fs, c, true); len(errs) > 0 || !strings.Contains(fs.Note(), c.note) || c.note == "" && fs.Note() != "" {
			t.Errorf("%s: %q, %v", name, fs.Note(), errs)
		}
	}
	for name, c := range map[string]changed{
		"nothing is left":           {f, superblockOff, make([]byte, superblockSize)},
		"another file system":       {f, superblockOff, append(append(append([]byte{}, super[:0x30]...), 1), super[0x31:0x40]...)},
		"both copies are not right": {changed{f, copiesOff[0], []byte("wrong")}, superblockOff, []byte("wrong")},
	} {
		if name == "another file system" {
			c.p = append(c.p, "12345678"...)
		}
		want := map[bool]error{true: corrupt.Err, false: image.ErrUnknown}[name[:4] == "both"]
		if _, err := Open(c, size); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// without is an image in which one copy of each chunk is wrong, or cannot be read.
type without struct {
	io.ReaderAt

	chunks chunkMap
	copy   int
	err    error
}

func (w without) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.ReaderAt.ReadAt(p, off)
	for i := range w.chunks {
		start := w.chunks[i].copies[w.copy]
		for at := max(start, off); at < min(start+int64(w.chunks[i].length), off+int64(n)); at++ {
			if w.err != nil {
				return 0, w.err
			}
			p[at-off]++
		}
	}
	return n, err
}

func TestEachOfTwoCopiesIsEnough(t *testing.T) {
	im := imagetest.New(t, format("compress=zstd", "-m", "dup", "-d", "dup"))
	im.Update(t, func(dir string) { imagetest.Populate(t, dir, imagetest.Content{Entries: 20, Big: 200 << 10}) })
	f, size := im.Open(t)
	chunks := opened(t, f, size).chunks
	for which := range 2 {
		for _, failure := range []error{nil, errors.New("unreadable")} {
			w := without{f, chunks, which, failure}
			fs, err := Open(w, size)
			if err != nil {
				t.Errorf("copy %d, %v: %v", which, failure, err)
				continue
			}
			if errs := imagetest.Walk(fs, w, true); len(errs) > 0 {
				t.Errorf("copy %d, %v: %v", which, failure, errs[0])
			}
		}
	}
	w := without{without{f, chunks, 0, nil}, chunks, 1, nil}
	if _, err := Open(w, size); !errors.Is(err, corrupt.Err) {
		t.Errorf("both copies wrong: %v", err)
	}
}

// Wrong content is told of, but where the file system does not know what is right.
func TestWrongContentIsToldOf(t *testing.T) {
	im := imagetest.New(t, format("", "-d", "dup"))
	var plain bool
	im.Update(t, func(dir string) {
		must(t, os.Mkdir(dir+"/nodatacow", 0o755), os.Mkdir(dir+"/cow", 0o755))
		plain = exec.Command("chattr", "+C", dir+"/nodatacow").Run() == nil
		must(t, os.WriteFile(dir+"/cow/file", imagetest.Noise(20000, 1), 0o600), os.WriteFile(dir+"/nodatacow/file", imagetest.Noise(20000, 2), 0o600))
	})
	f, size := im.Open(t)
	fsys := opened(t, f, size)
	const dataChunk = 1
	data := chunkMap{}
	for _, c := range fsys.chunks {
		if c.kind&dataChunk != 0 {
			data = append(data, c)
		}
	}
	w := without{without{f, data, 0, nil}, data, 1, nil}
	p := make([]byte, 20000)
	c, err := fsys.Open(w, at(t, fsys, w, "cow/file"))
	must(t, err)
	if n, err := c.ReadAt(w, p, 0); !errors.Is(err, corrupt.Err) || n > 0 {
		t.Errorf("wrong content: %d, %v, want %v", n, err, corrupt.Err)
	}
	if !plain {
		return
	}
	c, err = fsys.Open(w, at(t, fsys, w, "nodatacow/file"))
	must(t, err)
	if n, err := c.ReadAt(w, p, 0); n != len(p) || err != nil {
		t.Errorf("content without checksums: %d, %v", n, err)
	}
}

// devices makes a file system over several devices, changes it, and returns their files.
func devices(t *testing.T, n int, fn func(dir string), options ...string) []string {
	t.Helper()
	imagetest.New(t, format("")) // skips where nothing can be mounted
	var paths, loops []string
	for range n {
		path := t.TempDir() + "/image"
		must(t, os.WriteFile(path, nil, 0o600), os.Truncate(path, 300<<20))
		out, err := exec.Command("losetup", "-f", "--show", path).Output()
		if err != nil {
			t.Skipf("no loop device: %v", err)
		}
		loop := strings.TrimSpace(string(out))
		defer exec.Command("losetup", "-d", loop).Run()
		paths, loops = append(paths, path), append(loops, loop)
	}
	dir := t.TempDir()
	mount := []string{"mount", "-t", "btrfs", "-o", "device=" + strings.Join(loops, ",device="), loops[0], dir}
	for _, command := range [][]string{append(append([]string{"mkfs.btrfs", "-q"}, options...), loops...), mount} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
		}
	}
	defer imagetest.Unmount(t, dir)
	fn(dir)
	return paths
}

func TestOneOfSeveralDevices(t *testing.T) {
	for name, c := range map[string]struct {
		devices int
		options []string
		refused string // by Open
		partly  bool   // content may be on another device
	}{
		"raid1":   {2, []string{"-m", "raid1", "-d", "raid1"}, "", false},
		"raid1c3": {3, []string{"-m", "raid1c3", "-d", "raid1c3"}, "", false},
		"single":  {2, []string{"-m", "raid1", "-d", "single"}, "", true},
		"raid0":   {2, []string{"-m", "raid1", "-d", "raid0"}, "raid0", false},
		"raid10":  {4, []string{"-m", "raid10", "-d", "raid10"}, "raid10", false},
		"raid5":   {3, []string{"-m", "raid1c3", "-d", "raid5"}, "raid5", false},
	} {
		t.Run(name, func(t *testing.T) {
			elsewhere := 0
			for _, path := range devices(t, c.devices, func(dir string) {
				must(t, os.WriteFile(dir+"/file", imagetest.Noise(100000, 1), 0o600))
			}, c.options...) {
				f, err := os.Open(path)
				must(t, err)
				defer f.Close()
				fs, err := Open(f, 300<<20)
				if c.refused != "" {
					if !errors.Is(err, image.ErrUnsupported) || !strings.Contains(err.Error(), c.refused) {
						t.Errorf("Open = %v, want %v and %q", err, image.ErrUnsupported, c.refused)
					}
					continue
				}
				must(t, err)
				errs := imagetest.Walk(fs, f, true)
				if len(errs) > 0 && c.partly && errors.Is(errs[0], image.ErrUnsupported) && strings.Contains(errs[0].Error(), "single") {
					elsewhere++
					continue
				}
				if len(errs) > 0 {
					t.Error(errs)
				}
			}
			if c.partly && elsewhere != 1 {
				t.Errorf("content is missing on %d of 2 devices, want 1", elsewhere)
			}
		})
	}
}
