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

// Numbers of processes mean something in one pid namespace only, and start times
// in one time namespace. What /proc shows may be the numbers of another namespace
// than ours. So we are called what /proc calls us, and remember whose numbers
// those are.

// The first pid namespace and the first time namespace, fixed in the kernel.
const (
	InitPIDNamespace  = "pid:[4026531836]"
	initTimeNamespace = "time:[4026531834]"
)

// view is what this process sees of others.
type view struct {
	me Process
	// Namespace has the numbers that /proc shows, "" if that cannot be told.
	Namespace string
	// ours says that those are the numbers that system calls take, too.
	ours bool
	// All says that a process that /proc does not show does not exist in that
	// namespace.
	All bool
}

// Around is the view of this process, which stays the same as long as it runs.
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

// NumbersOf returns the numbers of a process, from the namespace that /proc shows
// to the process's own.
func NumbersOf(pid int) []string {
	return strings.Fields(StatusLine(pid, "NSpid:"))
}

// shownNamespace names the namespace whose numbers /proc shows: ours, or else that
// of a process which has one number only there. Which of them lets us look differs.
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

// seesAll reports whether the processes of others are shown: with the option
// hidepid they are not, not even the first one.
func seesAll() bool {
	_, err := os.Stat("/proc/1/stat")
	return err == nil
}

// Self is this process, as others find it in /proc.
func Self() (Process, error) {
	v, err := Around()
	return v.me, err
}

// OwnNumbers reports whether /proc calls processes what the kernel calls them when it
// speaks to this process.
func OwnNumbers() bool {
	v, err := Around()
	return err == nil && v.ours
}

// ProcessMark names a process for whoever reads it later, perhaps in another
// namespace.
type ProcessMark struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"starttime"`
	// Namespace is that of the pid, "" for the first one.
	Namespace string `json:"namespace,omitempty"`
}

// MarkSelf is the mark of this process.
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

// Sight is what can be said of a process.
type Sight uint8

// What can be said of a process.
const (
	Unseen Sight = iota // it cannot be seen from here whether it runs
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

// LookAt reports whether a process runs that is called so here.
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
		return Ended // hidden processes exist for kill
	}
	return Unseen
}

// bootOffset is how much later than the machine's, in clock ticks, the start times
// are that /proc shows in our time namespace. exact is false where that is no whole
// number.
var bootOffset = sync.OnceValues(func() (ticks int64, exact bool) {
	ns, err := os.Readlink("/proc/self/ns/time")
	if err != nil || ns == initTimeNamespace {
		return 0, true
	}
	children, err := os.Readlink("/proc/self/ns/time_for_children")
	if err != nil || children != ns {
		return 0, true // the offsets are for the children
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
			const perSecond, nanoseconds = 100, 1e7 // the kernel shows hundredths everywhere
			return s*perSecond + ns/nanoseconds, ns%nanoseconds == 0
		}
	}
	return 0, true
}
