package store_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// lockHolderEnv names the file that a process of this test binary locks, as a
// garbage collection of the server does.
const lockHolderEnv = "STORE_TEST_LOCK"

func TestMain(m *testing.M) {
	if file := os.Getenv(lockHolderEnv); file != "" {
		os.Exit(holdLock(file))
	}
	os.Exit(m.Run())
}

func holdLock(file string) int {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return 1
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
		return 1
	}
	_, _ = os.Stdout.WriteString("locked\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// lockHolder is a process that has an exclusive POSIX lock.
type lockHolder struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// startLockHolder returns nil if the lock is not to be had.
func startLockHolder(t *testing.T, file string) *lockHolder {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lockHolderEnv+"="+file)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &lockHolder{cmd, stdin}
	t.Cleanup(h.release)
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		return nil
	}
	return h
}

func (h *lockHolder) release() {
	h.stdin.Close()
	_ = h.cmd.Wait()
}
