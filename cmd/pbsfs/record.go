package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

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

	file string
}

func recordDir(host maint.Host) string { return filepath.Join(host.OwnRunDir(), "mounts") }

// writeRecord leaves the record of this process's mount.
func writeRecord(host maint.Host, ref *store.Lookup, mountpoint string) (*mountRecord, error) {
	self, ok := maint.LookProcess(os.Getpid())
	if !ok {
		return nil, errors.New("this process is not in /proc")
	}
	r := &mountRecord{
		PID: self.PID, StartTime: self.StartTime, Datastore: ref.Name(), Path: ref.Path(),
		Mountpoint: mountpoint, Since: time.Now().UTC().Truncate(time.Second),
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
	return r, os.WriteFile(r.file, append(text, '\n'), 0o644)
}

// remove takes the record away. The nil record has none.
func (r *mountRecord) remove() {
	if r != nil && r.file != "" {
		_ = os.Remove(r.file)
	}
}

// alive reports whether the process that left the record still runs.
func (r *mountRecord) alive() bool {
	p, ok := maint.LookProcess(r.PID)
	return ok && p.StartTime == r.StartTime
}

// records returns those of processes that run; records of others are removed.
func records(host maint.Host) ([]*mountRecord, error) {
	entries, err := os.ReadDir(recordDir(host))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading the records of mounts: %w", err)
	}
	var out []*mountRecord
	for _, e := range entries {
		r := &mountRecord{file: filepath.Join(recordDir(host), e.Name())}
		text, err := os.ReadFile(r.file)
		if err != nil || json.Unmarshal(text, r) != nil {
			continue // being written, or not ours
		}
		if !r.alive() {
			r.remove()
			continue
		}
		out = append(out, r)
	}
	return out, nil
}
