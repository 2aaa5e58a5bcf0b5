package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const nasty = "host/nasty/2023-11-14T22:13:30Z/nasty.pxar"

// copiers copy the tree at the first path to the directory at the second one.
var copiers = []struct {
	name string
	// needs are the programs.
	needs []string
	copy  func(t *testing.T, from, to string)
	// except says what the tool itself cannot carry.
	except func(e *entry, what string) bool
}{
	{
		name:  "cp -a",
		needs: []string{"cp"},
		copy:  func(t *testing.T, from, to string) { tool(t, "cp", "-a", from+"/.", to) },
	},
	{
		name:  "rsync -aHAX",
		needs: []string{"rsync"},
		copy: func(t *testing.T, from, to string) {
			tool(t, "rsync", "-aHAX", "--numeric-ids", from+"/", to+"/")
		},
	},
	{
		name:  "tar --acls --xattrs",
		needs: []string{"tar"},
		copy: func(t *testing.T, from, to string) {
			file := filepath.Join(tempDir(t), "a.tar")
			with := []string{"--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner"}
			tool(t, "tar", append(slices.Clone(with), "--format=posix", "-C", from, "-cf", file, ".")...)
			tool(t, "tar", append(slices.Clone(with), "-p", "-C", to, "-xf", file)...)
		},
		// An archive of tar has no type for sockets.
		except: func(e *entry, what string) bool { return e.Type == "socket" && what == "missing" },
	},
}

func TestCopiesEqualTruth(t *testing.T) {
	needLoop(t)
	m := mountAt(t, fixture(t, "ds-nasty"))
	want := truthOf(t, "ds-nasty", nasty)
	for _, c := range copiers {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range c.needs {
				needTool(t, name)
			}
			to := subdir(t, newDisk(t, 256).dir, "copy")
			c.copy(t, m.path(nasty), to)
			compare := comparison{trusted: true, except: c.except}
			reportDifferences(t, c.name, compare.run(to, want))
		})
	}
}

// walkers walk over everything below a directory.
var walkers = []func(dir string) *exec.Cmd{
	func(dir string) *exec.Cmd { return exec.Command("find", dir, "-ls") },
	func(dir string) *exec.Cmd { return exec.Command("du", "-a", dir) },
	func(dir string) *exec.Cmd { return exec.Command("ls", "-lR", dir) },
}

// What cannot be entered without a key is all that they may complain about.
func TestWalkersEnd(t *testing.T) {
	needRoot(t)
	for _, name := range fixtures {
		m := mountAt(t, fixture(t, name))
		for _, w := range walkers {
			cmd := w(m.dir)
			t.Run(name+"/"+cmd.Args[0], func(t *testing.T) { walkAll(t, cmd, truth(t, name)) })
		}
	}
}

func walkAll(t *testing.T, cmd *exec.Cmd, all []archive) {
	t.Helper()
	var refused, entries int
	for _, a := range all {
		switch {
		case locked(a) && (a.isTree() || strings.HasSuffix(a.name, ".img")): // an image has a directory beside it
			refused++
		case !a.isTree():
			entries++
		default:
			entries += len(a.entries)
		}
	}
	var stdout, stderr bytes.Buffer
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if (err != nil) != (refused > 0) {
		t.Errorf("%s: got %v, with %d archives that need a key", cmd.Args[0], err, refused)
	}
	complaints := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	for _, line := range complaints {
		if line != "" && !strings.HasSuffix(line, ": Permission denied") {
			t.Errorf("%s complains: %s", cmd.Args[0], line)
		}
	}
	if refused > 0 && len(complaints) != refused {
		t.Errorf("%s: got %d complaints, want one for each of %d archives that need a key:\n%s",
			cmd.Args[0], len(complaints), refused, stderr.String())
	}
	// A hard link is one entry for du, and is printed once.
	if cmd.Args[0] != "du" && bytes.Count(stdout.Bytes(), []byte("\n")) < entries {
		t.Errorf("%s: got %d lines, want at least %d", cmd.Args[0], bytes.Count(stdout.Bytes(), []byte("\n")), entries)
	}
}

// images are disk images with an ext4 partition.
var images = []string{
	"vm/100/2023-11-14T22:30:00Z/drive-scsi0.img",           // MBR
	"ns/prod/vm/102/2023-11-14T23:24:02Z/drive-virtio1.img", // GPT
}

func TestPartitionsOfImages(t *testing.T) {
	needLoop(t)
	m := mountAt(t, fixture(t, "ds-basic"))
	for _, image := range images {
		t.Run(filepath.Base(image), func(t *testing.T) {
			whole := truthOf(t, "ds-basic", image)
			part := truthOf(t, "ds-basic", image+".part1")
			dir := mountDevice(t, loopDevice(t, m.path(image), whole.entries[0].PartOffset, 0))
			var found []difference
			for _, d := range compare(dir, part) {
				if d.path != "lost+found" || d.what != "extra" { // the truth leaves it out
					found = append(found, d)
				}
			}
			reportDifferences(t, image, found)
		})
	}
}

// imageCopiers copy an image and keep its holes; the last one finds them only by
// asking for them.
var imageCopiers = [][]string{
	{"qemu-img", "convert", "-f", "raw", "-O", "raw"},
	{"cp", "--sparse=always"},
	{"cp", "--sparse=auto"},
}

func TestImageCopiesKeepHoles(t *testing.T) {
	m := mountAt(t, fixture(t, "ds-basic"))
	for _, c := range imageCopiers {
		t.Run(strings.Join(c[:2], " "), func(t *testing.T) {
			needTool(t, c[0])
			for _, image := range images {
				want := truthOf(t, "ds-basic", image)
				size := want.entries[0].Size
				to := filepath.Join(t.TempDir(), "copy.img")
				tool(t, c[0], append(slices.Clone(c[1:]), m.path(image), to)...)
				reportDifferences(t, image, compare(to, want))
				from, copied := allocated(t, m.path(image)), allocated(t, to)
				if from <= 0 || from > size*3/4 {
					t.Errorf("%s: got %d of %d bytes allocated, want less by the chunks of zeros", image, from, size)
				}
				if copied > from {
					t.Errorf("%s: got %d bytes allocated in the copy, want at most the %d of the image", image, copied, from)
				}
			}
		})
	}
}

// allocated returns how many bytes of a file are not holes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Blocks * 512
}
