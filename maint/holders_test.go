package maint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/mounts"
)

// testMount mounts a file system of its own, with a file in it.
func testMount(t *testing.T) (point, file string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	point = filepath.Join(t.TempDir(), `mount point\with "odd" name`)
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", point, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("mounting is not possible here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	file = filepath.Join(point, "a file")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	return point, file
}

func TestHolders(t *testing.T) {
	point, file := testMount(t)
	dir := filepath.Join(point, "dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	find := func(t *testing.T) []mounts.Holder {
		t.Helper()
		h, err := mounts.Holders(t.Context(), point)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	for _, tt := range []struct{ helper, arg, how, path string }{
		{"open", file, mounts.HowDescriptor, file},
		{"open", point, mounts.HowDescriptor, point},
		{"mmap", file, mounts.HowMapping, file},
		{"cwd", dir, mounts.HowCwd, dir},
	} {
		t.Run(tt.how, func(t *testing.T) {
			o := startOther(t, tt.helper, tt.arg)
			p := o.process(t)
			want := mounts.Holder{PID: p.PID, StartTime: p.StartTime, Name: p.Name, Path: tt.path, How: tt.how}
			if got := find(t); !slices.Equal(got, []mounts.Holder{want}) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			o.end()
			if got := find(t); len(got) > 0 {
				t.Errorf("after its end: %+v", got)
			}
		})
	}
	t.Run("deleted file", func(t *testing.T) {
		other := filepath.Join(point, "short-lived")
		if err := os.WriteFile(other, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		o := startOther(t, "open", other)
		os.Remove(other)
		if got := find(t); len(got) != 1 || got[0].PID != o.pid() || got[0].How != mounts.HowDescriptor {
			t.Errorf("got %+v", got)
		}
		o.end()
	})
	t.Run("nested mount", func(t *testing.T) {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		// What lies on the nested mount does not hold ours a second time.
		startOther(t, "cwd", dir)
		want := []mounts.Holder{{Name: "tmpfs", Path: dir, How: mounts.HowNested}}
		if got := find(t); !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
	t.Run("loop device", func(t *testing.T) {
		out, err := exec.Command("losetup", "--show", "-f", file).Output()
		if err != nil {
			t.Skipf("no loop device is to be had: %v", err)
		}
		device := strings.TrimSpace(string(out))
		defer exec.Command("losetup", "-d", device).Run()
		want := mounts.Holder{Name: device, Path: file, How: mounts.HowLoop}
		if got := find(t); !slices.Contains(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
	t.Run("another namespace", func(t *testing.T) {
		cmd := exec.Command("unshare", "-m", "--propagation", "private", os.Args[0], file)
		cmd.Env = append(os.Environ(), helperEnv+"=open", "GORACE=atexit_sleep_ms=0")
		in, _ := cmd.StdinPipe()
		if err := cmd.Start(); err != nil {
			t.Skipf("unshare: %v", err)
		}
		defer cmd.Wait()
		defer in.Close()
		eventually(t, "holder in another namespace is found", func() bool {
			return slices.ContainsFunc(find(t), func(h mounts.Holder) bool {
				return h.PID == cmd.Process.Pid && h.How == mounts.HowDescriptor && h.Path == file
			})
		})
	})
}

func TestFindMount(t *testing.T) {
	point, _ := testMount(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Dir(point), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{point, point + "/", filepath.Join(link, filepath.Base(point))} {
		if m, err := mounts.FindMount(path); err != nil || m.Point != point || m.FSType != "tmpfs" {
			t.Errorf("FindMount(%q): got %+v, %v", path, m, err)
		}
	}
	for _, path := range []string{filepath.Dir(point), filepath.Join(point, "a file"), "/nowhere/at/all"} {
		if _, err := mounts.FindMount(path); !errors.Is(err, mounts.ErrNotMounted) {
			t.Errorf("FindMount(%q): got %v", path, err)
		}
	}
}
