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

// daemonPrefix is the beginning of the names of the server's daemons. The kernel keeps
// no more of their names.
const daemonPrefix = "proxmox-backup-"

// Daemons returns the running processes in PBS's pid files. Another process that has
// such a pid by now is not one of them. If the processes cannot be seen, Daemons
// returns an error: then PBS's operations cannot be seen either.
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
		return daemons, nil // a caller that sees one daemon would see the other
	}
	return nil, unseen
}

// stopped returns nil if a daemon of the server that was not found does not run.
// Another process may have its pid.
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

// isAnother reports whether a found daemon belongs to another server, as when the
// directories of the host's server are shown in a container that has its own server.
// The operations files then list its pid with another start time.
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

// daemonInside returns the process of a server in a container that has this pid there,
// 0 if there is none.
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

// readPIDFile returns the pid in a pid file, 0 if the file does not exist.
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
