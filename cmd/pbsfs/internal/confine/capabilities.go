package confine

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capabilities is a set of capabilities, by number.
type Capabilities uint64

// Set returns the set of some capabilities.
func Set(caps ...int) Capabilities {
	var s Capabilities
	for _, c := range caps {
		s |= 1 << c
	}
	return s
}

// Has reports whether a capability is in the set.
func (s Capabilities) Has(c int) bool { return s&(1<<c) != 0 }

// Keep gives up all capabilities but some, and what set-user-id programs would add.
func Keep(keep Capabilities) error {
	errs := dropBounding(keep)
	if err := allThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0); err != nil {
		errs = errors.Join(errs, fmt.Errorf("clearing the ambient capabilities: %w", err))
	}
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0); err != nil {
		errs = errors.Join(errs, fmt.Errorf("giving up new privileges: %w", err))
	}
	return errors.Join(errs, setCapabilities(keep))
}

// dropBounding keeps programs that this process runs from getting more. Only who has
// CAP_SETPCAP may do so; without it, PR_SET_NO_NEW_PRIVS has the same effect.
func dropBounding(keep Capabilities) error {
	for c := 0; c < 64; c++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err != nil {
			return nil // the kernel knows no more
		}
		if in == 0 || keep.Has(c) {
			continue
		}
		switch err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0, 0); {
		case errors.Is(err, unix.EPERM):
			return nil
		case err != nil:
			return fmt.Errorf("giving up capability %d: %w", c, err)
		}
	}
	return nil
}

// setCapabilities gives up the capabilities that this process has now.
func setCapabilities(keep Capabilities) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return fmt.Errorf("reading the capabilities: %w", err)
	}
	for i := range have {
		part := uint32(keep >> (32 * i))
		have[i] = unix.CapUserData{Permitted: have[i].Permitted & part, Effective: have[i].Effective & part}
	}
	header.Pid = 0 // each thread's own
	if err := allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&have[0])), 0, 0); err != nil {
		return fmt.Errorf("giving up capabilities: %w", err)
	}
	return nil
}

// ErrOneThread says that a program was built with cgo, and so cannot act for all of its
// threads.
var ErrOneThread = errors.New("the program was built with cgo, and keeps its rights")

// allThreads makes a system call on every thread.
//
//go:uintptrescapes
func allThreads(trap, a, b, c, d uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(trap, a, b, c, d, 0, 0)
	switch {
	case errno == syscall.ENOTSUP:
		return ErrOneThread
	case errno != 0:
		return errno
	}
	return nil
}
