package mounts

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/maint/procfs"
)

// A program can use the file system of a mount without using the mount itself. The
// kernel does not refuse to take such a mount away, but the file system stays in use.
// So we look for such users before anything is unmounted.

// HowOverlay says that an overlay holds a mount as one of its layers.
const HowOverlay = "overlay"

// CopiesOf finds what would keep the file system of m in use after m is taken away,
// except other mounts of it in this namespace: copies in other namespaces that do not
// hear of the unmount, and overlays, in any namespace, that have a directory of it as a
// layer. A namespace is named by a process in it, or by the file or descriptor that
// keeps it.
func CopiesOf(ctx context.Context, m Mount) ([]Holder, error) {
	spaces, err := lookAtSpaces(ctx)
	if err != nil {
		return nil, err
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	here := spaces[own]
	if here == nil {
		table, err := Mounts()
		if err != nil {
			return nil, err
		}
		here = &mountSpace{name: own, pid: os.Getpid(), table: table}
		spaces[own] = here
	}
	var found []Holder
	for _, space := range spaces {
		if space != here {
			found = append(found, space.copies(m, here.table)...)
		}
		for i, o := range space.table {
			if o.FSType == "overlay" && (o.layeredOn(m, space.table[:i]) || o.layeredOn(m, space.table)) {
				found = append(found, space.holder(o.Point, HowOverlay, "overlay", space == here))
			}
		}
	}
	slices.SortFunc(found, func(a, b Holder) int { return strings.Compare(a.String(), b.String()) })
	return found, nil
}

// copies returns the first copy of a mount in a namespace that stays after the mount is
// taken away.
func (s *mountSpace) copies(m Mount, here MountTable) []Holder {
	for _, c := range s.table {
		if c.sameDevice(m) && c.FSType == m.FSType && !hears(c, s.table, m, here) {
			return []Holder{s.holder(c.Point, HowNamespace, m.FSType, false)}
		}
	}
	return nil
}

// hears reports whether a copy is taken away together with a mount: the kernel
// propagates mounts between the two directories on which they are mounted.
func hears(c Mount, there MountTable, m Mount, here MountTable) bool {
	parent := func(t MountTable, of Mount) (p Mount) {
		if i := slices.IndexFunc(t, func(o Mount) bool { return o.ID == of.Parent }); i >= 0 {
			p = t[i]
		}
		return p
	}
	on, from := parent(there, c), parent(here, m)
	return from.Peers != 0 && (on.Peers == from.Peers || on.Master == from.Peers) && c.Root == m.Root
}

// holder describes what holds a mount in the namespace.
func (s *mountSpace) holder(path, how, name string, here bool) Holder {
	h := Holder{Name: name, Path: path, How: how}
	switch {
	case here:
	case s.pid != 0:
		p, _ := procfs.LookProcess(s.pid)
		h.PID, h.StartTime, h.Name = s.pid, p.StartTime, p.Name
		if h.Name == "" {
			h.Name = procfs.ProcessName(s.pid)
		}
	default:
		h.Name = s.name
		h.How = how + ", kept by " + s.at
	}
	return h
}

// layeredOn reports whether an overlay has a directory of a mount as a layer. before is
// the mount table from when the overlay was made: since then, a path may lead
// elsewhere. The kernel lists layers by the names that were given for them. A name may
// be relative to a directory that is no longer known; then it counts if it could lead
// to the mount, and to no other tree.
func (m Mount) layeredOn(on Mount, before MountTable) bool {
	for _, dir := range m.layers() {
		if filepath.IsAbs(dir) {
			way := before.Way(filepath.Clean(dir))
			if len(way) > 0 && way[len(way)-1].sameDevice(on) {
				return true
			}
			continue
		}
		var like []Mount
		for _, o := range before {
			if o.FSType == on.FSType && endsIn(o.Point, dir) {
				like = append(like, o)
			}
		}
		if len(like) > 0 && !slices.ContainsFunc(like, func(o Mount) bool { return !o.sameDevice(on) }) {
			return true
		}
	}
	return false
}

// layers returns the directories of which an overlay is made.
func (m Mount) layers() []string {
	var dirs []string
	for opt := range strings.SplitSeq(m.SuperOptions, ",") {
		key, value, _ := strings.Cut(opt, "=")
		switch strings.TrimSuffix(key, "+") {
		case "lowerdir", "datadir", "upperdir", "workdir":
			for dir := range strings.SplitSeq(unescapeMount(value), ":") {
				if dir != "" {
					dirs = append(dirs, dir)
				}
			}
		}
	}
	return dirs
}

// endsIn reports whether a relative path could lead to a mount point or below it: the
// point ends in the first components of the path.
func endsIn(point, rel string) bool {
	rel = filepath.Clean(rel)
	for strings.HasPrefix(rel, "../") {
		rel = rel[len("../"):]
	}
	first := ""
	for part := range strings.SplitSeq(rel, "/") {
		first += "/" + part
		if part != "." && part != ".." && strings.HasSuffix(point, first) {
			return true
		}
	}
	return false
}
