package unlock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// GuardMemory protects the memory of a process with keys from being dumped or read by
// other processes.
func GuardMemory() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keeping the keys from core dumps: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("keeping the keys from core dumps: %w", err)
	}
	return nil
}
