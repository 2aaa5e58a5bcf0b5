package lease

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// held returns a file that this process has a write lease on. The holder would
// get SIGIO when somebody opens it; the tests ignore that.
func held(t *testing.T) (path string, f *os.File) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	path = filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases here: %v", err)
	}
	// SIGURG is ignored by Go's programs.
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETSIG, int(unix.SIGURG)); err != nil {
		t.Fatal(err)
	}
	return path, f
}

func TestLeaseThatIsGivenBack(t *testing.T) {
	path, f := held(t)
	tries := 0
	fd, err := Open(t.Context(), func() (int, error) {
		if tries++; tries == 4 {
			if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
				t.Error(err)
			}
		}
		return unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil || tries != 4 {
		t.Fatalf("after %d tries: %v, want none after 4", tries, err)
	}
	_ = unix.Close(fd)
}

func TestLeaseThatIsKept(t *testing.T) {
	path, _ := held(t)
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	_, err := Open(ctx, func() (int, error) {
		if tries++; tries == 3 {
			cancel()
		}
		return unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the context has ended", err)
	}
}

func TestOtherErrorsAreNotWaitedFor(t *testing.T) {
	tries := 0
	_, err := Open(t.Context(), func() (int, error) { tries++; return -1, unix.ENOENT })
	if !errors.Is(err, unix.ENOENT) || tries != 1 {
		t.Errorf("got %v after %d tries", err, tries)
	}
}
