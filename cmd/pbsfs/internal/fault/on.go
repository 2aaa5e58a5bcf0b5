//go:build pbsfs_faults

package fault

import (
	"os"
	"syscall"
)

// At kills this process at the step that PBSFS_FAULT names, as nothing else
// could be. Only tests build programs with it.
func At(step string) {
	if os.Getenv("PBSFS_FAULT") == step {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
