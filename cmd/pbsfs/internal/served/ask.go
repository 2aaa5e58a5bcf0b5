package served

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// Ask sends a request to the process that left the record.
func (r *Record) Ask(ctx context.Context, req Request) (State, error) {
	s, err := r.converse(ctx, req)
	if err == nil && s.Error != "" {
		err = errors.New(s.Error)
	}
	if err != nil {
		return s, fmt.Errorf("asking process %d, which serves %q: %w", r.PID, r.Mountpoint, err)
	}
	s.bound()
	if r.Look() == procfs.Unseen {
		for i := range s.Handles {
			s.Handles[i].Opener.PID = 0 // the pid belongs to another pid namespace
		}
	}
	return s, nil
}

// converse sends a request and returns the answer, if the right process gives it.
func (r *Record) converse(ctx context.Context, req Request) (s State, err error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	conn, err := r.dial(ctx)
	if err != nil {
		return s, err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	limit := int64(maxAnswer)
	if !r.own {
		limit = maxUserAnswer
	}
	return s, errors.Join(json.NewEncoder(conn).Encode(req), json.NewDecoder(io.LimitReader(conn, limit)).Decode(&s))
}

// dial connects to the socket, and checks which process listens there.
func (r *Record) dial(ctx context.Context) (*net.UnixConn, error) {
	path := r.socket()
	if !r.own {
		dir, err := r.user.Open()
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		handle, err := dir.Handle(filepath.Join("mounts", filepath.Base(path)))
		if err != nil {
			return nil, err
		}
		defer func() { _ = handle.Close() }()
		path = fmt.Sprintf("/proc/self/fd/%d", handle.Fd())
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("not a Unix socket"), conn.Close())
	}
	if err := r.checkPeer(u); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

// checkPeer returns an error unless the listening process belongs to the user that left
// the record.
func (r *Record) checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var perr error
	err = raw.Control(func(fd uintptr) { peer, perr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, perr); err != nil {
		return err
	}
	if int(peer.Uid) != r.uid {
		return fmt.Errorf("who listens there is user %d, not %d: %w", peer.Uid, r.uid, maint.ErrUserFile)
	}
	return nil
}

// listened reports whether a process may be listening on the socket of the record.
func (r *Record) listened() bool {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	conn, err := r.dial(ctx)
	if err != nil {
		return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, os.ErrNotExist)
	}
	_ = conn.Close()
	return true
}

// bound limits the length of the lists in an answer.
func (s *State) bound() {
	s.Handles = s.Handles[:min(len(s.Handles), maxShown)]
	s.Locked = s.Locked[:min(len(s.Locked), maxShown)]
	s.Problems = s.Problems[:min(len(s.Problems), maxShown)]
}

// Answer is the answer of a serving process.
type Answer struct {
	State
	Err error
}

// AskAll asks several processes at once, so that the timeouts of those that do not
// answer run at the same time.
func AskAll(ctx context.Context, all []*Record) map[*Record]Answer {
	answers := make([]Answer, len(all))
	var wait sync.WaitGroup
	for i, r := range all {
		wait.Go(func() { answers[i].State, answers[i].Err = r.Ask(ctx, Request{}) })
	}
	wait.Wait()
	out := make(map[*Record]Answer, len(all))
	for i, r := range all {
		out[r] = answers[i]
	}
	return out
}
