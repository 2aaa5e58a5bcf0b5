package tree_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// chunkSize is that of the images of these tests.
const chunkSize = 64 << 10

// ext makes an ext4 with a few files, without mounting it.
func ext(t *testing.T) []byte {
	t.Helper()
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		mkfs = "/usr/sbin/mkfs.ext4"
	}
	if _, err := os.Stat(mkfs); err != nil {
		t.Skip("mkfs.ext4 is not installed")
	}
	from := t.TempDir()
	for name, content := range map[string]string{"etc/motd": "Hello", "etc/fstab": "nothing", "big": strings.Repeat("content of a file\n", 20_000)} {
		file := filepath.Join(from, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(filepath.Join(from, "etc/motd"), filepath.Join(from, "hard")), os.Symlink("etc/motd", filepath.Join(from, "link"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command(mkfs, "-q", "-L", "root", "-d", from, file, "8M").CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withMBR makes a disk with partitions, of which the first begins at 1 MiB.
func withMBR(parts ...[]byte) []byte {
	const sector = 512
	d := make([]byte, 1<<20)
	d[510], d[511] = 0x55, 0xaa
	for i, p := range parts {
		e := d[446+16*i:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], uint32(len(d)/sector))
		binary.LittleEndian.PutUint32(e[12:], uint32(len(p)/sector))
		d = append(d, p...)
	}
	return d
}

func swapSpace() []byte {
	b := make([]byte, 1<<20)
	copy(b[4086:], "SWAPSPACE2")
	return b
}

// onDisks makes a snapshot of disks, and returns its datastore and its path.
func onDisks(t *testing.T, disks ...[]byte) (*storetest.Store, string) {
	t.Helper()
	s := storetest.New(t)
	sn := s.Snapshot("vm/100", noon)
	for i, d := range disks {
		sn.Fixed("drive-scsi"+string(rune('0'+i))+".img.fidx", chunkSize, d)
	}
	sn.Finish()
	return s, sn.Dir
}

func TestFilesOnDisks(t *testing.T) {
	s, dir := onDisks(t, withMBR(ext(t), swapSpace()), ext(t), make([]byte, 1<<20))
	v := open(t, s)
	for path, want := range map[string]string{
		"":                           "drive-scsi0.img drive-scsi0.img.d drive-scsi1.img drive-scsi1.img.d drive-scsi2.img drive-scsi2.img.d index.json",
		"/drive-scsi0.img.d":         "part",
		"/drive-scsi0.img.d/part":    "1 2.img 2.txt",
		"/drive-scsi0.img.d/part/1":  "big etc hard link lost+found",
		"/drive-scsi1.img.d":         "raw",
		"/drive-scsi1.img.d/raw/etc": "fstab motd",
		"/drive-scsi2.img.d":         "",
	} {
		names, err := v.list(dir + path)
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	root := dir + "/drive-scsi0.img.d/part/1"
	for path, want := range map[string]string{
		root + "/etc/motd": "Hello", root + "/big": strings.Repeat("content of a file\n", 20_000), dir + "/drive-scsi0.img.d/part/2.txt": "swap: swap space: it holds no files\n",
	} {
		if got := v.read(path); got != want {
			t.Errorf("%s: %d bytes, %.30q", path, len(got), got)
		}
	}
	hard, motd, link := v.walk(root+"/hard"), v.walk(root+"/etc/motd"), v.walk(root+"/link")
	if hard.ID() != motd.ID() || hard.Attr().Nlink != 2 || hard.Attr().Mode != unix.S_IFREG|0o640 || link.Target() != "etc/motd" || !hard.Frozen() {
		t.Errorf("two names of one file: %+v and %+v; a link to %q", hard.Attr(), motd.Attr(), link.Target())
	}
	if other := v.walk(dir + "/drive-scsi1.img.d/raw/hard"); other.ID() == hard.ID() {
		t.Error("files on two disks have one identity")
	}
	about, all := v.walk(root).Xattrs()
	var said []string
	for _, a := range about {
		said = append(said, a.Name+"="+string(a.Value))
	}
	if !all || !slices.Contains(said, "user.pbs.filesystem=ext4") || !slices.Contains(said, "user.pbs.label=root") {
		t.Errorf("the top says of itself %q", said)
	}
	for _, path := range []string{root + "/nothing", dir + "/drive-scsi0.img.d/part/3", dir + "/drive-scsi0.img.d/raw"} {
		if n, err := v.Walk(t.Context(), v.r, path, false); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %+v, %v", path, n, err)
		}
	}
	if snap, ok := hard.Snapshot(); !ok || snap.String() != dir || !hard.Counted() || !v.walk(dir+"/drive-scsi0.img.d").Counted() {
		t.Errorf("a file on a disk belongs to %v, %t", snap, ok)
	}
}

// A look that was given up, or was not allowed, says nothing about the disks.
func TestALookThatWasGivenUpIsForgotten(t *testing.T) {
	s, dir := onDisks(t, withMBR(ext(t)))
	v := open(t, s)
	n := v.walk(dir + "/drive-scsi0.img.d")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.List(ctx, v.r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if names, err := v.list(dir + "/drive-scsi0.img.d/part"); err != nil || !slices.Equal(names, []string{"1"}) {
		t.Errorf("then: %q, %v", names, err)
	}
}

// What cannot be read is an error that says where, and hides nothing else.
func TestDamageOnADisk(t *testing.T) {
	image := ext(t)
	s := storetest.New(t)
	sn := s.Snapshot("vm/100", noon)
	digests := sn.Fixed("drive-scsi0.img.fidx", chunkSize, withMBR(image, image))
	sn.Finish()
	first := (1 << 20) / chunkSize // the chunk with the superblock of the first partition
	s.Remove(".chunks/" + digests[first].Prefix() + "/" + digests[first].String())
	v := open(t, s)
	parts, err := v.list(sn.Dir + "/drive-scsi0.img.d/part")
	if err != nil || !slices.Equal(parts, []string{"1", "2"}) {
		t.Fatalf("%q, %v", parts, err)
	}
	for _, part := range parts {
		n := v.walk(sn.Dir + "/drive-scsi0.img.d/part/" + part)
		_, err := n.List(t.Context(), v.r)
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "drive-scsi0.img.d/part/"+part) || n.Broken() == nil {
			t.Errorf("part %s, whose superblock is missing: %v", part, err)
		}
	}
}
