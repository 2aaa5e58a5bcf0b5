package mounts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/procfs"
)

// mountSpace is a mount namespace with its mounts.
type mountSpace struct {
	name string // as the kernel writes it, "mnt:[4026531832]"
	// pid is a process in the namespace. If there is none it is 0, and at is what keeps
	// the namespace.
	pid   int
	at    string
	table MountTable
}

const (
	// nsfsMagic identifies the file system of namespaces.
	nsfsMagic = 0x6e736673
	// enterTimeout bounds the look into one namespace: the path to the file that stands
	// for it may hang.
	enterTimeout = 2 * time.Second
)

// mountSpaces are the namespaces that can be seen from here, by name: those of
// processes, those that a mount keeps without a process (unshare --mount=FILE), and
// those that a process has open.
type mountSpaces map[string]*mountSpace

// lookAtSpaces finds the namespaces. Only root sees all.
func lookAtSpaces(ctx context.Context) (mountSpaces, error) {
	pids, err := procfs.NumericDirs("/proc")
	if err != nil {
		return nil, err
	}
	spaces := make(mountSpaces)
	for _, pid := range pids {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		spaces.ofProcess(pid)
	}
	if os.Geteuid() != 0 {
		return spaces, nil
	}
	for _, pid := range pids {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		spaces.openIn(ctx, pid)
	}
	return spaces, spaces.kept(ctx)
}

// ofProcess adds the namespaces of a process and of its threads.
func (s mountSpaces) ofProcess(pid int) {
	tids, err := procfs.NumericDirs(procfs.ProcPath(pid, "task"))
	if err != nil {
		return
	}
	for _, tid := range tids {
		task := procfs.ProcPath(pid, "task/"+strconv.Itoa(tid)+"/")
		name, err := os.Readlink(task + "ns/mnt")
		if err != nil || s[name] != nil {
			continue
		}
		if table, err := MountsIn(task + "mountinfo"); err == nil {
			s[name] = &mountSpace{name: name, pid: pid, table: table}
		}
	}
}

// openIn adds the namespaces that a process has open.
func (s mountSpaces) openIn(ctx context.Context, pid int) {
	fds, err := procfs.NumericDirs(procfs.ProcPath(pid, "fd"))
	if err != nil {
		return
	}
	for _, fd := range fds {
		path := procfs.ProcPath(pid, "fd/"+strconv.Itoa(fd))
		if name, err := os.Readlink(path); err == nil && isMountSpace(name) && s[name] == nil {
			s.enter(ctx, name, path, fmt.Sprintf("open in process %d", pid))
		}
	}
}

// kept adds the namespaces that mounts keep, including mounts within such namespaces.
func (s mountSpaces) kept(ctx context.Context) error {
	for again := true; again; {
		again = false
		for _, space := range s {
			for _, m := range space.table {
				if m.FSType != "nsfs" || !isMountSpace(m.Root) || s[m.Root] != nil {
					continue
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if space.pid != 0 && s.enter(ctx, m.Root, filepath.Join(procfs.ProcPath(space.pid, "root"), m.Point), m.Point) {
					again = true
				}
			}
			if again {
				break // the map has changed
			}
		}
	}
	return nil
}

func isMountSpace(name string) bool { return strings.HasPrefix(name, "mnt:[") }

// enter adds a namespace by means of the file that stands for it.
func (s mountSpaces) enter(ctx context.Context, name, file, at string) bool {
	ctx, cancel := context.WithTimeout(ctx, enterTimeout)
	defer cancel()
	type answer struct {
		table MountTable
		err   error
	}
	got := make(chan answer, 1)
	go func() {
		table, err := mountsInSpace(name, file)
		got <- answer{table, err}
	}()
	select {
	case a := <-got:
		if a.err != nil {
			return false
		}
		s[name] = &mountSpace{name: name, at: at, table: a.table}
		return true
	case <-ctx.Done():
		return false
	}
}

// mountsInSpace reads the mount table of a namespace. The thread that enters the
// namespace ends with the goroutine.
func mountsInSpace(name, file string) (MountTable, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != nsfsMagic {
		return nil, errors.Join(err, fmt.Errorf("%s: no namespace", file))
	}
	var is unix.Stat_t
	if err := unix.Fstat(fd, &is); err != nil || name != fmt.Sprintf("mnt:[%d]", is.Ino) {
		return nil, errors.Join(err, fmt.Errorf("%s: not %s", file, name))
	}
	type answer struct {
		table MountTable
		err   error
	}
	got := make(chan answer, 1)
	onOwnThread(func() {
		table, err := enterAndRead(fd)
		got <- answer{table, err}
	})
	a := <-got
	return a.table, a.err
}

// onOwnThread calls fn on a thread that ends afterwards. The first thread of a process
// cannot end, and /proc/self is about that thread, so it is not used.
func onOwnThread(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			onOwnThread(fn) // while the first thread waits here
			runtime.UnlockOSThread()
			return
		}
		fn() // never unlocked, so that the thread ends
	}()
	<-done
}

func enterAndRead(fd int) (MountTable, error) {
	self, err := unix.Open("/proc/thread-self", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(self)
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // otherwise no namespace can be entered
		return nil, err
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNS); err != nil {
		return nil, err
	}
	info, err := unix.Openat(self, "mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(info), "mountinfo")
	defer f.Close()
	return parseMountinfo(f)
}
