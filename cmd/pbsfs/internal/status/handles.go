package status

import (
	"cmp"
	"path/filepath"
	"slices"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// handlesOf lists open files with their users. It starts from the holders that were
// found. For a handle of the serving process without a found holder, it names the
// process that opened the handle.
func handlesOf(mountpoint string, open []served.Handle, holders []mounts.Holder) []Handle {
	since := make(map[string]time.Time)
	for _, h := range open {
		path := filepath.Join(mountpoint, h.Path)
		if old, ok := since[path]; !ok || h.Since.Before(old) {
			since[path] = h.Since
		}
	}
	var out []Handle
	held := make(map[string]bool)
	for _, h := range holders {
		held[h.Path] = true
		line := Handle{Path: h.Path, PID: h.PID, Name: h.Name, How: h.How}
		if t, ok := since[h.Path]; ok {
			age := time.Since(t).Seconds()
			line.Age = &age
		}
		out = append(out, line)
	}
	for _, h := range open {
		path := filepath.Join(mountpoint, h.Path)
		if held[path] {
			continue
		}
		age := time.Since(h.Since).Seconds()
		name := h.Opener.Name
		if name == "" && h.Opener.PID == 0 {
			name = "somebody who cannot be seen from here"
		}
		out = append(out, Handle{Path: path, PID: h.Opener.PID, Name: name, How: howOpened(h.Opener.PID), Age: &age})
	}
	return out
}

// howOpened describes how a file is open if nothing but the opener's pid is known.
func howOpened(pid int) string {
	if _, running := procfs.LookProcess(pid); running || pid == 0 {
		return "opened by"
	}
	return "opened by (gone)"
}

// readersOf lists what processes read of a datastore without a mount.
func readersOf(host hosts.Host, t locate.Target) ([]Handle, []served.Problem, error) {
	readers, problems, err := served.ReadersOf(host, t)
	var out []Handle
	for mark, list := range readers {
		pid := mark.PID
		if mark.Look() == procfs.Unseen {
			pid = 0 // it belongs to another pid namespace
		}
		for _, r := range list {
			age := time.Since(r.Since).Seconds()
			out = append(out, Handle{Path: r.Path, PID: pid, Name: "pbsfs serve", How: "download by " + r.By, Age: &age})
		}
	}
	slices.SortFunc(out, func(a, b Handle) int { return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(*b.Age, *a.Age)) })
	return out, problems, err
}
