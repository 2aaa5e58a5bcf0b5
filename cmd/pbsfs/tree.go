package main

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
	// pingTimeout is how long a serving process gets to say that it is there. It
	// needs nothing but a processor for that.
	pingTimeout = 4 * time.Second
)

// errHangs says that a process does not answer.
var errHangs = errors.New("does not answer")

// mountedTree is one mount of a tree, and what is known of who serves it.
type mountedTree struct {
	mounts.Mount
	// server is the record of the process that serves it. It has no file where
	// the record is in another run directory, and is nil where nobody is known.
	server *mountRecord
	dead   bool  // nobody serves it any more
	hangs  error // why the process that serves it is not expected to do anything
	// elsewhere says that the process serves the tree in another namespace, of
	// which this one has a copy.
	elsewhere bool
}

// askTrees finds out about all of these mounts at once, in bounded time, without
// looking into one that somebody serves.
func askTrees(ctx context.Context, mounts []mounts.Mount, known []*mountRecord) []*mountedTree {
	trees := make([]*mountedTree, len(mounts))
	var all sync.WaitGroup
	for i, m := range mounts {
		trees[i] = &mountedTree{Mount: m, server: recordOf(known, m)}
		all.Go(func() { trees[i].ask(ctx) })
	}
	all.Wait()
	return trees
}

func (t *mountedTree) ask(ctx context.Context) {
	if t.server == nil {
		if t.dead = mountpoint.IsDead(t.Mount); t.dead {
			return
		}
		t.server = unrecorded(t.Mount)
	}
	if t.server == nil {
		return
	}
	seen := t.server.Look() == procfs.Runs // else its pid is none of ours
	t.elsewhere = seen && inOtherNamespace(t.server.PID)
	if seen && mounts.Stopped(t.server.PID) {
		t.hangs = fmt.Errorf("process %d, which serves %s, %w: it is stopped", t.server.PID, text.Printable(t.Point), errHangs)
		return
	}
	if t.server.file == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	_, err := t.server.ask(ctx, controlRequest{Ping: true})
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		t.hangs = fmt.Errorf("process %d, which serves %s, %w", t.server.PID, text.Printable(t.Point), errHangs)
	}
}

// unrecorded returns what would be the record of the process that serves a mount, if
// it can be seen: it has left it in another run directory.
func unrecorded(m mounts.Mount) *mountRecord {
	p, ok := mounts.ServerOf(m)
	self, err := procfs.MarkSelf()
	if !ok || err != nil {
		return nil
	}
	mark := procfs.ProcessMark{PID: p.PID, StartTime: p.StartTime, Namespace: self.Namespace}
	return &mountRecord{ProcessMark: mark, Path: m.Source, Mountpoint: m.Point}
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
