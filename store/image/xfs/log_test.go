package xfs

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

// stopped returns a copy of an image that was changed, as the disk is when the machine stops.
func stopped(t testing.TB, im *imagetest.Image, flush bool, fn func(dir string)) *imagetest.Image {
	t.Helper()
	if _, err := exec.LookPath("xfs_io"); err != nil {
		t.Skipf("no xfs_io: %v", err)
	}
	c, command := im.Copy(t), "shutdown"
	if flush {
		command = "shutdown -f"
	}
	dir := t.TempDir()
	run(t, "mount", "-o", "loop,nouuid", c.Path, dir)
	defer imagetest.Unmount(t, dir)
	fn(dir)
	run(t, "xfs_io", "-x", "-c", command, dir)
	return c
}

func run(t testing.TB, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// changeAll does some of everything below a directory that is populated.
func changeAll(t testing.TB, dir string, seed uint64) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rnd := rand.New(rand.NewPCG(seed, 1))
	must(os.RemoveAll(dir + "/removed"))
	must(os.Rename(dir+"/names", dir+"/renamed"))
	must(os.Truncate(dir+"/big", 5000))
	for i := range 200 {
		name := fmt.Sprintf("%s/entries/150/new-%d-%s", dir, i, strings.Repeat("n", rnd.IntN(150)))
		must(os.WriteFile(name, imagetest.Noise(rnd.IntN(9000), uint64(i)), 0o600))
		switch rnd.IntN(6) {
		case 0:
			must(os.Remove(name))
		case 1:
			must(os.Rename(name, fmt.Sprintf("%s/new-%d", dir, i)))
		case 2:
			must(os.Symlink(strings.Repeat("s", 1+rnd.IntN(1000)), name+"-link"))
		case 3:
			must(os.Chown(name, 7, 8))
		case 4:
			must(os.Mkdir(name+"-directory", 0o700))
		case 5:
			imagetest.Sync(t, dir)
		}
	}
	must(os.Mkdir(dir+"/all-again", 0o755))
	imagetest.Populate(t, dir+"/all-again", imagetest.Content{Entries: 50, Deep: 3, Big: 100 << 10})
}

func TestLogIsReplayedAsByMount(t *testing.T) {
	for name, options := range map[string][]string{
		"as mkfs makes it":       nil,
		"small blocks":           {"-b", "size=1024"},
		"everything":             {"-i", "nrext64=1", "-m", "rmapbt=1,reflink=1,bigtime=1,inobtcount=1"},
		"large directory blocks": {"-n", "size=65536", "-m", "bigtime=0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			im := populated(t, mkfs(options...), imagetest.Content{Entries: 150, Deep: 3, Big: 100 << 10})
			for _, flush := range []bool{true, false} {
				c := stopped(t, im, flush, func(dir string) { changeAll(t, dir, 1) })
				c.Compare(t, open)
				f, size := c.Open(t)
				fsys, err := Open(f, size)
				if err != nil || fsys.LogDirty() || fsys.Note() != "" || len(fsys.overlay) == 0 {
					t.Errorf("%v: dirty %v, note %q, %d pages changed", err, fsys.LogDirty(), fsys.Note(), len(fsys.overlay))
				}
			}
		})
	}
}

func TestCleanLogChangesNothing(t *testing.T) {
	im := imagetest.New(t, mkfs())
	check := func() {
		f, size := im.Open(t)
		fsys, err := Open(f, size)
		if err != nil || fsys.LogDirty() || fsys.Note() != "" || len(fsys.overlay) > 0 {
			t.Errorf("%v: dirty %v, note %q, %d pages changed", err, fsys.LogDirty(), fsys.Note(), len(fsys.overlay))
		}
	}
	check()
	im.Update(t, func(dir string) { imagetest.Populate(t, dir, imagetest.Content{Entries: 100}) })
	check()
}

// damageRecord puts wrong bytes in the last record, or in the first one of those that count.
func damageRecord(t testing.TB, im *imagetest.Image, first bool) {
	t.Helper()
	f, size := im.Open(t)
	sb, _, err := findSuperblock(f, size)
	if err != nil {
		t.Fatal(err)
	}
	off, _ := sb.position(sb.logStart, sb.logBlocks)
	l := &ring{&FS{sb: sb, size: size}, off, int64(sb.logBlocks) * sb.blockSize / sector}
	_, last, err := l.head(f, l.sectors)
	if err != nil {
		t.Fatal(err)
	}
	at := last.at
	if first {
		at = last.tail
	}
	w, err := os.OpenFile(im.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteAt([]byte("torn"), off+(at+last.sheets)*sector+60); err != nil {
		t.Fatal(err)
	}
}

func manyRecords(t testing.TB, dir string) {
	for i := range 40 {
		if err := os.WriteFile(fmt.Sprintf("%s/new-%d", dir, i), []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
		imagetest.Sync(t, dir)
	}
}

func TestLogEndsBeforeTornRecord(t *testing.T) {
	c := stopped(t, imagetest.New(t, mkfs()), true, func(dir string) { manyRecords(t, dir) })
	damageRecord(t, c, false)
	c.Compare(t, open)
}

func TestDamagedLogIsLeftOut(t *testing.T) {
	im := populated(t, mkfs(), imagetest.Content{Entries: 100})
	c := stopped(t, im, true, func(dir string) { manyRecords(t, dir) })
	damageRecord(t, c, true)
	f, size := c.Open(t)
	fsys, err := Open(f, size)
	if err != nil || !fsys.LogDirty() || !strings.Contains(fsys.Note(), "not replayed") || len(fsys.overlay) > 0 {
		t.Fatalf("%v: dirty %v, note %q, %d pages changed", err, fsys.LogDirty(), fsys.Note(), len(fsys.overlay))
	}
	imagetest.CompareTree(t, fsys, f, mountedWithout(t, c), 0)
}

// mountedWithout mounts an image without replaying its log.
func mountedWithout(t testing.TB, im *imagetest.Image) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-o", "ro,loop,nouuid,norecovery", im.Path, dir)
	t.Cleanup(func() { imagetest.Unmount(t, dir) })
	return dir
}

// A log with wrong bytes is read to its end or left out, and takes no more memory than
// one that is right.
func TestDamagedLogIsNoDanger(t *testing.T) {
	c := stopped(t, imagetest.New(t, mkfs()), true, func(dir string) { manyRecords(t, dir) })
	f, size := c.Open(t)
	// Without checksums, so that what they would find is reached.
	imagetest.Damage(t, uncheckedRecords{f}, size, open, 30)
}

func TestUnreadablePagesOfLog(t *testing.T) {
	c := stopped(t, imagetest.New(t, mkfs()), true, func(dir string) { manyRecords(t, dir) })
	f, size := c.Open(t)
	imagetest.Unreadable(t, f, size, open, 20)
}

// uncheckedRecords takes the checksum out of what begins like a record.
type uncheckedRecords struct{ io.ReaderAt }

func (u uncheckedRecords) ReadAt(p []byte, off int64) (int, error) {
	n, err := u.ReaderAt.ReadAt(p, off)
	for at := (sector - off%sector) % sector; at+sector <= int64(n); at += sector {
		if be.Uint32(p[at:]) == recordMagic {
			clear(p[at+recordCRC:][:4])
		}
	}
	return n, err
}
