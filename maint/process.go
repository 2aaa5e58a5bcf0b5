package maint

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is a process as the operations file knows it: a pid alone may since
// belong to another one.
type Process struct {
	PID       int
	StartTime uint64 // clock ticks since boot
	Name      string
}

// LookProcess looks at a process and says whether it runs. One that has ended
// and only waits for its parent does not.
func LookProcess(pid int) (Process, bool) {
	p := Process{PID: pid}
	st, ok := readStat(pid)
	if !ok || !st.runs() {
		return p, false
	}
	p.StartTime = st.starttime
	p.Name = processName(pid)
	return p, true
}

// ProcessOf returns the process that a thread belongs to; the thread itself if
// that cannot be told any more.
func ProcessOf(tid int) int {
	data, err := os.ReadFile(procPath(tid, "status"))
	if err != nil {
		return tid
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "Tgid:"); ok {
			if pid, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
				return pid
			}
		}
	}
	return tid
}

// self is the process we are, as the operations file has to name it.
func self() (Process, error) {
	p, ok := LookProcess(os.Getpid())
	if !ok {
		return p, fmt.Errorf("/proc does not show our own process %d", p.PID)
	}
	return p, nil
}

// alive says whether the process with this pid and start time runs.
func alive(pid int, starttime uint64) bool {
	st, ok := readStat(pid)
	return ok && st.starttime == starttime && st.runs()
}

// procStat is what /proc/PID/stat says of a process.
type procStat struct {
	state     byte // of its first thread
	threads   int
	starttime uint64
}

// runs is false for a zombie. Where only the first thread has ended, or a
// killed process's threads end one by one, the descriptors are still open: the
// process runs until the last thread is gone.
func (s procStat) runs() bool {
	return s.state != 'X' && (s.state != 'Z' || s.threads > 1)
}

func readStat(pid int) (procStat, bool) {
	if pid <= 0 {
		return procStat{}, false
	}
	data, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return procStat{}, false
	}
	return parseStat(data)
}

// parseStat reads fields 3, 20 and 22 of /proc/PID/stat. The name before them
// is the process's own choice and may hold anything, ")" too.
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

// processName is the kernel's name for the process, completed from its command
// line where the kernel cut it off.
func processName(pid int) string {
	const kernelLimit = 15
	comm, _ := os.ReadFile(procPath(pid, "comm"))
	name := strings.TrimSuffix(string(comm), "\n")
	if len(name) == kernelLimit {
		line, _ := os.ReadFile(procPath(pid, "cmdline"))
		arg0, _, _ := strings.Cut(string(line), "\x00")
		if full := filepath.Base(arg0); strings.HasPrefix(full, name) && len(full) < 256 {
			name = full
		}
	}
	return printable(name)
}

func procPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}

// readPIDFile returns the pid in a pid file, 0 if there is none.
func readPIDFile(path string) int {
	data, err := readLimited(path, 64)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// initPIDNamespace is the inode number of the first pid namespace, fixed in the
// kernel.
const initPIDNamespace = "pid:[4026531836]"

// seesAllProcesses says whether a process missing in /proc does not exist: we
// are in the first pid namespace and may look at processes of others.
func seesAllProcesses() bool {
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || ns != initPIDNamespace {
		return false
	}
	_, err = os.Stat("/proc/1/stat")
	return err == nil
}
