package restore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// markerName is the file directly in TARGET that says that a restore is not finished.
const markerName = ".pbsfs-restore"

// maxMarker bounds the marker, in bytes.
const maxMarker = 1 << 20

// Marker says what is restored: only the same restore goes on with what is there.
type Marker struct {
	Version   int            `json:"pbsfs_restore"`
	Datastore string         `json:"datastore"`
	Sources   []MarkedSource `json:"sources"`
	Patterns  []string       `json:"patterns"`
	Salvage   bool           `json:"salvage,omitempty"` // files may have zeros
}

// MarkedSource is a source in a Marker. ID changes whenever an archive does.
type MarkedSource struct {
	Path string `json:"path"`
	Name string `json:"name"`
	ID   string `json:"id"`
}

// marker is the marker in a TARGET, locked. A nil marker is none.
type marker struct {
	f       *os.File
	resumed bool
}

// begin makes the marker in an empty TARGET, or takes the one that is there. It returns
// nil if what is there is not ours, and that is allowed.
func (r *run) begin(fd int, path string, m Marker) (*marker, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	text = append(text, '\n')
	found, err := openMarker(fd)
	switch {
	case err == nil:
		return r.goOn(found, path, text)
	case !errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("TARGET %s: %s: %w", path, markerName, err)
	}
	empty, err := isEmpty(fd)
	switch {
	case err != nil:
		return nil, fmt.Errorf("TARGET %s: %w", path, err)
	case !empty && r.o.IntoOthers:
		return nil, nil
	case !empty:
		return nil, fmt.Errorf("TARGET %s is not empty; with --overwrite never, older, changed or always it may have something in it", path)
	case r.o.DryRun:
		return &marker{}, nil
	}
	return makeMarker(fd, path, text)
}

func openMarker(fd int) (*os.File, error) {
	f, err := unix.Openat(fd, markerName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(f), markerName), nil
}

// goOn takes the marker of a restore that has not finished.
func (r *run) goOn(f *os.File, path string, text []byte) (_ *marker, err error) {
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := lock(f, path); err != nil {
		return nil, err
	}
	had, err := io.ReadAll(io.LimitReader(f, maxMarker))
	if err != nil {
		return nil, fmt.Errorf("TARGET %s: %s: %w", path, markerName, err)
	}
	if bytes.Equal(had, text) || len(had) == 0 && ownFile(f) { // killed before it was written
		return &marker{f: f, resumed: true}, nil
	}
	if r.o.IntoOthers {
		f.Close()
		return nil, nil
	}
	return nil, fmt.Errorf("TARGET %s has an unfinished restore of something else, as its %s says; give the same command as then, or --overwrite", path, markerName)
}

func ownFile(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && int(st.Uid) == os.Geteuid()
}

func lock(f *os.File, path string) error {
	err := again(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("TARGET %s: another restore into it is running", path)
	case unsupported(err):
		return nil
	case err != nil:
		return fmt.Errorf("TARGET %s: %s: %w", path, markerName, err)
	}
	return nil
}

func makeMarker(fd int, path string, text []byte) (*marker, error) {
	m, err := unix.Openat(fd, markerName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("TARGET %s: %s: %w", path, markerName, err)
	}
	f := os.NewFile(uintptr(m), markerName)
	err = lock(f, path)
	if err == nil {
		if _, err = f.Write(text); err != nil {
			_ = unix.Unlinkat(fd, markerName, 0)
			err = fmt.Errorf("TARGET %s: %w", path, err)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &marker{f: f}, nil
}

// remove removes the marker: the restore has finished.
func (m *marker) remove(fd int) error {
	if m == nil || m.f == nil {
		return nil
	}
	return target("removing "+markerName, again(func() error { return unix.Unlinkat(fd, markerName, 0) }))
}

func (m *marker) close() {
	if m != nil && m.f != nil {
		m.f.Close()
	}
}

// isEmpty reports whether a directory is empty, apart from what a new file system has.
func isEmpty(fd int) (bool, error) {
	dup, err := openDirectory(fd, ".")
	if err != nil {
		return false, err
	}
	f := os.NewFile(uintptr(dup), "TARGET")
	defer f.Close()
	names, err := f.Readdirnames(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return len(names) == 0 || len(names) == 1 && names[0] == "lost+found", nil
}
