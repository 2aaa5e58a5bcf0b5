package confine

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// onConfinedThread calls fn on a thread of its own, which has given up calls.
func onConfinedThread(t *testing.T, which Calls, fn func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = install(which, 0)
		}
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// call makes a system call with arguments that none of them can take.
func call(number uint32) error {
	const bad = ^uintptr(0)
	_, _, errno := unix.RawSyscall6(uintptr(number), bad, bad, bad, bad, bad, bad)
	return errno
}

func TestCallsAreRefused(t *testing.T) {
	if machines[runtime.GOARCH] == 0 {
		t.Skip("no filter on this architecture")
	}
	others := []uint32{unix.SYS_READ, unix.SYS_OPENAT, unix.SYS_CLOSE, unix.SYS_FLOCK, unix.SYS_FUTEX, unix.SYS_SENDTO, unix.SYS_STATX}
	for _, c := range []struct {
		which           Calls
		refused, passed []uint32
	}{
		{Mounting, slices.Concat(foreign, mounting), others},
		{Foreign, foreign, slices.Concat(others, []uint32{unix.SYS_UMOUNT2, unix.SYS_SETNS, unix.SYS_MOVE_MOUNT})},
	} {
		onConfinedThread(t, c.which, func() {
			for _, n := range c.refused {
				if err := call(n); !errors.Is(err, unix.EPERM) {
					t.Errorf("system call %d: got %v, want that it is not permitted", n, err)
				}
			}
			for _, n := range c.passed {
				if err := call(n); errors.Is(err, unix.EPERM) {
					t.Errorf("system call %d is not permitted", n)
				}
			}
			if err := call(x32 | unix.SYS_READ); !errors.Is(err, unix.EPERM) {
				t.Errorf("a call by a number that means another: got %v", err)
			}
			if err := os.WriteFile(filepath.Join(t.TempDir(), "file"), nil, 0o600); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSetsOfCapabilities(t *testing.T) {
	s := Set(unix.CAP_CHOWN, unix.CAP_SYS_ADMIN, unix.CAP_BPF)
	for c := range unix.CAP_LAST_CAP + 1 {
		want := c == unix.CAP_CHOWN || c == unix.CAP_SYS_ADMIN || c == unix.CAP_BPF
		if s.Has(c) != want {
			t.Errorf("capability %d: in the set %v, want %v", c, s.Has(c), want)
		}
	}
}
