package served

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/text"
)

const (
	// maxUserMounts is how many mounts of one user are believed.
	maxUserMounts = 64
	// userPatience bounds the look at the directories of all users.
	userPatience = 2 * time.Second
)

// maxComplaints bounds how many faults in one user's files are reported.
const maxComplaints = 3

// Trusted returns the records that are believed, and why other records are not.
func Trusted(host hosts.Host) (known []*Record, problems []error, err error) {
	own, err := ownRecords(recordDir(host))
	if err != nil {
		return nil, nil, err
	}
	users, problems := usersRecords(host)
	known = append(own, users...)
	return known, problems, followMoved(known)
}

// usersRecords returns the records that other users' processes left, and what is wrong
// with them. It looks at the directories in parallel, for a bounded time.
func usersRecords(host hosts.Host) (out []*Record, problems []error) {
	type found struct {
		records []*Record
		err     error
	}
	dirs := maint.UserDirs(host)
	results := make(chan found, len(dirs))
	for _, d := range dirs {
		go func() {
			r, err := recordsOf(d)
			results <- found{r, err}
		}()
	}
	over := time.After(userPatience)
	for range dirs {
		select {
		case f := <-results:
			out = append(out, f.records...)
			if f.err != nil {
				problems = append(problems, f.err)
			}
		case <-over:
			return out, append(problems, errors.New("users' run directories do not answer"))
		}
	}
	return out, problems
}

// recordsOf returns the records of one user's mounts: those that a process of the user
// serves at the place in the record.
func recordsOf(d maint.UserDir) ([]*Record, error) {
	dir, err := d.Open()
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Names("mounts")
	var out []*Record
	wrong := 0
	for _, name := range names {
		if filepath.Ext(name) != ".json" {
			continue
		}
		r, rerr := userRecord(dir, name)
		switch {
		case rerr != nil:
			if wrong++; wrong <= maxComplaints {
				err = errors.Join(err, rerr)
			}
		case r == nil:
		case len(out) == maxUserMounts:
			return out, errors.Join(err, fmt.Errorf("%s: more than %d mounts of one user are not looked at", d.Path(), maxUserMounts))
		default:
			out = append(out, r)
		}
	}
	if wrong > maxComplaints {
		err = errors.Join(err, fmt.Errorf("%s: %d more like these", d.Path(), wrong-maxComplaints))
	}
	return out, err
}

// userRecord reads a record of another user, nil if its process has ended.
func userRecord(dir *maint.OpenedUserDir, name string) (*Record, error) {
	data, err := dir.ReadFile(filepath.Join("mounts", name))
	if err != nil {
		return nil, err
	}
	r := &Record{file: filepath.Join(dir.Path(), "mounts", name), user: dir.UserDir, uid: dir.UID}
	if err := r.parse(data[:min(len(data), maxRecord)]); err != nil {
		return nil, fmt.Errorf("%s: not a record of a mount: %w", r.file, err)
	}
	if r.Look() != procfs.Runs {
		return nil, nil
	}
	if text.Printable(r.Datastore) != r.Datastore {
		return nil, fmt.Errorf("%s: %q is not the name of a datastore", r.file, r.Datastore)
	}
	if _, ok := dir.Mounted(r.PID, mountpoint.FSType, r.shows); !ok {
		return nil, fmt.Errorf("%s: process %d is no process of user %d that has mounted %q", r.file, r.PID, dir.UID, r.Mountpoint)
	}
	return r, nil
}

// shows reports whether the mount is the record's mount. Everything in the record that
// commands rely on must match.
func (r *Record) shows(m mounts.Mount) bool {
	if r.Device == "" { // the record was left by an older version
		return m.Point == r.Mountpoint && m.Source == r.Path
	}
	return r.of(m)
}
