package procfs

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupDir is where the control groups of version 2 are.
const cgroupDir = "/sys/fs/cgroup"

// Memory returns how many bytes of memory this process may use: those of the machine, or
// fewer if a control group limits it. It is 0 if that cannot be told.
func Memory() int64 {
	info, _ := os.ReadFile("/proc/meminfo")
	groups, _ := os.ReadFile("/proc/self/cgroup")
	return memoryOf(string(info), string(groups), cgroupDir)
}

// memoryOf finds the smallest limit in the texts of meminfo and cgroup, and in the
// directory of control groups.
func memoryOf(info, groups, dir string) int64 {
	memory := int64(math.MaxInt64)
	for line := range strings.Lines(info) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "MemTotal:" || fields[2] != "kB" {
			continue
		}
		if n, err := strconv.ParseInt(fields[1], 10, 53); err == nil && n > 0 {
			memory = n << 10
		}
	}
	for line := range strings.Lines(groups) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		for ok { // the limits of the groups above count as well
			if n := memoryLimit(filepath.Join(dir, group)); n > 0 {
				memory = min(memory, n)
			}
			if group == "" || group == "." {
				break
			}
			group = filepath.Dir(group)
		}
	}
	if memory == math.MaxInt64 {
		return 0
	}
	return memory
}

// memoryLimit returns the limit of a control group, 0 if it has none.
func memoryLimit(dir string) int64 {
	text, err := os.ReadFile(filepath.Join(dir, "memory.max"))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0 // "max"
	}
	return n
}
