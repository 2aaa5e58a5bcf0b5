package pbs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// daemonPrefix begins the names of the server's daemons; it is all that fits into
// what the kernel keeps of them.
const daemonPrefix = "proxmox-backup-"

// Daemons are the processes in PBS's pid files that run. Whatever else has such
// a pid by now is not one of them. It is an error if we cannot tell: where PBS's
// processes cannot be seen, neither can its operations.
func Daemons(host hosts.Host) ([]procfs.Process, error) {
	var daemons []procfs.Process
	var unseen error
	for _, file := range host.PIDFiles() {
		pid := readPIDFile(file)
		if pid == 0 {
			continue
		}
		p, running := procfs.LookProcess(pid)
		if running && isDaemon(p) && !isAnother(host, p) {
			daemons = append(daemons, p)
		} else if err := stopped(pid, running); err != nil {
			unseen = fmt.Errorf("process %d of %s %w", pid, file, err)
		}
	}
	if len(daemons) > 0 {
		return daemons, nil // who sees one would see the other
	}
	return nil, unseen
}

// stopped is nil where a daemon of the server's that is not found is one that does
// not run. Some other process may have its pid.
func stopped(pid int, taken bool) error {
	v, err := procfs.Around()
	if err != nil || v.Namespace != procfs.InitPIDNamespace || !v.All && !taken {
		return errors.New("cannot be seen from here (another pid namespace, or hidepid)")
	}
	if other := daemonInside(pid); other != 0 {
		return fmt.Errorf("is in another pid namespace: here it is process %d", other)
	}
	return nil
}

// isAnother reports whether a daemon that is found is that of another server, as when a
// container with a server of its own is shown the directories of the host's: the
// operations files then know one with its pid that began at another time.
func isAnother(host hosts.Host, p procfs.Process) bool {
	if v, err := procfs.Around(); err != nil || v.Namespace == procfs.InitPIDNamespace {
		return false
	}
	for _, name := range procfs.NamesIn(host.OperationsDir()) {
		if strings.HasSuffix(name, ".lock") {
			continue
		}
		entries, err := opsfile.Read(filepath.Join(host.OperationsDir(), name))
		if err == nil && slices.ContainsFunc(entries, func(e opsfile.Entry) bool {
			return int64(e.PID) == int64(p.PID) && e.StartTime != p.StartTime && e.Counts.Total() > 0
		}) {
			return true
		}
	}
	return false
}

func isDaemon(p procfs.Process) bool { return strings.HasPrefix(p.Name, daemonPrefix) }

// daemonInside returns the process of a server in a container that has that pid
// there, 0 where there is none.
func daemonInside(pid int) int {
	pids, err := procfs.NumericDirs("/proc")
	if err != nil {
		return 0
	}
	for _, p := range pids {
		comm, err := os.ReadFile(procfs.ProcPath(p, "comm"))
		if err != nil || !strings.HasPrefix(string(comm), daemonPrefix) {
			continue
		}
		numbers := procfs.NumbersOf(p)
		if len(numbers) > 1 && numbers[len(numbers)-1] == strconv.Itoa(pid) {
			return p
		}
	}
	return 0
}

// readPIDFile returns the pid in a pid file, 0 if there is none.
func readPIDFile(path string) int {
	data, err := statefile.ReadLimited(path, 64)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
