package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/store"
)

// mountRecord is what a serving process leaves in the run directory, so that
// other commands find it.
type mountRecord struct {
	PID        int       `json:"pid"`
	StartTime  uint64    `json:"starttime"`
	Datastore  string    `json:"datastore"`
	Path       string    `json:"path"`
	Mountpoint string    `json:"mountpoint"`
	Since      time.Time `json:"since"`
	Untracked  bool      `json:"untracked,omitempty"`

	file string
	own  bool // left by a process of this user
}

// socket is where the process that left the record answers; see control.go.
func (r *mountRecord) socket() string { return strings.TrimSuffix(r.file, ".json") + ".sock" }

func recordDir(host maint.Host) string { return filepath.Join(host.OwnRunDir(), "mounts") }

// writeRecord leaves the record of this process's mount.
func writeRecord(host maint.Host, ref *store.Lookup, mountpoint string) (*mountRecord, error) {
	self, ok := maint.LookProcess(os.Getpid())
	if !ok {
		return nil, errors.New("this process is not in /proc")
	}
	r := &mountRecord{
		PID: self.PID, StartTime: self.StartTime, Datastore: ref.Name(), Path: ref.Path(),
		Mountpoint: mountpoint, Since: time.Now().UTC().Truncate(time.Second), Untracked: ref.Untracked(),
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	dir := recordDir(host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r.file = filepath.Join(dir, strconv.Itoa(r.PID)+".json")
	unfinished := r.file + ".new"
	if err := os.WriteFile(unfinished, append(text, '\n'), 0o644); err != nil {
		return r, err
	}
	return r, os.Rename(unfinished, r.file)
}

// remove takes the record away. The nil record has none.
func (r *mountRecord) remove() {
	if r != nil && r.file != "" {
		_ = os.Remove(r.socket())
		_ = os.Remove(r.file)
	}
}

// serves reports whether the mount is one of that datastore, whatever it was
// called when it was mounted.
func (r *mountRecord) serves(t target) bool {
	return r.Datastore == t.name || maint.SameDir(r.Path, t.path)
}

// alive reports whether the process that left the record still runs.
func (r *mountRecord) alive() bool {
	p, ok := maint.LookProcess(r.PID)
	return ok && p.StartTime == r.StartTime
}

// records returns those of processes that run, our own and, for root, those of
// other users. Our own of processes that have ended are removed; in a directory
// of another user nothing is, for it may lead anywhere.
func records(host maint.Host) ([]*mountRecord, error) {
	out, err := recordsIn(recordDir(host), true)
	if err != nil {
		return nil, err
	}
	for _, dir := range host.UsersRunDirs() {
		found, err := recordsIn(filepath.Join(dir, "mounts"), false)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func recordsIn(dir string, own bool) ([]*mountRecord, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the records of mounts: %w", err)
	}
	var out []*mountRecord
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		r, err := readRecord(filepath.Join(dir, e.Name()))
		switch {
		case err != nil: // being written, or not ours
		case r.alive() && (own || sameOwner(dir, r.PID)):
			r.own = own
			out = append(out, r)
		case own:
			r.remove()
		}
	}
	return out, nil
}

// sameOwner reports whether a process belongs to whoever a directory does.
func sameOwner(dir string, pid int) bool {
	var of, at unix.Stat_t
	return unix.Lstat(dir, &of) == nil && unix.Stat(fmt.Sprintf("/proc/%d", pid), &at) == nil && of.Uid == at.Uid
}

// maxRecord bounds a record's file.
const maxRecord = 64 << 10

// readRecord reads a record. Another user may have put anything in its place.
func readRecord(file string) (*mountRecord, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fs.ErrInvalid)
	}
	r := &mountRecord{file: file}
	if err := json.NewDecoder(io.LimitReader(f, maxRecord)).Decode(r); err != nil {
		return nil, err
	}
	return r, nil
}
