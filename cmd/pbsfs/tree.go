package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/text"
)

const (
	// endTimeout is how long a serving process gets to end after its mount has.
	endTimeout = 5 * time.Second
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

// inTheWay returns who keeps the mount from being taken away, or would keep the tree
// in use after that.
func (t *mountedTree) inTheWay(ctx context.Context) ([]mounts.Holder, error) {
	ctx = context.WithoutCancel(ctx)
	copies, err := t.copies(ctx)
	if err != nil || len(copies) > 0 {
		return copies, err
	}
	refused := t.unused()
	var hidden *mounts.HiddenError
	switch {
	case errors.As(refused, &hidden):
		return []mounts.Holder{{Name: hidden.By.FSType, Path: hidden.By.Point, How: "mounted above it"}}, nil
	case refused != nil && !errors.Is(refused, unix.EBUSY):
		return nil, refused
	case refused == nil && os.Geteuid() == 0 && !t.covered():
		return nil, nil
	}
	holders, err := mounts.HoldersOf(ctx, t.Mount)
	if err == nil && len(holders) == 0 && refused != nil && errors.Is(t.unused(), unix.EBUSY) {
		holders = []mounts.Holder{{Name: "somebody who cannot be seen from here", How: "in use", Path: t.Point}}
	}
	return holders, err
}

// unused asks the kernel, if it can be asked, whether the mount could be taken away.
func (t *mountedTree) unused() error {
	if os.Geteuid() != 0 {
		return nil
	}
	err := mounts.Unused(t.Mount)
	if errors.Is(err, mounts.ErrNotMounted) {
		return nil // somebody was faster
	}
	return err
}

// copies returns what would go on using the tree when the last mount of it here is
// gone.
func (t *mountedTree) copies(ctx context.Context) ([]mounts.Holder, error) {
	if t.elsewhere || os.Geteuid() != 0 {
		return nil, nil
	}
	return mounts.CopiesOf(ctx, t.Mount)
}

// covered reports whether something lies upon the tree.
func (t *mountedTree) covered() bool {
	table, err := mounts.Mounts()
	if err != nil {
		return false
	}
	now, ok := table.Find(t.Mount)
	return ok && len(table.Upon(now)) > 0
}

// inside returns what is mounted inside of the tree.
func (t *mountedTree) inside() []mounts.Mount {
	table, err := mounts.Mounts()
	if err != nil {
		return nil
	}
	now, ok := table.Find(t.Mount)
	if !ok {
		return nil
	}
	return table.Inside(now)
}

// take takes the mount away.
func (t *mountedTree) take(ctx context.Context, lazily bool) error {
	err := fs.Unmount(ctx, t.Mount, lazily)
	if errors.Is(err, mounts.ErrNotMounted) {
		return nil // somebody was faster
	}
	return err
}
