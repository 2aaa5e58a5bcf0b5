package opsfile

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// Sight remembers what an operations file last said of this process. Nothing is read as
// long as the file has not changed.
type Sight struct {
	last atomic.Pointer[sighting]
}

type sighting struct {
	path   string
	stamp  statefile.Stamp
	counts Counts
	ok     bool // there was an entry
}

// Look returns what the file says of this process now. ok is false if it says nothing,
// or cannot be read.
//
// The file is read without its lock, because every writer replaces it in one step. If a
// program writes into it in place all the same, and our entry cannot be found, the
// entry is published again, which is done under the lock.
func (s *Sight) Look(path string) (Counts, bool) {
	now, err := lstampOf(path)
	if err != nil {
		return Counts{}, false
	}
	if last := s.last.Load(); last != nil && last.path == path && last.stamp == now {
		return last.counts, last.ok
	}
	seen, err := sightOf(path)
	if err != nil {
		return Counts{}, false
	}
	if seen.stamp.Settled(time.Now()) {
		s.last.Store(seen)
	}
	return seen.counts, seen.ok
}

// sightOf reads the file.
func sightOf(path string) (*sighting, error) {
	me, err := procfs.Self()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	seen := &sighting{path: path}
	if seen.stamp, err = statefile.FileStamp(f); err != nil {
		return nil, err
	}
	data, err := statefile.ReadOpen(f, maxOperations)
	if err != nil {
		return nil, err
	}
	entries, err := Decode(data)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Is(me) {
			seen.counts, seen.ok = e.Counts, true
			break
		}
	}
	return seen, nil
}

// lstampOf is the stamp of what lies at path itself; it does not follow a link there.
func lstampOf(path string) (statefile.Stamp, error) {
	var st syscall.Stat_t
	for {
		switch err := syscall.Lstat(path, &st); err {
		case nil:
			return statefile.MakeStamp(&st), nil
		case syscall.EINTR:
		default:
			return statefile.Stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
		}
	}
}

const (
	// settleTries and settlePause are for an operations file into which a program is
	// writing at this moment, although no program should.
	settleTries = 5
	settlePause = 10 * time.Millisecond
)

// ReadSettled reads an operations file, repeatedly if it seems half written. The caller
// holds its lock.
func ReadSettled(path string) ([]Entry, error) {
	for try := 1; ; try++ {
		entries, err := Read(path)
		if !errors.Is(err, ErrGarbled) || try == settleTries {
			return entries, err
		}
		time.Sleep(settlePause)
	}
}
