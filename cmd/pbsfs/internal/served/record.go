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

// Record is what a serving process leaves in the run directory, so that other commands
// can find it.
type Record struct {
	procfs.ProcessMark
	Datastore  string    `json:"datastore"`
	Path       string    `json:"path"`
	Mountpoint string    `json:"mountpoint"`
	Since      time.Time `json:"since"`
	Untracked  bool      `json:"untracked,omitempty"`
	Salvage    bool      `json:"salvage,omitempty"`
	// Identity is the identity of the datastore, whatever its name.
	Identity identity.ID `json:"identity,omitzero"`
	// MountID and Device are those in the mount table. They identify the mount even if
	// its mount point is moved or hidden.
	MountID int    `json:"mount_id,omitempty"`
	Device  string `json:"device,omitempty"`
	// RawPath and RawMountpoint are the bytes of names that JSON cannot hold as text.
	RawPath       []byte `json:"raw_path,omitempty"`
	RawMountpoint []byte `json:"raw_mountpoint,omitempty"`

	file string
	own  bool          // left by a process of this user
	user maint.UserDir // where another user's record was found
	uid  int           // the user that its process must belong to
}

// socket returns where the process that left the record answers; see control.go.
func (r *Record) socket() string { return strings.TrimSuffix(r.file, ".json") + ".sock" }

// Ours reports whether a process of this user left the record, in our own run
// directory. The socket of another user's record may belong to anybody.
func (r *Record) Ours() bool { return r.own }

func recordDir(host hosts.Host) string { return filepath.Join(host.OwnRunDir(), "mounts") }

// Leave writes the record of this process's mount.
func Leave(host hosts.Host, ref *store.Lookup, at mounts.Mount) (*Record, error) {
	self, err := procfs.MarkSelf()
	if err != nil {
		return nil, err
	}
	r := &Record{
		ProcessMark: self, Datastore: ref.Name(), Path: ref.Path(),
		Mountpoint: at.Point, Since: time.Now().UTC().Truncate(time.Second), Untracked: ref.Untracked(), Salvage: ref.Salvage(),
		Identity: ref.Identity(),
		MountID:  at.ID, Device: at.Device(), RawPath: rawName(ref.Path()), RawMountpoint: rawName(at.Point),
	}
	r.own, r.uid = true, os.Geteuid()
	r.file = recordFile(recordDir(host), self)
	return r, r.write()
}

// recordFile returns the file for a process's record. It is named after the pid, unless
// a process of another pid namespace has the same pid.
func recordFile(dir string, self procfs.ProcessMark) string {
	file := filepath.Join(dir, strconv.Itoa(self.PID)+".json")
	other, err := readRecord(file)
	if err != nil || other.Namespace == self.Namespace || other.Look() == procfs.Ended {
		return file
	}
	number := strings.Trim(strings.TrimPrefix(self.Namespace, "pid:"), "[]")
	return filepath.Join(dir, fmt.Sprintf("%s-%d.json", number, self.PID))
}

// write writes the record to its file.
func (r *Record) write() error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.file), 0o755); err != nil {
		return err
	}
	return replace(r.file, append(text, '\n'))
}

// replace puts a new file in place of another one in one step.
func replace(file string, text []byte) error {
	unfinished := file + ".new"
	if err := os.WriteFile(unfinished, text, 0o644); err != nil {
		return err
	}
	return os.Rename(unfinished, file)
}

// stands reports whether the record is still in its file.
func (r *Record) stands() bool {
	left, err := readRecord(r.file)
	return err == nil && left.ProcessMark == r.ProcessMark && left.Identity == r.Identity
}

// rawName returns the bytes of a name that is not valid text, nil for any other name.
func rawName(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

// restore restores the names that JSON could not hold as text.
func (r *Record) restore() {
	if len(r.RawPath) > 0 {
		r.Path = string(r.RawPath)
	}
	if len(r.RawMountpoint) > 0 {
		r.Mountpoint = string(r.RawMountpoint)
	}
}

// of reports whether a mount shows the tree that the process of the record serves: its
// own mount, even if that was moved, or a bind mount of it.
func (r *Record) of(m mounts.Mount) bool {
	if r.Device == "" { // the record was left by an older version
		return r.Mountpoint == m.Point && r.Path == m.Source
	}
	return r.Device == m.Device() && r.Path == m.Source
}

// Remove removes the record. It may be called on nil.
func (r *Record) Remove() {
	if r != nil && r.file != "" && r.own {
		_ = os.Remove(r.socket())
		_ = os.Remove(r.file)
	}
}

// Alive reports whether the process that left the record still runs. In another pid
// namespace its socket tells: once the process has ended, nothing listens on it.
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

// Records returns the records of running processes: our own and, for root, those of
// other users. It removes our own records of processes that have ended. In a directory
// of another user it removes nothing, because a path there may lead anywhere.
func Records(host hosts.Host) ([]*Record, error) {
	out, err := ownRecords(recordDir(host))
	if err != nil {
		return nil, err
	}
	users, _ := usersRecords(host)
	out = append(out, users...)
	return out, followMoved(out)
}

// followMoved puts the present mount points into records: a mount can be moved, and a
// directory above it renamed.
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
		case err != nil: // the record is being written, or is not ours
		case r.Alive():
			out = append(out, r)
		default: // if this was a mistake, the process restores the record
			r.Remove()
		}
	}
	return out, nil
}

// maxRecord bounds the size of a record's file.
const maxRecord = 256 << 10

// readRecord reads a record of our own run directory.
func readRecord(file string) (*Record, error) {
	text, uid, err := readOwn(file)
	if err != nil {
		return nil, err
	}
	r := &Record{file: file, own: true, uid: uid}
	return r, r.parse(text)
}

// readOwn reads a file of our own run directory. A file that another user could have put
// there is not ours.
func readOwn(file string) (text []byte, uid int, err error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, 0, errors.Join(err, fs.ErrInvalid)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		uid = int(st.Uid)
	}
	if uid != os.Geteuid() && uid != 0 {
		return nil, 0, fmt.Errorf("%s belongs to user %d: %w", file, uid, fs.ErrPermission)
	}
	text, err = io.ReadAll(io.LimitReader(f, maxRecord))
	return text, uid, err
}

// parse parses the text of a record.
func (r *Record) parse(text []byte) error {
	err := json.Unmarshal(text, r)
	r.restore()
	return err
}

// awaitStep is the longest time that Await waits.
const awaitStep = 50 * time.Millisecond

// Await returns when the process that left the record has ended, or after a moment.
func (r *Record) Await() {
	if r.Look() != procfs.Runs { // its pid is not of our namespace
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
