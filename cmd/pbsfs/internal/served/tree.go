package served

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/text"
)

const (
	// pingTimeout bounds the wait for a serving process's answer to a ping. For that
	// answer the process needs only a processor.
	pingTimeout = 4 * time.Second
)

// errHangs says that a process does not answer.
var errHangs = errors.New("does not answer")

// Tree is one mount of a tree, with what is known of its serving process.
type Tree struct {
	mounts.Mount
	// Server is the record of the serving process. It has no file if the record is in
	// another run directory, and is nil if no such process is known.
	Server *Record
	Dead   bool  // no process serves it any more
	Hangs  error // why no action is expected of the serving process
	// Elsewhere says that the process serves the tree in another namespace, and that
	// this namespace has a copy.
	Elsewhere bool
}

// Trees examines all of these mounts at once, in bounded time. It does not look into a
// mount that a process serves.
func Trees(ctx context.Context, mounts []mounts.Mount, known []*Record) []*Tree {
	trees := make([]*Tree, len(mounts))
	var all sync.WaitGroup
	for i, m := range mounts {
		trees[i] = &Tree{Mount: m, Server: Find(known, m)}
		all.Go(func() { trees[i].ask(ctx) })
	}
	all.Wait()
	return trees
}

func (t *Tree) ask(ctx context.Context) {
	if t.Server == nil {
		if t.Dead = mountpoint.IsDead(t.Mount); t.Dead {
			return
		}
		t.Server = unrecorded(t.Mount)
	}
	if t.Server == nil {
		return
	}
	seen := t.Server.Look() == procfs.Runs // otherwise its pid is not of our namespace
	t.Elsewhere = seen && inOtherNamespace(t.Server.PID)
	if seen && mounts.Stopped(t.Server.PID) {
		t.Hangs = fmt.Errorf("process %d, which serves %s, %w: it is stopped", t.Server.PID, text.Printable(t.Point), errHangs)
		return
	}
	if t.Server.file == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	_, err := t.Server.Ask(ctx, Request{Ping: true})
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		t.Hangs = fmt.Errorf("process %d, which serves %s, %w", t.Server.PID, text.Printable(t.Point), errHangs)
	}
}

// unrecorded returns a record for the process that serves a mount, if that process can
// be seen but has left its record in another run directory.
func unrecorded(m mounts.Mount) *Record {
	p, ok := mounts.ServerOf(m)
	self, err := procfs.MarkSelf()
	if !ok || err != nil {
		return nil
	}
	mark := procfs.ProcessMark{PID: p.PID, StartTime: p.StartTime, Namespace: self.Namespace}
	return &Record{ProcessMark: mark, Path: m.Source, Mountpoint: m.Point}
}

// inOtherNamespace reports whether a process has another mount table than this one.
func inOtherNamespace(pid int) bool {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return false
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	return err == nil && its != own
}
