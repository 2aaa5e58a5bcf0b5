package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// machine is a datastore with the disks of a machine, and where their file systems are
// mounted as the kernel shows them.
type machine struct {
	host     *host
	store    string
	snapshot string
	root     string // the ext4 in the second partition of the first disk, mounted
	rootFile string // its image
}

// bigFile is larger than a chunk of an image, and in chunks of its own.
const bigFile = "big"

// newMachine makes a snapshot of disks: one with a GPT, whose partitions are FAT, ext4 and
// swap, one with an ext4 right on it, and an empty one.
func newMachine(t *testing.T, args ...string) *machine {
	t.Helper()
	for _, program := range []string{"sfdisk", "mkfs.vfat", "mcopy", "mkswap"} {
		needTool(t, program)
	}
	d := newDisk(t, 48)
	must(t, os.MkdirAll(filepath.Join(d.dir, "etc/conf.d"), 0o755))
	for i := range 300 {
		writeFile(t, filepath.Join(d.dir, fmt.Sprintf("etc/conf.d/file-%03d", i)), fmt.Append(nil, i))
	}
	writeFile(t, filepath.Join(d.dir, bigFile), noise(7, 12<<20))
	must(t, os.Symlink("etc/conf.d/file-001", filepath.Join(d.dir, "link")))
	must(t, os.Link(filepath.Join(d.dir, "etc/conf.d/file-002"), filepath.Join(d.dir, "hard")))
	must(t, unix.Mkfifo(filepath.Join(d.dir, "fifo"), 0o640))
	must(t, unix.Setxattr(filepath.Join(d.dir, bigFile), "user.colour", []byte("blue"), 0))
	writeFile(t, filepath.Join(d.dir, "secret"), []byte("of root"))
	must(t, os.Chmod(filepath.Join(d.dir, "secret"), 0o600))
	d.umount()

	dir := memoryDir(t)
	const mib = 1 << 20
	disk := filepath.Join(dir, "disk0")
	writeFile(t, disk, nil)
	must(t, os.Truncate(disk, 72*mib))
	script := filepath.Join(dir, "script")
	writeFile(t, script, []byte("label: gpt\nstart=2048,size=16384,type=U\nstart=20480,size=98304\nsize=4096,type=S\n"))
	tool(t, "sh", "-c", "sfdisk -q '"+disk+"' < '"+script+"'")
	fat := filepath.Join(dir, "fat")
	writeFile(t, fat, nil)
	must(t, os.Truncate(fat, 8*mib))
	tool(t, "mkfs.vfat", "-n", "EFI", fat)
	tool(t, "mcopy", "-i", fat, script, "::/Boot Script.txt")
	swap := filepath.Join(dir, "swap")
	writeFile(t, swap, nil)
	must(t, os.Truncate(swap, 2*mib))
	tool(t, "mkswap", "-q", swap)
	for file, at := range map[string]int{fat: 1, d.file: 10, swap: 58} {
		tool(t, "dd", "if="+file, "of="+disk, "bs=1M", fmt.Sprintf("seek=%d", at), "conv=notrunc,sparse", "status=none")
	}
	empty := filepath.Join(dir, "empty")
	writeFile(t, empty, nil)
	must(t, os.Truncate(empty, 8*mib))

	m := &machine{host: newHost(t), store: bareStore(t, dir), rootFile: d.file}
	m.host.run("datastore", "add", tank, m.store).want(t, 0)
	m.snapshot = m.host.create(append([]string{
		"drive-scsi0.img:" + disk, "drive-scsi1.img:" + d.file, "drive-scsi2.img:" + empty, tank, "--type", "vm", "--id", "100",
	}, args...)...)
	d.mount()
	m.root = d.dir
	return m
}

// rsyncSees lists what rsync finds to be different in two trees: names, types, contents,
// permissions, owners, times, links, devices, attributes and ACLs.
func rsyncSees(t *testing.T, a, b string) []string {
	t.Helper()
	needTool(t, "rsync")
	out := tool(t, "rsync", "-naHAXi", "--numeric-ids", "--checksum", "--delete", a+"/", b+"/")
	list := strings.FieldsFunc(out, func(r rune) bool { return r == '\n' })
	// The top has attributes of ours that say what it is.
	return slices.DeleteFunc(list, func(line string) bool { return line == ".d........x ./" })
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := readNames(dir)
	must(t, err)
	slices.Sort(list)
	return list
}

func TestFilesInDiskImages(t *testing.T) {
	s := newMachine(t)
	m := s.host.mount(s.store)
	at := func(below ...string) string { return m.path(append([]string{s.snapshot}, below...)...) }
	for dir, want := range map[string]string{
		"drive-scsi0.img.d":      "part",
		"drive-scsi0.img.d/part": "1 2 3.img 3.txt",
		"drive-scsi1.img.d":      "raw",
		"drive-scsi2.img.d":      "",
	} {
		if got := strings.Join(names(t, at(dir)), " "); got != want {
			t.Errorf("%s: %q, want %q", dir, got, want)
		}
	}
	for _, dir := range []string{"drive-scsi0.img.d/part/2", "drive-scsi1.img.d/raw"} {
		if got := rsyncSees(t, s.root, at(dir)); len(got) > 0 {
			t.Errorf("%s: differs from what the kernel shows: %q", dir, got)
		}
		for name, want := range map[string]string{"filesystem": "ext4", "uuid": strings.TrimSpace(tool(t, "blkid", "-p", "-o", "value", "-s", "UUID", s.rootFile))} {
			if got := xattr(t, at(dir), "user.pbs."+name); got != want {
				t.Errorf("%s: %s is %q, want %q", dir, name, got, want)
			}
		}
	}
	if got := xattr(t, at("drive-scsi0.img.d/part/1"), "user.pbs.label"); got != "EFI" {
		t.Errorf("the label of the first partition is %q", got)
	}
	if got := tool(t, "cat", at("drive-scsi0.img.d/part/1/Boot Script.txt"), at("drive-scsi0.img.d/part/3.txt")); !strings.Contains(got, "label: gpt") || !strings.Contains(got, "swap") {
		t.Errorf("got %q", got)
	}
	if got := tool(t, "blkid", "-p", "-o", "value", "-s", "TYPE", at("drive-scsi0.img.d/part/3.img")); strings.TrimSpace(got) != "swap" {
		t.Errorf("the third partition is %q", got)
	}
	// The same through the commands that need no mount.
	if got := s.host.run("cat", tank, s.snapshot+"/drive-scsi0.img.d/part/2/link"); got.stdout != "1" {
		t.Errorf("cat: %+v", got)
	}
	if got := s.host.run("ls", tank, s.snapshot+"/drive-scsi0.img.d/part/2/etc/conf.d"); strings.Count(got.stdout, "\n") != 300 {
		t.Errorf("ls: %d names", strings.Count(got.stdout, "\n"))
	}
}

// The API looks into images by the stored name, as the server's own restore does.
func TestServeShowsFilesInDiskImages(t *testing.T) {
	m := newMachine(t)
	s := m.host.serveTokens()
	reader := s.as("read")
	list := func(path string) string {
		var entries []struct{ Text, Type string }
		reader.get(at("catalog"), snapshotParams(t, m.snapshot).and(params{"filepath": base64.StdEncoding.EncodeToString([]byte(path))})).into(&entries)
		var out []string
		for _, e := range entries {
			out = append(out, e.Type+":"+e.Text)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	for path, want := range map[string]string{
		"/":                            "d:drive-scsi0.img.fidx d:drive-scsi1.img.fidx d:drive-scsi2.img.fidx",
		"/drive-scsi0.img.fidx":        "d:part",
		"/drive-scsi0.img.fidx/part":   "d:1 d:2 f:3.img f:3.txt",
		"/drive-scsi0.img.fidx/part/2": "d:etc d:lost+found f:big f:hard f:secret l:link p:fifo",
		"/drive-scsi2.img.fidx":        "",
	} {
		if got := list(path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	want, err := os.ReadFile(filepath.Join(m.root, bigFile))
	must(t, err)
	path := base64.StdEncoding.EncodeToString([]byte("/drive-scsi0.img.fidx/part/2/" + bigFile))
	if got := reader.get(at("pxar-file-download"), snapshotParams(t, m.snapshot).and(params{"filepath": path})).want(200).body; string(got) != string(want) {
		t.Errorf("%d bytes, want the %d of the file", len(got), len(want))
	}
}

// A file in an image is an operation like any other, and the snapshot is locked meanwhile.
func TestFilesInDiskImagesAreCounted(t *testing.T) {
	s := newMachine(t)
	m := s.host.mount(s.store)
	f, err := os.Open(m.path(s.snapshot, "drive-scsi0.img.d/part/2", bigFile))
	must(t, err)
	got := s.host.run("maintenance", "set", tank, "offline", "--wait", "0s")
	got.want(t, 3)
	if !strings.Contains(got.stderr, "drive-scsi0.img.d/part/2/"+bigFile) {
		t.Errorf("the refusal does not name the file: %s", got.stderr)
	}
	var all []struct {
		Locked []struct{ Snapshot string } `json:"locked_snapshots"`
	}
	must(t, json.Unmarshal([]byte(s.host.run("status", tank, "--json").stdout), &all))
	if len(all) != 1 || len(all[0].Locked) != 1 || all[0].Locked[0].Snapshot != s.snapshot {
		t.Errorf("locked: %+v", all)
	}
	must(t, f.Close())
	s.host.run("maintenance", "set", tank, "offline").want(t, 0)
	_, err = os.ReadFile(m.path(s.snapshot, "drive-scsi0.img.d/part/2/etc/conf.d/file-003"))
	wantErrno(t, "reading offline", err, unix.EHOSTDOWN)
}

// An ordinary user needs neither a loop device nor root to look into an image.
func TestUsersLookIntoDiskImages(t *testing.T) {
	needUserMounts(t)
	s := newMachine(t)
	must(t, filepath.WalkDir(s.store, func(path string, _ os.DirEntry, err error) error {
		must(t, err)
		return os.Chown(path, nobody, nobody)
	}))
	h := newUserHost(t)
	m := h.mount(s.store)
	cat := exec.Command("cat", m.path(s.snapshot, "drive-scsi0.img.d/part/2/etc/conf.d/file-042"), m.path(s.snapshot, "drive-scsi0.img.d/part/2/secret"))
	cat.SysProcAttr = h.command().SysProcAttr
	out, err := cat.CombinedOutput()
	if err != nil || string(out) != "42of root" {
		t.Errorf("%q, %v", out, err)
	}
}

// What does not need the missing chunk can be read.
func TestDiskImageWithAMissingChunk(t *testing.T) {
	s := newMachine(t)
	index := filepath.Join(s.store, s.snapshot, "drive-scsi1.img.fidx")
	disk, err := os.ReadFile(s.rootFile)
	must(t, err)
	content, err := os.ReadFile(filepath.Join(s.root, bigFile))
	must(t, err)
	const chunkSize = 4 << 20
	at := -1
	for i := 0; i+chunkSize <= len(disk); i += chunkSize { // a chunk within the content of the file
		if strings.Contains(string(content), string(disk[i:i+chunkSize])) {
			at = i / chunkSize
		}
	}
	if at < 0 {
		t.Skip("no chunk has nothing but content of the file")
	}
	remove(t, chunkPath(s.store, digestsOf(t, index)[at]))
	m := s.host.mount(s.store)
	dir := m.path(s.snapshot, "drive-scsi1.img.d/raw")
	f := openFile(t, filepath.Join(dir, bigFile))
	b := make([]byte, 1<<20)
	failed := 0
	for off := 0; off < len(content); off += len(b) {
		n, err := pread(int(f.Fd()), b, int64(off))
		switch {
		case err == unix.EIO: //nolint:errorlint // what the kernel said
			failed++
		case err != nil || string(b[:n]) != string(content[off:off+n]):
			t.Errorf("at %d: %d bytes, %v, or other bytes", off, n, err)
		}
	}
	if failed < 3 || failed > 5 {
		t.Errorf("%d pieces of 1 MiB could not be read, want those of one chunk", failed)
	}
	m.logLines("drive-scsi1.img.d/raw: ")
	for _, name := range []string{"etc/conf.d/file-007", "hard", "secret"} {
		want, err := os.ReadFile(filepath.Join(s.root, name))
		must(t, err)
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Without the key, the directory of an encrypted disk cannot be entered.
func TestEncryptedDiskImages(t *testing.T) {
	key := filepath.Join(tempDir(t), "key.json")
	h := newHost(t)
	h.run("key", "create", key).want(t, 0)
	s := newMachine(t, "--keyfile", key)
	m := s.host.mount(s.store)
	_, err := os.ReadDir(m.path(s.snapshot, "drive-scsi0.img.d"))
	wantErrno(t, "entering without the key", err, unix.EACCES)
	m.unmount()
	m = s.host.mount(s.store, "--keyfile", key)
	if got := rsyncSees(t, s.root, m.path(s.snapshot, "drive-scsi0.img.d/part/2")); len(got) > 0 {
		t.Errorf("with the key: %q", got)
	}
}

// Holes of a file in an image are holes of the file.
func TestHolesOfFilesInDiskImages(t *testing.T) {
	s := newMachine(t)
	m := s.host.mount(s.store)
	f := openFile(t, m.path(s.snapshot, "drive-scsi0.img.d/part/3.img"))
	size, err := f.Seek(0, io.SeekEnd)
	must(t, err)
	if hole, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE); err != nil || hole > size {
		t.Errorf("SEEK_HOLE: %d, %v", hole, err)
	}
}
