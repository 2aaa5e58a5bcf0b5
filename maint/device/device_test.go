package device

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/device/superblock"
	"github.com/pbsfs/pbsfs/maint/mounts"
)

// image is a file system in a file, with two datastores and some more.
type image struct {
	t                        testing.TB
	fstype, file, uuid, name string // name is the label
}

// imageTypes are the file systems that tests make.
var imageTypes = []string{"ext4", "xfs", "btrfs"}

// imageSize is what each file system needs at least, about.
func imageSize(fstype string) int64 {
	if fstype == "xfs" {
		return 304 << 20
	}
	return 128 << 20
}

// run runs a tool that must be there, and work.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := name
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			path = filepath.Join(dir, name)
			break
		}
	}
	if path == name {
		t.Skipf("needs the tool %s", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func needLoop(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
}

// newImage makes a file system. With dirty it is one that was never unmounted.
func newImage(t testing.TB, fstype string, dirty bool) image {
	t.Helper()
	needLoop(t)
	i := image{t: t, fstype: fstype, file: filepath.Join(t.TempDir(), "image"), name: rand.Text()[:8]} // a label that no other disk here has
	f, err := os.Create(i.file)
	check(t, err)
	check(t, f.Truncate(imageSize(fstype)))
	check(t, f.Close())
	switch fstype {
	case "ext4":
		run(t, "mkfs.ext4", "-q", "-F", "-L", i.name, i.file)
	default:
		run(t, "mkfs."+fstype, "-q", "-L", i.name, i.file)
	}
	i.fill(dirty)
	i.uuid = run(t, "blkid", "-p", "-o", "value", "-s", "UUID", i.file)
	return i
}

func (i image) fill(dirty bool) {
	t := i.t
	t.Helper()
	at := t.TempDir()
	run(t, "mount", "-o", "loop", i.file, at)
	for _, dir := range []string{".chunks/0000", "host/a/.chunks", "in/a/store/.chunks", "far/too/far/down/.chunks", "file", "in/no/host"} {
		check(t, os.MkdirAll(filepath.Join(at, dir), 0o755))
	}
	check(t, os.WriteFile(filepath.Join(at, "in/.chunks"), nil, 0o600))
	check(t, os.Symlink("a", filepath.Join(at, "in/link")))
	check(t, unix.Unmount(at, 0))
	if !dirty {
		return
	}
	run(t, "mount", "-o", "loop", i.file, at)
	defer func() { check(t, unix.Unmount(at, 0)) }()
	for _, name := range []string{"one", "two"} { // has a tree log, and orphans
		f, err := os.Create(filepath.Join(at, name))
		check(t, err)
		_, err = f.Write(make([]byte, 10_000))
		check(t, err)
		check(t, f.Sync())
		check(t, f.Close())
	}
	check(t, os.Remove(filepath.Join(at, "two")))
	d, err := os.Open(at)
	check(t, err)
	check(t, d.Sync())
	check(t, d.Close())
	run(t, "cp", "--sparse=always", i.file, i.file+".copy")
	check(t, os.Rename(i.file+".copy", i.file))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// attach makes a device of the image until the test ends, unless it is detached
// before.
func (i image) attach() string {
	i.t.Helper()
	dev := run(i.t, "losetup", "--find", "--show", i.file)
	i.t.Cleanup(func() {
		if text, _ := os.ReadFile(filepath.Join("/sys/block", filepath.Base(dev), "loop/backing_file")); strings.HasPrefix(string(text), i.file) {
			run(i.t, "losetup", "--detach", dev)
		}
	})
	return dev
}

func (i image) sum() string {
	i.t.Helper()
	f, err := os.Open(i.file)
	check(i.t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	check(i.t, err)
	return string(h.Sum(nil))
}

func findDevice(t testing.TB, arg string) Device {
	t.Helper()
	d, err := FindDevice(arg)
	check(t, err)
	return d
}

func TestDevicesAreFoundByWhatIsOnThem(t *testing.T) {
	for _, fstype := range imageTypes {
		t.Run(fstype, func(t *testing.T) {
			i := newImage(t, fstype, false)
			dev := i.attach()
			for _, arg := range []string{dev, i.uuid, "UUID=" + i.uuid, strings.ToUpper(i.uuid), i.name, "LABEL=" + i.name} {
				d := findDevice(t, arg)
				if d.Path != dev || d.UUID != i.uuid || d.Label != i.name || d.Type != fstype || d.Size != imageSize(fstype) || d.Err != nil || len(d.Mounts) != 0 {
					t.Errorf("%s: got %+v", arg, d)
				}
			}
			for _, arg := range []string{"LABEL=" + i.uuid, "UUID=" + i.name, "", "LABEL="} {
				if d, err := FindDevice(arg); !errors.Is(err, ErrNoDevice) {
					t.Errorf("%q: got %+v, %v, want none", arg, d, err)
				}
			}
		})
	}
}

func TestDatastoresAreFoundWithoutChangingTheDevice(t *testing.T) {
	want := []string{"", "in/a/store"}
	for _, fstype := range imageTypes {
		for _, dirty := range []bool{false, true} {
			t.Run(fstype, func(t *testing.T) {
				i := newImage(t, fstype, dirty)
				if dirty && fstype == "ext4" {
					run(t, "debugfs", "-w", "-R", "ssv last_orphan 13", i.file)
				}
				before := i.sum()
				dev := i.attach()
				d := findDevice(t, dev)
				if d.Unclean != (dirty && fstype != "xfs") { // xfs does not say
					t.Errorf("got %+v, want unclean to be %v", d.Contents, dirty)
				}
				found, err := DatastoresOn(t.Context(), d)
				if err != nil || !slices.Equal(found, want) {
					t.Errorf("got %q, %v, want %q", found, err, want)
				}
				i.mounts(d)
				run(t, "losetup", "--detach", dev)
				if i.sum() != before {
					t.Error("the device was changed")
				}
			})
		}
	}
}

// mounts mounts the device whole and in part.
func (i image) mounts(d Device) {
	i.t.Helper()
	at := i.t.TempDir()
	for rel, has := range map[string]string{"": "in/a/store/.chunks", "/in/a/": "store/.chunks", "in/a/store": ".chunks"} {
		if err := MountDevice(d, rel, at); err != nil {
			i.t.Errorf("%q: %v", rel, err)
			continue
		}
		if _, err := os.Stat(filepath.Join(at, has)); err != nil {
			i.t.Errorf("%q: %v", rel, err)
		}
		if err := os.WriteFile(filepath.Join(at, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			i.t.Errorf("%q: writing gives %v", rel, err)
		}
		i.mounted(d, rel, at)
		check(i.t, UnmountAt(at))
	}
	for _, rel := range []string{"none", "in/link", "../..", "in/.chunks"} {
		if err := MountDevice(d, rel, at); err == nil {
			i.t.Errorf("%q can be mounted", rel)
			check(i.t, UnmountAt(at))
		}
	}
	if m, err := mounts.FindMount(at); err == nil {
		i.t.Errorf("left mounted: %+v", m)
	}
}

// mounted checks that the mount is found, and what it is like.
func (i image) mounted(d Device, rel, at string) {
	i.t.Helper()
	now := findDevice(i.t, d.Path)
	m, dir, ok := now.MountOf("in/a/store")
	rest := strings.TrimPrefix("/in/a/store", strings.TrimSuffix("/"+strings.Trim(rel, "/"), "/"))
	if !ok || m.Point != at || dir != filepath.Join(at, rest) {
		i.t.Errorf("%q: got the mount %+v and the directory %q, want %q", rel, m, dir, filepath.Join(at, rest))
	}
	for _, opt := range []string{"ro", "nosuid", "nodev", "noexec"} {
		if !slices.Contains(strings.Split(m.Options, ","), opt) {
			i.t.Errorf("%q: mounted with %s, not %s", rel, m.Options, opt)
		}
	}
	want := []string{"", "in/a/store"}
	if rel != "" {
		want = want[1:]
	}
	if found, err := DatastoresOn(i.t.Context(), now); err != nil || !slices.Equal(found, want) {
		i.t.Errorf("%q, mounted: got %q, %v, want %q", rel, found, err, want)
	}
}

// Where a kernel cannot take a part of what is attached nowhere.
func TestPartIsMountedOnOlderKernels(t *testing.T) {
	i := newImage(t, "ext4", false)
	d := findDevice(t, i.attach())
	at := t.TempDir()
	for rel, works := range map[string]bool{"in/a": true, "none": false} {
		m, err := mountDetached(d)
		check(t, err)
		err = mountPart(m.fd, d, rel, at)
		m.close()
		if (err == nil) != works {
			t.Errorf("%q: got %v", rel, err)
		}
		if works {
			if _, err := os.Stat(filepath.Join(at, "store/.chunks")); err != nil {
				t.Error(err)
			}
			check(t, UnmountAt(at))
		}
		if m, err := mounts.FindMount(at); err == nil {
			t.Fatalf("left mounted: %+v", m)
		}
	}
}

func TestDevicesThatAreNotMounted(t *testing.T) {
	i := newImage(t, "ext4", false)
	image := func(make ...string) string {
		file := filepath.Join(t.TempDir(), "image")
		check(t, os.WriteFile(file, nil, 0o600))
		check(t, os.Truncate(file, 64<<20))
		run(t, make[0], append(make[1:], file)...)
		other := i
		other.file = file
		return other.attach()
	}
	if _, err := FindDevice(i.file); !errors.Is(err, ErrNotBlockDevice) {
		t.Errorf("a file: got %v", err)
	}
	if _, err := FindDevice("/dev/null"); !errors.Is(err, ErrNotBlockDevice) {
		t.Errorf("a character device: got %v", err)
	}
	if _, err := FindDevice("/dev/no-such"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("no device: got %v", err)
	}
	for name, c := range map[string]struct {
		device string
		want   error
	}{
		"encrypted": {image("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", "--key-file", "/dev/zero", "--keyfile-size", "32", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"), ErrEncrypted},
		"swap":      {image("mkswap"), ErrNoFilesystem},
		"nothing":   {image("touch"), ErrNoFilesystem},
	} {
		if _, err := DatastoresOn(t.Context(), findDevice(t, c.device)); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	// What is mounted for writing where we do not see it.
	dev, at := i.attach(), t.TempDir()
	d := findDevice(t, dev)
	check(t, unix.Mount(dev, at, "ext4", 0, ""))
	defer func() { check(t, unix.Unmount(at, 0)) }()
	if _, err := mountDetached(d); !errors.Is(err, ErrInUse) {
		t.Errorf("mounted for writing: got %v", err)
	}
	// A copy has the same UUID.
	second := i
	second.file = i.file + "2"
	run(t, "cp", i.file, second.file)
	twin := second.attach()
	if _, err := FindDevice(i.uuid); err == nil || !strings.Contains(err.Error(), dev) || !strings.Contains(err.Error(), twin) {
		t.Errorf("two devices of that UUID: got %v", err)
	}
	broken := findDevice(t, twin)
	broken.Unclean = true
	run(t, "dd", "if=/dev/zero", "of="+twin, "bs=1024", "seek=2", "count=62", "conv=notrunc", "status=none") // the group descriptors
	if _, err := mountDetached(broken); !errors.Is(err, ErrUnclean) {
		t.Errorf("a damaged file system: got %v", err)
	}
}

func TestMediumGone(t *testing.T) {
	i := newImage(t, "ext4", false)
	d := findDevice(t, i.attach())
	at := t.TempDir()
	check(t, MountDevice(d, "", at))
	defer func() { check(t, UnmountAt(at)) }()
	if mounts.MediumGone(filepath.Join(at, "in")) || mounts.MediumGone("/proc/self") {
		t.Error("a device that is there is said to be gone")
	}
	for _, m := range []mounts.Mount{{Major: 8, Minor: 1 << 18}, {Source: "/dev/no-such"}} {
		if !m.DeviceGone() {
			t.Errorf("%+v is said to be there", m)
		}
	}
	if m := (mounts.Mount{Source: "tmpfs"}); m.DeviceGone() {
		t.Errorf("%+v is said to be gone", m)
	}
}

func TestPartitionIsFound(t *testing.T) {
	i := newImage(t, "ext4", false)
	const start = 1 << 20
	whole := i
	whole.file = i.file + ".whole"
	run(t, "truncate", "-s", "132M", whole.file)
	run(t, "dd", "if="+i.file, "of="+whole.file, "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
	dev := whole.attach()
	// The kernel may know no partition tables; it knows partitions.
	run(t, "addpart", dev, "1", fmt.Sprint(start/sectorSize), fmt.Sprint(imageSize("ext4")/sectorSize))
	t.Cleanup(func() { run(t, "delpart", dev, "1") })
	if d := findDevice(t, dev); d.Use != superblock.Nothing {
		t.Errorf("the whole disk: got %+v", d)
	}
	d := findDevice(t, i.uuid)
	if d.Path != dev+"p1" || d.Size != imageSize("ext4") {
		t.Errorf("the partition: got %+v", d)
	}
	if found, err := DatastoresOn(t.Context(), d); err != nil || len(found) != 2 {
		t.Errorf("the partition: got %q, %v", found, err)
	}
	if _, err := DatastoresOn(t.Context(), findDevice(t, dev)); !errors.Is(err, ErrNoFilesystem) {
		t.Errorf("the whole disk: got %v", err)
	}
}
