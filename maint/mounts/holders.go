package mounts

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/text"
)

// The ways in which a mount is held.
const (
	HowDescriptor = "descriptor"
	HowMapping    = "mapping"
	HowLoop       = "loop device"
	HowCwd        = "cwd"
	HowRoot       = "root"
	HowNested     = "nested mount"
	HowNamespace  = "copy of the mount in another namespace"
	HowMounted    = "another mount of it"
)

// Holder is a process or a kernel object that keeps a mount in use. A loop device and a
// nested mount of our own namespace belong to the kernel: PID is 0 then, and Name is
// the device or the type of the nested file system.
type Holder struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"starttime"`
	Name      string `json:"name"`
	Path      string `json:"path"` // the path in our namespace
	How       string `json:"how"`
}

// String returns the holder as a line for a terminal.
func (h Holder) String() string {
	if h.PID == 0 {
		return text.Printable(fmt.Sprintf("%s (%s): %s", h.Name, h.How, h.Path))
	}
	return text.Printable(fmt.Sprintf("process %d %s (%s): %s", h.PID, h.Name, h.How, h.Path))
}

// Holders finds what keeps the mount at point in use. It opens nothing on the mount and
// looks at nothing there: it uses only the names and numbers that /proc and /sys give,
// so the daemon that serves the mount may call it too. Processes that the caller may
// not look into are left out; root sees all.
func Holders(ctx context.Context, point string) ([]Holder, error) {
	mount, err := FindMount(point)
	if err != nil {
		return nil, err
	}
	s, err := newHolderScan(mount)
	if err != nil {
		return nil, err
	}
	return s.search(ctx)
}

// HoldersOf finds what keeps one mount in use, even if other mounts lie upon it. A
// process that uses the file system through another mount of this namespace does not
// count, and neither does a mount upon the whole of it.
func HoldersOf(ctx context.Context, m Mount) ([]Holder, error) {
	s, err := newHolderScan(m)
	if err != nil {
		return nil, err
	}
	here := MountTable(s.namespaces[s.own].mounts)
	s.apart = make(map[int]bool)
	for _, o := range here.OfDevice(m) {
		if o.ID != m.ID {
			s.apart[o.ID] = true
			delete(s.ids, o.ID)
		}
	}
	for _, o := range here.Upon(m) {
		s.apart[o.ID] = true
	}
	return s.search(ctx)
}

func (s *holderScan) search(ctx context.Context) ([]Holder, error) {
	pids, err := procfs.NumericDirs("/proc")
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.noteNamespace(pid)
	}
	for _, pid := range pids {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.process(pid)
	}
	s.loops()
	s.nested()
	return s.found, nil
}

// holderScan is one search. It identifies a file system by its device number, which is
// the same in every namespace. A descriptor names the mount through which it was
// opened, so all mounts of the device, in all namespaces, are collected first.
type holderScan struct {
	mount      Mount
	namespaces map[string]mountNamespace // by the name of the namespace
	own        string                    // ours
	ids        map[int]bool              // all mounts of the device
	known      map[int]bool              // all mounts that a table shows
	apart      map[int]bool              // mounts of our namespace that are not asked about
	found      []Holder
}

type mountNamespace struct {
	pid    int // a process in it
	mounts []Mount
}

func newHolderScan(mount Mount) (*holderScan, error) {
	s := &holderScan{mount: mount, namespaces: map[string]mountNamespace{}, ids: map[int]bool{}, known: map[int]bool{}}
	mounts, err := Mounts()
	if err != nil {
		return nil, err
	}
	s.own, err = os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	me, err := procfs.Self()
	if err != nil {
		return nil, err
	}
	s.addNamespace(s.own, me.PID, mounts)
	return s, nil
}

func (s *holderScan) addNamespace(name string, pid int, mounts []Mount) {
	s.namespaces[name] = mountNamespace{pid, mounts}
	for _, m := range mounts {
		s.known[m.ID] = true
		if m.sameDevice(s.mount) {
			s.ids[m.ID] = true
		}
	}
}

// noteNamespace collects the mounts that a process sees, if its namespace is new.
func (s *holderScan) noteNamespace(pid int) {
	name, err := os.Readlink(procfs.ProcPath(pid, "ns/mnt"))
	if err != nil {
		return
	}
	if _, known := s.namespaces[name]; known {
		return
	}
	if mounts, err := MountsIn(procfs.ProcPath(pid, "mountinfo")); err == nil {
		s.addNamespace(name, pid, mounts)
	}
}

func (s *holderScan) add(pid int, path, how string) {
	p, _ := procfs.LookProcess(pid)
	if p.Name == "" {
		p.Name = procfs.ProcessName(pid)
	}
	h := Holder{PID: pid, StartTime: p.StartTime, Name: p.Name, Path: path, How: how}
	if !slices.Contains(s.found, h) {
		s.found = append(s.found, h)
	}
}

// process looks at everything that one process holds. Its threads may have directories
// of their own, and if the first thread has ended, the others still have the
// descriptors.
func (s *holderScan) process(pid int) {
	at := func(path string) bool { return s.contains(pid, path) }
	s.descriptors(pid, procfs.ProcPath(pid, "fd"), procfs.ProcPath(pid, "fdinfo"))
	s.mappings(pid, procfs.ProcPath(pid, "maps"))
	s.link(pid, procfs.ProcPath(pid, "cwd"), HowCwd, at)
	s.link(pid, procfs.ProcPath(pid, "root"), HowRoot, at)
	tids, err := procfs.NumericDirs(procfs.ProcPath(pid, "task"))
	if err != nil || len(tids) < 2 {
		return
	}
	first, ok := procfs.ReadStat(pid)
	leads := ok && first.State != 'Z'
	for _, tid := range tids {
		if tid == pid {
			continue
		}
		task := procfs.ProcPath(pid, "task/"+strconv.Itoa(tid)+"/")
		s.link(pid, task+"cwd", HowCwd, at)
		s.link(pid, task+"root", HowRoot, at)
		if !leads {
			s.descriptors(pid, task+"fd", task+"fdinfo")
			s.mappings(pid, task+"maps")
		}
	}
}

func (s *holderScan) link(pid int, path, how string, inside func(string) bool) {
	target, err := os.Readlink(path)
	if err != nil || !inside(target) {
		return
	}
	if id, ok := mountBehind(path); ok && !s.ids[id] {
		return // the path leads to another mount that lies there
	}
	s.add(pid, target, how)
}

// mountBehind returns the number of the mount to which a link in /proc leads. It asks
// the file system nothing.
func mountBehind(link string) (int, bool) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, 0, &st)
	if err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, false
	}
	return int(st.Mnt_id), true
}

// descriptors identifies each descriptor's mount by the number in its fdinfo, and by
// its path if the kernel does not give the number.
func (s *holderScan) descriptors(pid int, dir, info string) {
	fds, err := procfs.NumericDirs(dir)
	if err != nil {
		return
	}
	for _, fd := range fds {
		n := strconv.Itoa(fd)
		path, err := os.Readlink(filepath.Join(dir, n))
		if err != nil || !strings.HasPrefix(path, "/") {
			continue // a pipe, a socket, or a descriptor that was closed meanwhile
		}
		id, ok := mountID(filepath.Join(info, n))
		if ok && s.ids[id] || !ok && s.contains(pid, path) || ok && !s.known[id] && s.detached(filepath.Join(dir, n)) {
			s.add(pid, path, HowDescriptor)
		}
	}
}

// detached reports whether a descriptor refers to the device through a mount that is in
// no table: it was never attached, or was unmounted lazily.
func (s *holderScan) detached(link string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, 0, &st)
	return err == nil && st.Dev_major == s.mount.Major && st.Dev_minor == s.mount.Minor
}

// mountID reads the line "mnt_id:" of a descriptor's fdinfo.
func mountID(path string) (int, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id, err := strconv.Atoi(strings.TrimSpace(value))
			return id, err == nil
		}
	}
	return 0, false
}

// mappings reads the device numbers in maps. The kernel gives them without asking the
// file system. A mapping outlives its descriptor.
func (s *holderScan) mappings(pid int, path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	want := fmt.Sprintf("%02x:%02x", s.mount.Major, s.mount.Minor)
	for in := bufio.NewScanner(f); in.Scan(); {
		// The fields are address, perms, offset, device, inode, path; the path may have
		// spaces.
		f := strings.SplitN(in.Text(), " ", 6)
		if len(f) == 6 && f[3] == want {
			s.add(pid, unescapeMount(strings.TrimLeft(f[5], " ")), HowMapping)
		}
	}
}

// contains reports whether a path that the kernel gave for a process lies on the mount,
// or on a mount that lies upon it. The closest mount above the path in the process's
// namespace decides.
func (s *holderScan) contains(pid int, path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	name, err := os.Readlink(procfs.ProcPath(pid, "ns/mnt"))
	if err != nil {
		return false
	}
	on, ok := closest(s.namespaces[name].mounts, path)
	return ok && (on.sameDevice(s.mount) || name == s.own && s.apart[on.ID])
}

// closest returns the mount with the closest point above a path.
func closest(mounts []Mount, path string) (found Mount, ok bool) {
	path = strings.TrimSuffix(path, " (deleted)")
	for _, m := range mounts {
		if Below(path, m.Point) && (!ok || len(m.Point) >= len(found.Point)) {
			found, ok = m, true
		}
	}
	return found, ok
}

// Below reports whether path is dir or lies below it.
func Below(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || rest[0] == '/' || dir == "/")
}

// loops finds loop devices over files of the mount.
func (s *holderScan) loops() {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range files {
		data, err := os.ReadFile(file)
		path := strings.TrimSuffix(string(data), "\n")
		on, ok := closest(s.namespaces[s.own].mounts, path)
		if err != nil || !ok || !on.sameDevice(s.mount) || s.apart[on.ID] {
			continue
		}
		device := filepath.Base(filepath.Dir(filepath.Dir(file)))
		s.found = append(s.found, Holder{Name: "/dev/" + device, Path: path, How: HowLoop})
	}
}

// nested finds mounts on directories of the mount, in every namespace.
func (s *holderScan) nested() {
	for name, ns := range s.namespaces {
		for _, m := range ns.mounts {
			switch {
			case !s.ids[m.Parent] || m.ID == m.Parent || s.apart[m.ID]:
			case name == s.own:
				s.found = append(s.found, Holder{Name: m.FSType, Path: m.Point, How: HowNested})
			default:
				s.add(ns.pid, m.Point, HowNested)
			}
		}
	}
}
