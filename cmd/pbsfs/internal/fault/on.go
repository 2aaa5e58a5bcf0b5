//go:build pbsfs_faults

package fault

import (
	"os"
	"syscall"
)

// At kills this process at the step that PBSFS_FAULT names, with a signal that the
// process cannot catch. Only programs that are built for tests contain it.
func At(step string) {
	if os.Getenv("PBSFS_FAULT") == step {
		if len(os.Args) > 1 && os.Args[1] == "usher" { // one program for users, of two processes
			_ = syscall.Kill(os.Getppid(), syscall.SIGKILL)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
