package reach

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside says that the tests run where nobody else sees what they mount.
const inside = "PBSFS_REACH_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	if code := (*exec.ExitError)(nil); err != nil && !errors.As(err, &code) {
		os.Exit(m.Run()) // no namespaces here: then where others see it
	}
	os.Exit(cmd.ProcessState.ExitCode())
}
