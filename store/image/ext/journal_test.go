package ext

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

// change does what leaves something of each kind in a log: new and removed names, a rename,
// blocks that were of directories and are of files, and blocks that begin as the log's own do.
func change(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	content := bytes.Repeat(append([]byte{0xc0, 0x3b, 0x39, 0x98}, make([]byte, 1020)...), 8)
	for round := range 4 {
		late := fmt.Sprintf("%s/late%d", dir, round)
		must(os.Mkdir(late, 0o755))
		for i := range 40 {
			must(os.WriteFile(fmt.Sprintf("%s/%d", late, i), content[:i*200], 0o644))
		}
		imagetest.Sync(t, late)
		if round > 0 {
			must(os.RemoveAll(fmt.Sprintf("%s/late%d", dir, round-1)))
		}
		must(os.WriteFile(fmt.Sprintf("%s/file%d", dir, round), content, 0o644))
		imagetest.Sync(t, fmt.Sprintf("%s/file%d", dir, round))
	}
	must(os.Rename(dir+"/names", dir+"/renamed"))
	must(os.Remove(dir + "/sizes/4096"))
	imagetest.Sync(t, dir)
}

func TestLogIsReplayedAsAMountDoes(t *testing.T) {
	mount := func(f imagetest.Format, options string) imagetest.Format {
		f.Mount = options
		return f
	}
	for name, f := range map[string]imagetest.Format{
		"checksums of version 3": format("ext4", "-b", "1024"),
		"32 bits":                format("ext4", "-b", "1024", "-O", "^64bit"),
		"no checksums":           format("ext4", "-b", "4096", "-O", "^metadata_csum,^64bit"),
		"checksums of version 1": mount(format("ext4", "-b", "1024", "-O", "^metadata_csum"), "journal_checksum"),
		"async commits":          mount(format("ext4", "-b", "1024", "-O", "^metadata_csum"), "journal_async_commit,data=writeback"),
		"ext3":                   format("ext3", "-b", "1024"),
		"data in the log":        mount(format("ext4", "-b", "1024"), "data=journal"),
		"data in an ext3 log":    mount(format("ext3", "-b", "4096"), "data=journal"),
	} {
		t.Run(name, func(t *testing.T) {
			im := imagetest.New(t, f)
			im.Update(t, func(dir string) {
				imagetest.Populate(t, dir, imagetest.Content{Lacks: f.Lacks, Entries: 60, Big: 100 << 10})
			})
			dirty := im.Dirty(t, func(dir string) { change(t, dir) })
			r, size := dirty.Open(t)
			fs, err := Open(r, size)
			if err != nil {
				t.Fatal(err)
			}
			if len(fs.overlay) == 0 || fs.Note() != "" {
				t.Errorf("%d blocks replaced, %q", len(fs.overlay), fs.Note())
			}
			t.Logf("%d blocks replaced", len(fs.overlay))
			// What a mount only tidies up when it may write is left out: blocks of files that
			// are to be truncated.
			dirty.Lacks |= imagetest.LackBlocks
			dirty.Compare(t, open)
		})
	}
}

func TestDamagedLogIsNotReplayedAndThatIsSaid(t *testing.T) {
	im := imagetest.New(t, format("ext4", "-b", "1024"))
	dirty := im.Dirty(t, func(dir string) {
		for i := range 50 {
			if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		imagetest.Sync(t, dir)
	})
	f, size := dirty.Open(t)
	p := make([]byte, size)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	s := source(p)
	whole, err := Open(s, size)
	if err != nil || len(whole.overlay) == 0 {
		t.Fatalf("%d blocks replaced, %v", len(whole.overlay), err)
	}
	p[int64(whole.overlay[0].place&^escaped)*1024+500]++
	fs, err := Open(s, size)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := fs.Entries(s, fs.Root()); !strings.Contains(fs.Note(), "not replayed") || len(fs.overlay) > 0 || len(list) != 1 || err != nil {
		t.Errorf("%d entries, %v, %d blocks replaced, %q", len(list), err, len(fs.overlay), fs.Note())
	}
}

func TestLogIsReplayedWithACopyOfTheSuperblock(t *testing.T) {
	im := imagetest.New(t, format("ext4", "-b", "1024"))
	dirty := im.Dirty(t, func(dir string) { imagetest.Populate(t, dir, imagetest.Content{Entries: 20, Big: 9999}) })
	f, size := dirty.Open(t)
	p := make([]byte, size)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	p[superblockOff]++
	fs, err := Open(source(p), size)
	if err != nil {
		t.Fatal(err)
	}
	dirty.View(t, func(dir string) { imagetest.CompareTree(t, fs, source(p), dir, imagetest.LackBlocks) })
}

func TestFastCommitsAreToldOf(t *testing.T) {
	im := imagetest.New(t, format("ext4", "-b", "4096", "-O", "fast_commit"))
	dirty := im.Dirty(t, func(dir string) {
		if err := os.WriteFile(dir+"/a", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		imagetest.Sync(t, dir)
		for range 3 {
			f, err := os.OpenFile(dir+"/a", os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(strings.Repeat("more", 3000)); err != nil {
				t.Fatal(err)
			}
			f.Close()
			imagetest.Sync(t, dir+"/a")
		}
	})
	f, size := dirty.Open(t)
	fs, err := Open(f, size)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(fs.Note(), "fast commits") {
		t.Errorf("Note = %q", fs.Note())
	}
}

// The kernel writes checksums of version 3 only, and its revocations seldom matter: debugfs
// writes what is wanted.
func TestRevokedBlocksAreAsTheyWere(t *testing.T) {
	if _, err := exec.LookPath("debugfs"); err != nil {
		t.Skipf("no debugfs: %v", err)
	}
	for name, c := range map[string]struct{ features, open string }{
		"none":                {"^64bit", "journal_open"},
		"version 2":           {"^64bit", "journal_open -c -v 2"},
		"version 2, 64 bits":  {"64bit", "journal_open -c -v 2"},
		"version 3, 64 bits":  {"64bit", "journal_open -c -v 3"},
		"no checksums, 64bit": {"64bit,^metadata_csum", "journal_open"},
	} {
		t.Run(name, func(t *testing.T) {
			im := imagetest.New(t, format("ext4", "-b", "1024", "-O", c.features))
			im.Update(t, func(dir string) {
				if err := os.WriteFile(dir+"/file", make([]byte, 8<<10), 0o644); err != nil {
					t.Fatal(err)
				}
			})
			f, size := im.Open(t)
			fs, err := Open(f, size)
			if err != nil {
				t.Fatal(err)
			}
			in, err := fs.inode(f, lookup(t, fs, f, "file"))
			if err != nil {
				t.Fatal(err)
			}
			m, err := fs.content(in)
			if err != nil {
				t.Fatal(err)
			}
			n, err := m.run(f, 0)
			if err != nil || n.count < 4 {
				t.Fatal(n, err)
			}
			content := t.TempDir() + "/content"
			if err := os.WriteFile(content, imagetest.Noise(3<<10, 7), 0o600); err != nil {
				t.Fatal(err)
			}
			script := fmt.Sprintf("%s\njournal_write -b %d,%d,%d %s\njournal_write -r %d\njournal_write -b %d %s\njournal_close\n",
				c.open, n.place, n.place+1, n.place+2, content, n.place+1, n.place+3, content)
			command := exec.Command("debugfs", "-w", "-f", "-", im.Path)
			command.Stdin = strings.NewReader(script)
			if out, err := command.CombinedOutput(); err != nil {
				t.Skipf("debugfs: %v: %s", err, out)
			}
			if fs, err = Open(f, size); err != nil {
				t.Fatal(err)
			}
			var blocks []uint64
			for _, b := range fs.overlay {
				if b.block >= n.place && b.block <= n.place+3 {
					blocks = append(blocks, b.block-n.place)
				}
			}
			if !slices.Equal(blocks, []uint64{0, 2, 3}) || fs.Note() != "" {
				t.Errorf("blocks of the file in the log: %v, %q", blocks, fs.Note())
			}
			im.Compare(t, open)
		})
	}
}
