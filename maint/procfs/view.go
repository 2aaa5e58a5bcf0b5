package procfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A pid has a meaning in one pid namespace only, and a start time in one time
// namespace. /proc may show the pids of another namespace than ours. So we identify
// ourselves by the pid that /proc gives us, and remember its namespace.

// The first pid namespace and the first time namespace, fixed in the kernel.
const (
	InitPIDNamespace  = "pid:[4026531836]"
	initTimeNamespace = "time:[4026531834]"
)

// view describes which other processes this process sees.
type view struct {
	me Process
	// Namespace is the namespace of the pids in /proc, "" if it cannot be told.
	Namespace string
	// ours says that system calls take the same pids.
	ours bool
	// All says that /proc shows every process of that namespace.
	All bool
}

// Around returns the view of this process, which stays the same as long as it runs.
var Around = sync.OnceValues(lookAround)

func lookAround() (view, error) {
	link, err := os.Readlink("/proc/self")
	if err != nil {
		return view{}, fmt.Errorf("/proc does not show this process: %w", err)
	}
	pid, err := strconv.Atoi(link)
	if err != nil {
		return view{}, fmt.Errorf("/proc/self is %q", link)
	}
	me, ok := LookProcess(pid)
	if !ok {
		return view{}, fmt.Errorf("/proc does not show this process, %d", pid)
	}
	v := view{me: me}
	v.ours = len(NumbersOf(pid)) == 1
	v.Namespace = shownNamespace(v.ours)
	v.All = seesAll()
	return v, nil
}

// NumbersOf returns the pids of a process, from the one in the namespace that /proc
// shows to the one in the process's own namespace.
func NumbersOf(pid int) []string {
	return strings.Fields(StatusLine(pid, "NSpid:"))
}

// shownNamespace names the namespace whose pids /proc shows: ours, or else that of a
// process that has only one pid there. Which of them may be looked at differs.
func shownNamespace(ours bool) string {
	if ours {
		ns, _ := os.Readlink("/proc/self/ns/pid")
		return ns
	}
	pids, err := NumericDirs("/proc")
	if err != nil {
		return ""
	}
	for _, pid := range pids {
		ns, err := os.Readlink(ProcPath(pid, "ns/pid"))
		if err == nil && len(NumbersOf(pid)) == 1 {
			return ns
		}
	}
	return ""
}

// seesAll reports whether other users' processes are shown. With the option hidepid
// they are not, not even the first process.
func seesAll() bool {
	_, err := os.Stat("/proc/1/stat")
	return err == nil
}

// Self returns this process as others find it in /proc.
func Self() (Process, error) {
	v, err := Around()
	return v.me, err
}

// OwnNumbers reports whether /proc shows the same pids that the kernel gives this
// process.
func OwnNumbers() bool {
	v, err := Around()
	return err == nil && v.ours
}

// ProcessMark identifies a process for a later reader, which may be in another
// namespace.
type ProcessMark struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"starttime"`
	// Namespace is the namespace of the pid, "" for the first one.
	Namespace string `json:"namespace,omitempty"`
}

// MarkSelf returns the mark of this process.
func MarkSelf() (ProcessMark, error) {
	v, err := Around()
	if err != nil {
		return ProcessMark{}, err
	}
	m := ProcessMark{PID: v.me.PID, StartTime: v.me.StartTime, Namespace: v.Namespace}
	switch m.Namespace {
	case InitPIDNamespace:
		m.Namespace = ""
	case "":
		m.Namespace = "unknown"
	}
	return m, nil
}

// Sight is what is known of a process.
type Sight uint8

// The values of Sight.
const (
	Unseen Sight = iota // whether it runs cannot be seen from here
	Runs
	Ended
)

// Look reports whether the process runs.
func (m ProcessMark) Look() Sight {
	v, err := Around()
	ns := m.Namespace
	if ns == "" {
		ns = InitPIDNamespace
	}
	if err != nil || ns != v.Namespace {
		return Unseen
	}
	return LookAt(m.PID, m.StartTime)
}

// LookAt reports whether a process with this pid and start time runs.
func LookAt(pid int, starttime uint64) Sight {
	if pid <= 0 {
		return Ended
	}
	if st, ok := ReadStat(pid); ok {
		if st.startedAt(starttime) && st.runs() {
			return Runs
		}
		return Ended
	}
	v, err := Around()
	switch {
	case err != nil:
		return Unseen
	case v.All:
		return Ended
	case v.ours && errors.Is(unix.Kill(pid, 0), unix.ESRCH):
		return Ended // kill also finds processes that /proc hides
	}
	return Unseen
}

// bootOffset is how many clock ticks the start times that /proc shows in our time
// namespace are later than those of the machine's clock. exact is false if that is no
// whole number.
var bootOffset = sync.OnceValues(func() (ticks int64, exact bool) {
	ns, err := os.Readlink("/proc/self/ns/time")
	if err != nil || ns == initTimeNamespace {
		return 0, true
	}
	children, err := os.Readlink("/proc/self/ns/time_for_children")
	if err != nil || children != ns {
		return 0, true // the offsets apply only to the children
	}
	text, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return 0, true
	}
	return parseBootOffset(string(text))
})

// parseBootOffset reads lines like "boottime 1000 0", seconds and nanoseconds.
func parseBootOffset(text string) (ticks int64, exact bool) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "boottime" && f[0] != "7" {
			continue
		}
		s, err1 := strconv.ParseInt(f[1], 10, 64)
		ns, err2 := strconv.ParseInt(f[2], 10, 64)
		if err1 == nil && err2 == nil {
			const perSecond, nanoseconds = 100, 1e7 // the kernel shows hundredths on all machines
			return s*perSecond + ns/nanoseconds, ns%nanoseconds == 0
		}
	}
	return 0, true
}
