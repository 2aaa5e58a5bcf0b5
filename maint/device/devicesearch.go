package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/mounts"
)

const (
	// searchDepth is how many levels of directories are searched for datastores.
	searchDepth = 3
	// searchLimit bounds how many directories are searched.
	searchLimit = 5000
	// searchNames bounds how many names of one directory are read.
	searchNames = 20_000

	// ChunksDir is the directory that makes its parent a datastore.
	ChunksDir = ".chunks"
)

// DatastoresOn finds the datastores on a device: the directories that contain .chunks,
// by their path below the top, "" for the top itself. If the device is mounted, they
// are looked for there; otherwise the device is mounted read-only where no process sees
// it, without being changed. Directories too far down are not found.
func DatastoresOn(ctx context.Context, d Device) ([]string, error) {
	if m, _, ok := d.MountOf(""); ok {
		return datastoresIn(ctx, m.Point)
	}
	if len(d.Mounts) > 0 { // parts of it
		return datastoresInParts(ctx, d.Mounts)
	}
	m, err := mountDetached(d)
	if err != nil {
		return nil, err
	}
	defer m.close()
	return search(ctx, m.fd)
}

func datastoresIn(ctx context.Context, point string) ([]string, error) {
	fd, err := unix.Open(point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: point, Err: err}
	}
	defer unix.Close(fd)
	return search(ctx, fd)
}

// datastoresInParts looks at the mounted parts of a device.
func datastoresInParts(ctx context.Context, parts []mounts.Mount) ([]string, error) {
	var all []string
	for _, m := range parts {
		found, err := datastoresIn(ctx, m.Point)
		if err != nil {
			return nil, err
		}
		for _, rel := range found {
			all = append(all, strings.Trim(filepath.Join(m.Top(), rel), "/"))
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// search looks for datastores below a directory, level by level. It does not look
// inside a datastore that it finds.
func search(ctx context.Context, top int) ([]string, error) {
	var found []string
	level, looked := []string{""}, 0
	for depth := 0; depth <= searchDepth && len(level) > 0; depth++ {
		var next []string
		for _, dir := range level {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if looked++; looked > searchLimit {
				return found, nil
			}
			is, below, err := lookInto(top, dir, depth < searchDepth)
			if err != nil && depth == 0 {
				return nil, err
			}
			if is {
				found = append(found, dir)
			}
			next = append(next, below...)
		}
		level = next
	}
	slices.Sort(found)
	return found, nil
}

// lookInto reports whether a directory is a datastore, and which directories in it are
// to be searched.
func lookInto(top int, dir string, deeper bool) (is bool, below []string, err error) {
	fd, err := openBelow(top, dir)
	if err != nil {
		return false, nil, err
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	is = isDirAt(fd, ChunksDir)
	if !deeper {
		return is, nil, nil
	}
	names, err := f.Readdirnames(searchNames)
	for _, n := range names {
		if strings.HasPrefix(n, ".") || n == "lost+found" || is && ownDir(n) || !isDirAt(fd, n) {
			continue
		}
		below = append(below, filepath.Join(dir, n))
	}
	if len(names) > 0 {
		err = nil
	}
	if err != nil && errors.Is(err, unix.EIO) {
		return is, nil, fmt.Errorf("reading directory %q: %w", dir, err)
	}
	return is, below, nil
}

// ownDir reports whether a directory in a datastore belongs to the datastore itself.
func ownDir(name string) bool { return slices.Contains([]string{"ns", "host", "vm", "ct"}, name) }

// isDirAt reports whether name is a directory of the same file system. It does not
// touch other file systems that are mounted there.
func isDirAt(dir int, name string) bool {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: beneath}
	fd, err := unix.Openat2(dir, name, &how)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// IsDatastore reports whether the directory rel below top, which is on a device, is a
// datastore. A path with a symbolic link in it is none, because the link may lead
// anywhere.
func IsDatastore(top, rel string) (bool, error) {
	fd, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: top, Err: err}
	}
	defer unix.Close(fd)
	rel = strings.Trim(rel, "/")
	if rel == "" {
		return isDirAt(fd, ChunksDir), nil
	}
	return isDirAt(fd, rel+"/"+ChunksDir), nil
}
