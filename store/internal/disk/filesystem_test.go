package disk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Skipf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestFilesystemIsToldByItsUUID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for fstype, force := range map[string]string{"ext4": "-F", "xfs": "-f", "btrfs": "-f"} {
		t.Run(fstype, func(t *testing.T) {
			dir := t.TempDir()
			image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
			command(t, "truncate", "-s", "304M", image)
			command(t, "mkfs."+fstype, "-q", force, image)
			command(t, "mkdir", at)
			before, err := MountOf(at)
			if err != nil {
				t.Fatal(err)
			}
			command(t, "mount", "-o", "loop", image, at)
			defer func() {
				if err := unix.Unmount(at, 0); err != nil {
					t.Error(err)
				}
			}()
			r, err := Open(at)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			want := command(t, "blkid", "-p", "-o", "value", "-s", "UUID", image)
			if got := r.Filesystem(); got.UUID != want && (fstype != "ext4" || got.ID == "") {
				t.Errorf("got %s, want UUID %s", got, want)
			}
			if b, ok := r.ioctl(xfsGeom); fstype == "xfs" && (!ok || uuidText(b[xfsUUID:xfsUUID+16]) != want) {
				t.Errorf("the geometry has another UUID than %s", want)
			}
			if now, err := MountOf(at); err != nil || now == before || now != r.Mount() {
				t.Errorf("got mount %d, %v; it was %d before, and %d when it was opened", now, err, before, r.Mount())
			}
		})
	}
}

func TestFilesystemsDiffer(t *testing.T) {
	for _, c := range []struct {
		a, b Filesystem
		want bool
	}{
		{Filesystem{}, Filesystem{}, false},
		{Filesystem{UUID: "a"}, Filesystem{}, false},
		{Filesystem{UUID: "a"}, Filesystem{UUID: "a"}, false},
		{Filesystem{UUID: "a"}, Filesystem{UUID: "b"}, true},
		{Filesystem{UUID: "a"}, Filesystem{ID: "b"}, false},
		{Filesystem{ID: "a"}, Filesystem{ID: "b"}, true},
	} {
		if got := c.a.Differs(c.b); got != c.want {
			t.Errorf("%s and %s: got %v", c.a, c.b, got)
		}
	}
}
