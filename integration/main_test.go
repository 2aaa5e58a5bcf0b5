package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// program is the program under test.
var program string

func TestMain(m *testing.M) {
	if code, ran := inOwnSpace(); ran {
		os.Exit(code)
	}
	os.Exit(buildAndRun(m))
}

// spaceEnv says that this process has a mount table of its own.
const spaceEnv = "PBSFS_INTEGRATION_SPACE"

// inOwnSpace runs the tests once more, by a process with a mount table of its own:
// other tests on this machine make copies of all mounts that they see, and such a
// copy is in the way of an unmount.
func inOwnSpace() (code int, ran bool) {
	if os.Geteuid() != 0 {
		return 0, false
	}
	if os.Getenv(spaceEnv) != "" {
		dropCopies()
		return 0, false
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), spaceEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // whose death would be the parent's
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, false // not allowed here
	}
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), true
}

// dropCopies gives up the copies that this process has of what other tests have
// mounted at this moment.
func dropCopies() {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	lines := strings.Split(string(table), "\n")
	for _, line := range slices.Backward(lines) {
		before, after, ok := strings.Cut(line, " - ")
		if !ok {
			continue
		}
		point := strings.Fields(before)[4]
		if strings.HasPrefix(after, "fuse.pbsfs ") || strings.Contains(after, " /dev/loop") && strings.HasPrefix(point, os.TempDir()) || strings.HasPrefix(point, "/mnt/datastore/") {
			_ = unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pbsfs-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// Other users run it too.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	program = filepath.Join(dir, "pbsfs")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "../cmd/pbsfs") // as make build does
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building pbsfs: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// patience is how long a test waits for what must happen. Only a failure takes
// that long.
const patience = time.Minute

// eventually waits until there is no error any more, and fails the test when
// there still is one after a long time.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	if err := within(patience, check); err != nil {
		t.Fatalf("%s: still not so after %s: %v", what, patience, err)
	}
}

// within calls check until it returns nil, or d is over.
func within(d time.Duration, check func() error) error {
	deadline := time.Now().Add(d)
	for {
		err := check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// tempDir is t.TempDir for directories that other users reach as well.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pbsfs-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the test's directory: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// subdir makes a new directory below dir.
func subdir(t *testing.T, dir, name string) string {
	t.Helper()
	sub := filepath.Join(dir, name)
	must(t, os.Mkdir(sub, 0o755))
	return sub
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantErrno fails the test unless err is that errno.
func wantErrno(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}
