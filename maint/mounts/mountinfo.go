package mounts

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNotMounted says that nothing is mounted at a place.
var ErrNotMounted = errors.New("not mounted")

// Mount is one line of a mountinfo file, unescaped.
type Mount struct {
	ID, Parent   int
	Major, Minor uint32
	Root         string // the mounted directory of the file system
	Point        string
	Options      string // of this mount
	FSType       string
	Source       string
	SuperOptions string // of the file system
	// Peers is the group of mounts that hear of mounts and unmounts below this one, and
	// Master is the group of which this mount hears; 0 means no group.
	Peers, Master int
}

// SameMount reports whether two lines, perhaps of different moments, describe one
// mount, which may have been moved. The kernel uses the numbers of mounts and devices
// again at once, so what is mounted counts too.
func (m Mount) SameMount(o Mount) bool {
	return m.ID == o.ID && m.sameDevice(o) && m.FSType == o.FSType && m.Root == o.Root && m.Source == o.Source
}

// Device returns the number of the file system's device as text, like "0:42".
func (m Mount) Device() string { return fmt.Sprintf("%d:%d", m.Major, m.Minor) }

// sameDevice reports whether two mounts show one file system.
func (m Mount) sameDevice(o Mount) bool { return m.Major == o.Major && m.Minor == o.Minor }

// Mounts lists the mounts that this process sees.
func Mounts() (MountTable, error) { return MountsIn("/proc/self/mountinfo") }

// MountsIn reads a mountinfo file, as /proc has one for each process.
func MountsIn(path string) (MountTable, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMountinfo(f)
}

// parseMountinfo skips lines that it does not understand.
func parseMountinfo(r io.Reader) (MountTable, error) {
	var mounts MountTable
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if m, ok := parseMount(line); ok {
			mounts = append(mounts, m)
		}
		if errors.Is(err, io.EOF) {
			return mounts, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// parseMount reads "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root
// rw"; the fields before the dash vary in number.
func parseMount(line string) (m Mount, ok bool) {
	before, after, ok := strings.Cut(line, " - ")
	f, g := strings.Fields(before), strings.Fields(after)
	if !ok || len(f) < 6 || len(g) < 2 {
		return m, false
	}
	major, minor, ok := strings.Cut(f[2], ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	id, err3 := strconv.Atoi(f[0])
	parent, err4 := strconv.Atoi(f[1])
	if !ok || errors.Join(err1, err2, err3, err4) != nil {
		return m, false
	}
	m = Mount{
		ID: id, Parent: parent, Major: uint32(a), Minor: uint32(b),
		Root: unescapeMount(f[3]), Point: unescapeMount(f[4]), Options: f[5],
		FSType: g[0], Source: unescapeMount(g[1]),
	}
	if len(g) > 2 {
		m.SuperOptions = g[2]
	}
	for _, tag := range f[6:] {
		key, value, _ := strings.Cut(tag, ":")
		switch n, _ := strconv.Atoi(value); key {
		case "shared":
			m.Peers = n
		case "master":
			m.Master = n
		}
	}
	return m, true
}

// unescapeMount undoes the kernel's octal escapes of space, tab, newline and
// backslash.
func unescapeMount(s string) string {
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

// FindMount returns the topmost mount at a place. It does not touch what is mounted
// there, because that file system may be dead, or our own.
func FindMount(point string) (Mount, error) {
	point, err := filepath.Abs(point)
	if err != nil {
		return Mount{}, err
	}
	mounts, err := Mounts()
	if err != nil {
		return Mount{}, err
	}
	const links = 40
	for range links {
		if m, ok := mounts.At(point); ok {
			return m, nil
		}
		// Nothing is mounted under exactly this name, so the name may be looked at.
		next, err := resolveStep(mounts, point)
		if err != nil || next == point {
			return Mount{}, fmt.Errorf("%s: %w", point, ErrNotMounted)
		}
		point = next
	}
	return Mount{}, fmt.Errorf("%s: too many symbolic links", point)
}

// resolveStep follows the first symbolic link in path that lies before any FUSE mount.
// It returns path itself if there is none.
func resolveStep(mounts MountTable, path string) (string, error) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	at := "/"
	for i, part := range parts {
		at = filepath.Join(at, part)
		if m, ok := mounts.At(at); ok && strings.HasPrefix(m.FSType, "fuse") {
			return path, nil
		}
		target, err := os.Readlink(at)
		if err != nil {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(at), target)
		}
		return filepath.Join(append([]string{target}, parts[i+1:]...)...), nil
	}
	return path, nil
}
