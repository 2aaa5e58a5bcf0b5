package usher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/mounts"
)

// Options say what an usher may do.
type Options struct {
	Host hosts.Host
	// Mountpoint is the only place where it mounts.
	Mountpoint string
	// Code returns the exit code of an error.
	Code func(error) int
	// Process says that the process is an usher, and nothing else.
	Process bool
	// Answers is the command that asks a tree, without the mount point.
	Answers []string
}

// server is the usher's side.
type server struct {
	Options
	conn *net.UnixConn
	all  sync.WaitGroup // requests

	mu       sync.Mutex       // held while the device is mounted or unmounted
	attached *locate.Attached // guarded by mu
	ended    bool             // guarded by mu
	mounting sync.Once
}

// Serve is the usher: it does what the process asks for that started it, until that
// process ends.
func Serve(ctx context.Context, o Options) error {
	conn, err := connOf(os.NewFile(socketFD, "usher"))
	if err != nil {
		return fmt.Errorf("this command is for the process that serves a mount: %w", err)
	}
	return serve(ctx, conn, o)
}

func serve(ctx context.Context, conn *net.UnixConn, o Options) error {
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	s := &server{Options: o, conn: conn}
	for {
		var r request
		if _, err := receive(conn, &r); err != nil {
			break // it has ended, or does not speak to us
		}
		if r.What == toFindPath { // which may hang, and is not waited for
			go s.answer(ctx, r)
			continue
		}
		s.all.Go(func() { s.answer(ctx, r) })
	}
	cancel()
	s.all.Wait()
	return s.abandoned()
}

// abandoned gives back a device that was mounted for a tree, if there is no tree.
func (s *server) abandoned() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	mounted := false
	s.mounting.Do(func() { mounted = true })
	if s.attached == nil || s.ended || !mounted {
		return nil
	}
	return s.attached.End(false)
}

// answer does what one request asks for.
func (s *server) answer(ctx context.Context, r request) {
	a := answer{ID: r.ID}
	var connection *os.File
	var err error
	switch r.What {
	case toAttach:
		a.Attached, err = s.attach(ctx, r.Attach)
	case toMount:
		connection, err = s.mount(ctx, r.Wanted)
	case toSettle:
		if err = s.ours(r.Mount); err == nil {
			err = fs.Direct{}.Settle(ctx, r.Mount)
		}
	case toUnmount:
		if err = s.ours(r.Mount); err == nil {
			err = fs.Unmount(context.WithoutCancel(ctx), r.Mount, r.Lazily)
		}
	case toEnd:
		err = s.end(r.Mounted)
	case toAsk:
		err = s.ask(ctx, r.Patience)
	case toFindPath:
		a.Path = r.Mount.PathOnDisk(r.Dir)
	case toFree:
		err = s.free(ctx)
	default:
		err = fmt.Errorf("the process that mounts does not know request %d", r.What)
	}
	a.Failed = failure(err, s.Code)
	_ = send(s.conn, a, connection) // who asked may have ended
	if connection != nil {
		_ = connection.Close() // the kernel ends the mount when nobody has it any more
	}
}

// attach finds the datastore and mounts its device, once.
func (s *server) attach(ctx context.Context, a Attach) (*Attached, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached != nil {
		return nil, errors.New("a datastore is attached already")
	}
	at, err := locate.Attach(ctx, s.Host, a.Request, a.For)
	if s.Process {
		_ = os.Chdir("/") // the working directory, which the request may be about, keeps its file system in use
	}
	if err != nil {
		return nil, err
	}
	there, err := s.under(ctx, at)
	if err != nil {
		return nil, errors.Join(err, at.End(false))
	}
	if there {
		s.awaitRecord(ctx, at.Path)
	}
	s.attached, s.ended = at, there
	return &Attached{Target: at.Target, Warning: at.Warning, There: there, Device: at.UsesDevice()}, nil
}

const (
	// recordPatience bounds how long it may take a process to notice that its disk is back.
	recordPatience = 2 * time.Second
	recordPoll     = 20 * time.Millisecond
)

// awaitRecord waits until the record of the tree that waited for its device has the
// datastore's new identity: a disk can come back with another device number, and until
// then other commands would take the tree for another datastore's.
func (s *server) awaitRecord(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(ctx, recordPatience)
	defer cancel()
	for ctx.Err() == nil {
		trees, err := mountpoint.TreesAt(ctx, s.Mountpoint)
		if err != nil || len(trees) == 0 {
			return
		}
		known, err := served.Records(s.Host)
		if err != nil {
			return
		}
		found, err := modes.FindAt(ctx, s.Host, nil, path)
		r := served.Find(known, trees[0])
		if err != nil || r == nil || !r.Identity.Differs(found.ID) {
			return
		}
		select {
		case <-time.After(recordPoll):
		case <-ctx.Done():
		}
	}
}

// under reports whether the tree was mounted already and only waited for the device,
// which has been mounted now.
func (s *server) under(ctx context.Context, at *locate.Attached) (bool, error) {
	if !at.TookDevice() {
		return false, nil
	}
	trees, err := mountpoint.TreesAt(ctx, s.Mountpoint)
	if err != nil || len(trees) == 0 || trees[0].Source != at.Path {
		return false, err
	}
	if !at.Shared() {
		return true, nil
	}
	known, err := served.Records(s.Host)
	if err != nil {
		return false, err
	}
	r := served.Find(known, trees[0])
	if r == nil {
		return false, nil
	}
	return true, at.PassTo(r.ProcessMark)
}

// mount makes the mount of the tree, once.
func (s *server) mount(ctx context.Context, w fs.Wanted) (f *os.File, err error) {
	if real, err := filepath.EvalSymlinks(s.Mountpoint); err != nil || w.Point != real {
		return nil, errors.Join(fmt.Errorf("%s is not where the tree is to be mounted", w.Point), err)
	}
	err = errors.New("the tree was mounted already")
	s.mounting.Do(func() { f, err = fs.Direct{}.Mount(ctx, w) })
	return f, err
}

// ours returns an error unless a mount is one of a tree.
func (s *server) ours(m mounts.Mount) error {
	table, err := mounts.Mounts()
	if err != nil {
		return err
	}
	switch now, ok := table.Find(m); {
	case !ok:
		return fmt.Errorf("%s: %w", m.Point, mounts.ErrNotMounted)
	case now.FSType != mountpoint.FSType:
		return fmt.Errorf("%s is no mount of a tree", m.Point)
	}
	return nil
}

// end gives back what attach took.
func (s *server) end(mounted bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached == nil || s.ended {
		return nil
	}
	s.ended = true
	return s.attached.End(mounted)
}

// free takes root's config lock, which takes it from users who have it for long.
func (s *server) free(ctx context.Context) error {
	lock, err := hosts.LockOwnConfig(ctx, s.Host)
	lock.Unlock()
	return err
}

// ask has another process ask the tree. A process that hangs is left behind: it ends when
// the one that serves the tree does.
func (s *server) ask(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Answers[0], append(s.Answers[1:], "--", s.Mountpoint)...)
	cmd.Dir = "/"
	cmd.Env = []string{} // nothing of ours is needed
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("asking the tree: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: the tree gives an error", s.Mountpoint)
		}
		return context.Cause(ctx)
	case <-ctx.Done():
		return fmt.Errorf("%s: no answer: %w", s.Mountpoint, context.Cause(ctx))
	}
}
