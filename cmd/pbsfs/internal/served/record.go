package served

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/store"
)

// Record is what a serving process leaves in the run directory, so that
// other commands find it.
type Record struct {
	procfs.ProcessMark
	Datastore  string    `json:"datastore"`
	Path       string    `json:"path"`
	Mountpoint string    `json:"mountpoint"`
	Since      time.Time `json:"since"`
	Untracked  bool      `json:"untracked,omitempty"`
	// Identity is what the datastore is told by, whatever it is called.
	Identity identity.ID `json:"identity,omitzero"`
	// MountID and Device are those of the mount table: the mount point can be
	// moved, or hidden.
	MountID int    `json:"mount_id,omitempty"`
	Device  string `json:"device,omitempty"`
	// RawPath and RawMountpoint are the names' bytes where JSON cannot hold
	// them as text.
	RawPath       []byte `json:"raw_path,omitempty"`
	RawMountpoint []byte `json:"raw_mountpoint,omitempty"`

	file string
	own  bool          // left by a process of this user
	user maint.UserDir // where it was found, unless it is our own
	uid  int           // whose process it is to be
}

// socket is where the process that left the record answers; see control.go.
func (r *Record) socket() string { return strings.TrimSuffix(r.file, ".json") + ".sock" }

// Ours reports whether a process of this user left the record, in our own run
// directory. Another user's may be anybody's socket.
func (r *Record) Ours() bool { return r.own }

func recordDir(host hosts.Host) string { return filepath.Join(host.OwnRunDir(), "mounts") }

// Leave leaves the record of this process's mount.
func Leave(host hosts.Host, ref *store.Lookup, at mounts.Mount) (*Record, error) {
	self, err := procfs.MarkSelf()
	if err != nil {
		return nil, err
	}
	r := &Record{
		ProcessMark: self, Datastore: ref.Name(), Path: ref.Path(),
		Mountpoint: at.Point, Since: time.Now().UTC().Truncate(time.Second), Untracked: ref.Untracked(),
		Identity: ref.Identity(),
		MountID:  at.ID, Device: at.Device(), RawPath: rawName(ref.Path()), RawMountpoint: rawName(at.Point),
	}
	r.own, r.uid = true, os.Geteuid()
	r.file = recordFile(recordDir(host), self)
	return r, r.write()
}

// recordFile returns where a process leaves its record: under its pid, unless a
// process of another pid namespace has that, too.
func recordFile(dir string, self procfs.ProcessMark) string {
	file := filepath.Join(dir, strconv.Itoa(self.PID)+".json")
	other, err := readRecord(file)
	if err != nil || other.Namespace == self.Namespace || other.Look() == procfs.Ended {
		return file
	}
	number := strings.Trim(strings.TrimPrefix(self.Namespace, "pid:"), "[]")
	return filepath.Join(dir, fmt.Sprintf("%s-%d.json", number, self.PID))
}

// write leaves the record in its file.
func (r *Record) write() error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.file), 0o755); err != nil {
		return err
	}
	unfinished := r.file + ".new"
	if err := os.WriteFile(unfinished, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(unfinished, r.file)
}

// stands reports whether the record is still in its file.
func (r *Record) stands() bool {
	left, err := readRecord(r.file)
	return err == nil && left.ProcessMark == r.ProcessMark && left.Identity == r.Identity
}

// rawName returns the bytes of a name that is not text, nil for any other.
func rawName(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

// restore gives names back that JSON could not hold as text.
func (r *Record) restore() {
	if len(r.RawPath) > 0 {
		r.Path = string(r.RawPath)
	}
	if len(r.RawMountpoint) > 0 {
		r.Mountpoint = string(r.RawMountpoint)
	}
}

// of reports whether a mount shows the tree that the process of the record serves:
// its own mount, wherever that is by now, or one that somebody has bound.
func (r *Record) of(m mounts.Mount) bool {
	if r.Device == "" { // left by an older version
		return r.Mountpoint == m.Point && r.Path == m.Source
	}
	return r.Device == m.Device() && r.Path == m.Source
}

// Remove takes the record away. The nil record has none.
func (r *Record) Remove() {
	if r != nil && r.file != "" && r.own {
		_ = os.Remove(r.socket())
		_ = os.Remove(r.file)
	}
}

// Alive reports whether the process that left the record still runs. In another pid
// namespace that shows by its socket, on which nobody listens once it has ended.
func (r *Record) Alive() bool {
	switch r.Look() {
	case procfs.Runs:
		return true
	case procfs.Ended:
		return false
	default:
		return r.listened()
	}
}

// Records returns those of processes that run, our own and, for root, those of
// other users. Our own of processes that have ended are removed; in a directory
// of another user nothing is, for it may lead anywhere.
func Records(host hosts.Host) ([]*Record, error) {
	out, err := ownRecords(recordDir(host))
	if err != nil {
		return nil, err
	}
	users, _ := usersRecords(host)
	out = append(out, users...)
	return out, followMoved(out)
}

// followMoved puts the mount points as they are now into records: a mount can be
// moved, and a directory above it renamed.
func followMoved(known []*Record) error {
	table, err := mounts.Mounts()
	if err != nil {
		return fmt.Errorf("reading the mount table: %w", err)
	}
	for _, r := range known {
		i := slices.IndexFunc(table, func(m mounts.Mount) bool { return m.ID == r.MountID && m.FSType == mountpoint.FSType && r.of(m) })
		if i >= 0 && r.Device != "" {
			r.Mountpoint = table[i].Point
		}
	}
	return nil
}

func ownRecords(dir string) ([]*Record, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the records of mounts: %w", err)
	}
	var out []*Record
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		r, err := readRecord(filepath.Join(dir, e.Name()))
		switch {
		case err != nil: // being written, or not ours
		case r.Alive():
			out = append(out, r)
		default: // if that was a mistake, the process puts it back
			r.Remove()
		}
	}
	return out, nil
}

// maxRecord bounds a record's file.
const maxRecord = 64 << 10

// readRecord reads a record of our own run directory. What others could put there,
// when it was made so, is not ours.
func readRecord(file string) (*Record, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fs.ErrInvalid)
	}
	r := &Record{file: file, own: true}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		r.uid = int(st.Uid)
	}
	if r.uid != os.Geteuid() && r.uid != 0 {
		return nil, fmt.Errorf("%s belongs to user %d: %w", file, r.uid, fs.ErrPermission)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return nil, err
	}
	return r, r.parse(text)
}

// parse reads what is in a record.
func (r *Record) parse(text []byte) error {
	err := json.Unmarshal(text, r)
	r.restore()
	return err
}

// awaitStep is how long await waits at most.
const awaitStep = 50 * time.Millisecond

// Await returns when the process that left the record has ended, or a moment later.
func (r *Record) Await() {
	if r.Look() != procfs.Runs { // its pid is not one of ours
		time.Sleep(awaitStep)
		return
	}
	fd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		time.Sleep(awaitStep)
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(awaitStep.Milliseconds()))
}
