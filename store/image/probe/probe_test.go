package probe

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const mib = 1 << 20

func TestMarks(t *testing.T) {
	for _, m := range marks {
		d := make([]byte, 4*mib)
		off := m.off
		if off < 0 {
			off += int64(len(d))
		}
		copy(d[off:], m.bytes)
		found, ok, err := Look(bytes.NewReader(d), int64(len(d)))
		if err != nil || !ok || found != m.found {
			t.Errorf("%s at %d: %+v, %t, %v", m.found.Name, m.off, found, ok, err)
		}
		if strings.Contains(found.Advice, "\n") || found.Advice == "" {
			t.Errorf("%s: the advice is not one line: %q", found.Name, found.Advice)
		}
	}
	d := make([]byte, 4*mib)
	copy(d[zfsBlocks+5*zfsStep:], zfsMark)
	if found, ok, err := Look(bytes.NewReader(d), int64(len(d))); err != nil || !ok || found != zfs {
		t.Errorf("ZFS: %+v, %t, %v", found, ok, err)
	}
}

func TestNothingIsRecognised(t *testing.T) {
	for _, size := range []int{0, 1, 511, 5000, mib} {
		if found, ok, err := Look(bytes.NewReader(make([]byte, size)), int64(size)); ok || err != nil {
			t.Errorf("%d zeros: %+v, %v", size, found, err)
		}
	}
}

// failing cannot be read.
type failing struct{}

var errUnreadable = errors.New("cannot be read")

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errUnreadable }

func TestWhatCannotBeReadIsNotUnknown(t *testing.T) {
	if _, ok, err := Look(failing{}, mib); ok || !errors.Is(err, errUnreadable) {
		t.Errorf("%t, %v", ok, err)
	}
}

// The marks are those of the programs that make them.
func TestRealFormats(t *testing.T) {
	for name, command := range map[string][]string{
		"swap":        {"mkswap"},
		"btrfs":       {"mkfs.btrfs", "-q"},
		"xfs":         {"mkfs.xfs", "-q"},
		"ext":         {"mkfs.ext4", "-q", "-F"},
		"exfat":       {"mkfs.exfat"},
		"crypto_LUKS": {"cryptsetup", "-q", "luksFormat", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "/dev/zero", "--keyfile-size", "32"},
	} {
		path, err := exec.LookPath(command[0])
		if err != nil {
			t.Logf("not covered: %s is not installed", command[0])
			continue
		}
		file := filepath.Join(t.TempDir(), "disk")
		sparse(t, file, 320*mib)
		if out, err := exec.Command(path, append(command[1:], file)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
			continue
		}
		f := open(t, file)
		found, ok, err := Look(f, 320*mib)
		if err != nil || !ok || found.Name != name {
			t.Errorf("%s: %+v, %t, %v", name, found, ok, err)
		}
	}
}

func sparse(t *testing.T, file string, size int64) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, file string) *os.File {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
