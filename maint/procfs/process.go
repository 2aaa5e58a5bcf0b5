package procfs

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pbsfs/pbsfs/maint/text"
)

// Process is a process as the operations file identifies it: a pid alone may belong to
// another process by now.
type Process struct {
	PID       int
	StartTime uint64 // clock ticks since boot, on the machine's clock
	Name      string
}

// LookProcess looks at a process and reports whether it runs. A process that has ended
// and only waits for its parent does not run.
func LookProcess(pid int) (Process, bool) {
	p := Process{PID: pid}
	st, ok := ReadStat(pid)
	if !ok || !st.runs() {
		return p, false
	}
	p.StartTime = st.starttime
	p.Name = ProcessName(pid)
	return p, true
}

// ProcessOf returns the process of a thread, or the thread itself if its process can no
// longer be found out.
func ProcessOf(tid int) int {
	if pid, err := strconv.Atoi(StatusLine(tid, "Tgid:")); err == nil {
		return pid
	}
	return tid
}

// StatusLine returns the value of a line of /proc/PID/status.
func StatusLine(pid int, name string) string {
	data, err := os.ReadFile(ProcPath(pid, "status"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// OwnedBy reports whether a process runs as that user only.
func OwnedBy(pid, uid int) bool {
	ids := strings.Fields(StatusLine(pid, "Uid:"))
	want := strconv.Itoa(uid)
	return len(ids) >= 2 && ids[0] == want && ids[1] == want
}

// Alive reports whether the process with this pid and start time runs.
func Alive(pid int, starttime uint64) bool { return LookAt(pid, starttime) == Runs }

// procStat is what /proc/PID/stat says of a process.
type procStat struct {
	State     byte // of its first thread
	threads   int
	starttime uint64 // by the machine's clock, in any time namespace
}

// runs is false for a zombie. If only the first thread has ended, or the threads of a
// killed process end one by one, the descriptors are still open: the process runs until
// the last thread is gone.
func (s procStat) runs() bool {
	return s.State != 'X' && (s.State != 'Z' || s.threads > 1)
}

// startedAt compares start times. One of them may have been rounded in another time
// namespace.
func (s procStat) startedAt(t uint64) bool {
	if _, exact := bootOffset(); !exact {
		return s.starttime+1 >= t && t+1 >= s.starttime
	}
	return s.starttime == t
}

// ReadStat reads what /proc says of a process; false if there is no such process.
func ReadStat(pid int) (procStat, bool) {
	if pid <= 0 {
		return procStat{}, false
	}
	data, err := os.ReadFile(ProcPath(pid, "stat"))
	if err != nil {
		return procStat{}, false
	}
	st, ok := parseStat(data)
	ticks, _ := bootOffset()
	st.starttime -= uint64(ticks) // a negative sum wraps around, as it should
	return st, ok
}

// parseStat reads fields 3, 20 and 22 of /proc/PID/stat. The process chooses the name
// before them, so the name may hold any characters, even ")".
func parseStat(data []byte) (procStat, bool) {
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return procStat{}, false
	}
	fields := strings.Fields(string(data[i+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return procStat{}, false
	}
	threads, err1 := strconv.Atoi(fields[17])
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	return procStat{fields[0][0], threads, start}, err1 == nil && err2 == nil
}

// ProcessName returns the kernel's name for the process. If the kernel has cut it off,
// the command line completes it.
func ProcessName(pid int) string {
	const kernelLimit = 15
	comm, _ := os.ReadFile(ProcPath(pid, "comm"))
	name := strings.TrimSuffix(string(comm), "\n")
	if len(name) == kernelLimit {
		line, _ := os.ReadFile(ProcPath(pid, "cmdline"))
		arg0, _, _ := strings.Cut(string(line), "\x00")
		if full := filepath.Base(arg0); strings.HasPrefix(full, name) && len(full) < 256 {
			name = full
		}
	}
	return text.Printable(name)
}

// ProcPath returns the path of a file in a process's directory in /proc.
func ProcPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}

// NumericDirs lists the entries of a directory of /proc that are numbers.
func NumericDirs(dir string) ([]int, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}
