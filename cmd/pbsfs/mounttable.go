package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/pbsfs/pbsfs/fs"
)

// fuseType is the type of our mounts in the mount table.
const fuseType = "fuse." + fs.TypeName

// mountEntry is a line of the mount table.
type mountEntry struct {
	id     int
	dev    string // major:minor
	where  string
	fstype string
	source string
}

// mountTable returns the mounts of this process's namespace, in the order they
// were made.
func mountTable() ([]mountEntry, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	var out []mountEntry
	for line := range strings.Lines(string(text)) {
		if e, ok := parseMount(line); ok {
			out = append(out, e)
		}
	}
	return out, nil
}

// parseMount reads a line of mountinfo; see proc(5).
func parseMount(line string) (mountEntry, bool) {
	head, tail, ok := strings.Cut(line, " - ")
	fields, rest := strings.Fields(head), strings.Fields(tail)
	if !ok || len(fields) < 6 || len(rest) < 2 {
		return mountEntry{}, false
	}
	id, err := strconv.Atoi(fields[0])
	if err != nil {
		return mountEntry{}, false
	}
	return mountEntry{id: id, dev: fields[2], where: unescape(fields[4]), fstype: rest[0], source: unescape(rest[1])}, true
}

// unescape undoes the octal escapes of the mount table.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountAt returns the mount on top at where; the zero entry when there is
// none.
func mountAt(where string) (mountEntry, error) {
	table, err := mountTable()
	if err != nil {
		return mountEntry{}, err
	}
	var found mountEntry
	for _, e := range table {
		if e.where == where {
			found = e
		}
	}
	return found, nil
}
