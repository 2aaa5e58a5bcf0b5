package confine

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls says which system calls are given up.
type Calls uint8

const (
	// Foreign calls run programs, look into other processes, or change the kernel.
	Foreign Calls = iota + 1
	// Mounting calls change what is mounted, or where; the foreign ones go with them.
	Mounting
)

// Go's runtime uses none of these, whatever its version.
var (
	foreign = []uint32{
		unix.SYS_EXECVE, unix.SYS_EXECVEAT,
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_PROCESS_MADVISE,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
		unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_PERSONALITY, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG,
		unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
		unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_SETTIMEOFDAY, unix.SYS_ADJTIMEX,
	}
	mounting = []uint32{
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR,
		unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT,
	}
)

// machines are the architectures whose numbers of system calls this is built with.
var machines = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// The offsets in what the kernel shows to a filter, struct seccomp_data.
const (
	offNumber  = 0
	offMachine = 4
	// x32 is a bit in the numbers of another way to call on amd64.
	x32 = 0x40000000
)

// DenyCalls makes the kernel refuse system calls that are not needed, with EPERM. It
// follows Keep, because only who cannot get new privileges may do so.
func DenyCalls(which Calls) error {
	// Without the second flag, older kernels slow down all of such a process.
	return install(which, unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
}

func install(which Calls, flags uintptr) error {
	machine, ok := machines[runtime.GOARCH]
	if !ok {
		return nil
	}
	denied := foreign
	if which == Mounting {
		denied = slices.Concat(foreign, mounting)
	}
	filter := program(machine, denied)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("giving up system calls: %w", errno)
	}
	return nil
}

// program returns the filter: what is called in another way than this program does is
// refused as well, because its numbers mean other calls.
func program(machine uint32, calls []uint32) []unix.SockFilter {
	const (
		load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		end     = unix.BPF_RET | unix.BPF_K
		refuse  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	)
	f := []unix.SockFilter{
		{Code: load, K: offMachine},
		{Code: equal, K: machine, Jt: 1},
		{Code: end, K: refuse},
		{Code: load, K: offNumber},
		{Code: atLeast, K: x32, Jf: 1},
		{Code: end, K: refuse},
	}
	for _, c := range calls {
		f = append(f, unix.SockFilter{Code: equal, K: c, Jf: 1}, unix.SockFilter{Code: end, K: refuse})
	}
	return append(f, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW})
}
