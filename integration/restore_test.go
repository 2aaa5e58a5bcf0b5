package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// storedFlags are the flags of chattr that archives store.
const storedFlags = 0x20 | 0x80 | 0x4 | 0x80_0000 | 0x40 | 0x1_0000 | 0x10 | 0x8 | 0x400 | 0x2000_0000

// flagDifferences compares flags and projects with the truth. No mount shows them.
func flagDifferences(root string, a archive) (found []difference, compared int) {
	for i := range a.entries {
		e := &a.entries[i]
		if e.Type != "file" && e.Type != "dir" || e.Flags == nil {
			continue
		}
		path := string(*e.Path)
		flags, project, err := flagsAt(filepath.Join(root, path))
		if err != nil {
			found = append(found, difference{path: path, what: "error", err: err})
			continue
		}
		if want := *e.Flags & storedFlags; flags&storedFlags != want {
			found = append(found, difference{path: path, what: "flags", text: fmt.Sprintf("got %#x, want %#x", flags&storedFlags, want)})
		}
		if project != e.Project {
			found = append(found, difference{path: path, what: "project", text: fmt.Sprintf("got %d, want %d", project, e.Project)})
		}
		if *e.Flags&storedFlags != 0 || e.Project != 0 {
			compared++
		}
	}
	return found, compared
}

func flagsAt(path string) (flags, project uint32, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	if flags, err = unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err != nil {
		return 0, 0, err
	}
	var x [7]uint32                // struct fsxattr
	const fsGetXattr = 0x801c_581f // FS_IOC_FSGETXATTR
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsGetXattr, uintptr(unsafe.Pointer(&x))); errno != 0 {
		return 0, 0, errno
	}
	return flags, x[3], nil
}

// restored is what restore --json prints.
type restored struct {
	Target   string
	Finished bool
	Error    string
	DryRun   bool `json:"dry_run"`
	Resumed  bool
	Restored map[string]int64
	Bytes    int64
	Kept     int64
	Replaced int64
	LeftOut  int64 `json:"left_out"`
	Verified int64
	Damaged  int64
	Failed   int64
	Differs  int64
	Zeros    int64
	Problems []struct{ Path, Kind, Error string }
	Lacks    []struct {
		What, Why string
		Count     int64
	}
}

// restore runs a restore with --json, which must end with a code.
func (h *host) restore(code int, args ...string) restored {
	h.t.Helper()
	got := h.run(append([]string{"restore", "--json"}, args...)...)
	if got.code != code {
		h.t.Errorf("pbsfs restore %s: got exit code %d, want %d; stderr: %s", strings.Join(args, " "), got.code, code, got.stderr)
	}
	var r restored
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		h.t.Fatalf("pbsfs restore %s: %v: stdout %q, stderr %q", strings.Join(args, " "), err, got.stdout, got.stderr)
	}
	return r
}

// Everything of all fixtures comes back as it was, flags and projects included.
func TestRestoreEqualsTruth(t *testing.T) {
	needRoot(t)
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			keys := map[string][]string{"ds-crypt": h.allKeys(), "ds-split": {"--keyfile", h.keyFile(keyNone)}}[name]
			on := newDisk(t, 2048)
			special := 0
			for i, a := range truth(t, name) {
				to := filepath.Join(on.dir, fmt.Sprint(i))
				if strings.HasSuffix(a.name, "/xfs.pxar") { // it has projects, which not every ext4 has
					to = filepath.Join(newXFS(t, 512).dir, "top")
				}
				special += restoreAndCompare(t, h, fixture(t, name), a, to, keys)
			}
			if name == "ds-nasty" && special < 7 {
				t.Errorf("only %d objects had flags or projects", special)
			}
		})
	}
}

// restoreAndCompare restores an archive, and returns how many objects had flags or projects.
func restoreAndCompare(t *testing.T, h *host, store string, a archive, to string, keys []string) int {
	t.Helper()
	path, at := a.name, filepath.Join(to, filepath.Base(a.name))
	if a.isTree() {
		path, at = path+"/", to
	}
	got := h.restore(0, append([]string{store, path, to}, keys...)...)
	if !got.Finished || len(got.Problems)+len(got.Lacks) > 0 {
		t.Errorf("%s: %+v", a.name, got)
	}
	reportDifferences(t, a.name, compare(at, a))
	if !a.isTree() {
		return 0
	}
	found, special := flagDifferences(at, a)
	reportDifferences(t, a.name, found)
	if names, err := filepath.Glob(filepath.Join(to, ".pbsfs*")); len(names) > 0 || err != nil {
		t.Errorf("%s: left: %q, %v", a.name, names, err)
	}
	return special
}

// A snapshot is a directory of all that is in it; what lies on its disks is in the images.
func TestRestoreOfASnapshot(t *testing.T) {
	h, to := newHost(t), filepath.Join(tempDir(t), "to")
	const snap = "vm/100/2023-11-14T22:30:00Z"
	h.restore(0, fixture(t, "ds-basic"), snap, "vm/100/latest", to)
	for _, name := range []string{filepath.Base(snap), "latest"} {
		names, err := readNames(filepath.Join(to, name))
		must(t, err)
		slices.Sort(names)
		if got, want := strings.Join(names, " "), "drive-scsi0.img index.json qemu-server.conf"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	at := filepath.Join(to, filepath.Base(snap))
	image := truthOf(t, "ds-basic", snap+"/drive-scsi0.img")
	reportDifferences(t, image.name, compare(filepath.Join(at, "drive-scsi0.img"), image))
	if got, size := allocated(t, filepath.Join(at, "drive-scsi0.img")), image.entries[0].Size; got > size*3/4 {
		t.Errorf("%d of %d bytes are allocated, want holes", got, size)
	}
}
