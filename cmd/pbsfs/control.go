package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/store"
)

// A serving process answers on a socket that only its user can reach: to one
// controlRequest, one mountState.

// controlRequest is what a serving process is asked.
type controlRequest struct {
	// Add are keys that it is to have from now on.
	Add *unlock.Secrets `json:"add,omitempty"`
	// Ping asks for an empty answer, at once.
	Ping bool `json:"ping,omitempty"`
}

// mountState is what a serving process knows of itself.
type mountState struct {
	Handles  []handleState  `json:"handles"`
	Locked   []lockedState  `json:"locked"`
	Problems []problemState `json:"problems"`
	// Unlisted says that the datastore has gone from the configuration, so that
	// nothing new is done with it.
	Unlisted bool `json:"unlisted,omitempty"`
	// Away is why the datastore is not there, "" if it is.
	Away string `json:"away,omitempty"`
	// Error is why a request could not be met.
	Error string `json:"error,omitempty"`
}

type handleState struct {
	Path   string    `json:"path"`
	Opener fs.Opener `json:"opener"`
	Since  time.Time `json:"since"`
}

type lockedState struct {
	Snapshot string    `json:"snapshot"`
	Since    time.Time `json:"since"`
}

type problemState struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

const (
	// controlTimeout bounds one conversation on the socket.
	controlTimeout = 5 * time.Second
	// lookAgain bounds how long a status looks whether the datastore is there.
	lookAgain = time.Second
	// maxConversations is how many there are at once.
	maxConversations = 16
	// maxAnswer bounds what is read of an answer, and maxUserAnswer of one by
	// another user's process.
	maxAnswer     = 16 << 20
	maxUserAnswer = 1 << 20
	// maxShown is how much of each kind in an answer is looked at.
	maxShown = 10_000
)

// control answers on the socket of a record until it is closed, and puts back what
// is removed of both meanwhile: run directories are cleaned up by others.
type control struct {
	record *mountRecord
	answer func(net.Conn)
	told   func() identity.ID // what the datastore is told by now
	log    *slog.Logger
	busy   chan struct{} // one for each conversation
	stop   chan struct{}
	all    sync.WaitGroup // who listens, and who looks after that

	listener net.Listener // of the keeper alone, once it runs
	socket   os.FileInfo
	ailing   bool
}

// presenceEvery is how often a serving process looks whether it can be found.
const presenceEvery = 500 * time.Millisecond

// serveControl begins to answer. The caller must close it.
func serveControl(r *mountRecord, m *fs.Mount, ref *store.Lookup, log *slog.Logger) (*control, error) {
	if r == nil {
		return nil, errors.New("the mount has no record")
	}
	c := &control{
		record: r, log: log, busy: make(chan struct{}, maxConversations), stop: make(chan struct{}),
		answer: func(conn net.Conn) { answerControl(conn, m, ref) },
		told:   ref.Identity,
	}
	err := c.listen()
	c.all.Go(c.keep)
	return c, err
}

// listen makes the socket.
func (c *control) listen() error {
	_ = os.Remove(c.record.socket())
	before := unix.Umask(0o177) // the socket is for this user only, from the beginning
	l, err := net.Listen("unix", c.record.socket())
	unix.Umask(before)
	if err != nil {
		return err
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // there may be another one in its place by then
	}
	if c.socket, err = os.Lstat(c.record.socket()); err != nil {
		return errors.Join(err, l.Close())
	}
	if c.listener != nil {
		_ = c.listener.Close()
	}
	c.listener = l
	c.all.Go(func() { c.accept(l) })
	return nil
}

func (c *control) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case c.busy <- struct{}{}:
			go func() {
				defer func() { <-c.busy }()
				c.answer(conn)
			}()
		default:
			_ = conn.Close() // somebody plays
		}
	}
}

// keep puts record and socket back when they are gone.
func (c *control) keep() {
	tick := time.NewTicker(presenceEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.stop:
			if c.listener != nil {
				_ = c.listener.Close()
			}
			return
		case <-tick.C:
		}
		lost, err := c.restore()
		if lost && (err == nil || !c.ailing) {
			c.log.Warn("record or socket of the mount was removed", "file", c.record.file, "again", err == nil, "error", err)
		}
		c.ailing = err != nil
	}
}

// restore looks whether record and socket are there, and makes them again if not.
func (c *control) restore() (lost bool, err error) {
	if id := c.told(); !id.IsZero() && id != c.record.Identity {
		c.record.Identity = id
		if err := c.record.write(); err != nil {
			return false, err
		}
	}
	if !c.record.stands() {
		lost = true
		if err = c.record.write(); err != nil {
			return lost, err
		}
	}
	at, err := os.Lstat(c.record.socket())
	if err == nil && c.socket != nil && os.SameFile(at, c.socket) {
		return lost, nil
	}
	return true, c.listen()
}

// answerControl answers one request.
func answerControl(conn net.Conn, m *fs.Mount, ref *store.Lookup) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
	var req controlRequest
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&req); err != nil {
		return
	}
	if req.Ping {
		_ = json.NewEncoder(conn).Encode(mountState{})
		return
	}
	err := req.serve(ref)
	s := stateOf(m, ref)
	if err != nil {
		s.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(s)
}

// serve does what was asked.
func (r controlRequest) serve(ref *store.Lookup) error {
	if r.Add == nil {
		return nil
	}
	if err := unlock.GuardMemory(); err != nil {
		return err
	}
	list, _, err := r.Add.Open()
	if err != nil {
		return err
	}
	for _, k := range list {
		if err := ref.AddKey(k); err != nil {
			return err
		}
	}
	return nil
}

// close ends the answering. It may be called on nil.
func (c *control) close() {
	if c != nil {
		close(c.stop)
		c.all.Wait()
	}
}

func stateOf(m *fs.Mount, ref *store.Lookup) mountState {
	var s mountState
	ctx, cancel := context.WithTimeout(context.Background(), lookAgain)
	defer cancel()
	ref.Look(ctx)
	s.Unlisted = ref.Mode().Type == cfg.Unlisted
	if err := ref.Away(); err != nil {
		s.Away = err.Error()
	}
	for _, h := range m.Handles() {
		s.Handles = append(s.Handles, handleState(h))
	}
	for _, l := range ref.Locked() {
		s.Locked = append(s.Locked, lockedState{Snapshot: l.Snapshot.String(), Since: l.Since})
	}
	for _, p := range m.Problems() {
		s.Problems = append(s.Problems, problemState(p))
	}
	return s
}

// ask asks the process that left a record.
func (r *mountRecord) ask(ctx context.Context, req controlRequest) (mountState, error) {
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
			s.Handles[i].Opener.PID = 0 // of another pid namespace
		}
	}
	return s, nil
}

// converse sends a request, and returns the answer of whoever ought to give it.
func (r *mountRecord) converse(ctx context.Context, req controlRequest) (s mountState, err error) {
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

// dial connects to the socket, and makes sure whose process listens there.
func (r *mountRecord) dial(ctx context.Context) (*net.UnixConn, error) {
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

// checkPeer makes sure that the process which listens belongs to the user who left
// the record.
func (r *mountRecord) checkPeer(conn *net.UnixConn) error {
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

// listened reports whether somebody may listen on the socket of the record.
func (r *mountRecord) listened() bool {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	conn, err := r.dial(ctx)
	if err != nil {
		return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, os.ErrNotExist)
	}
	_ = conn.Close()
	return true
}

// bound keeps an answer from being endless.
func (s *mountState) bound() {
	s.Handles = s.Handles[:min(len(s.Handles), maxShown)]
	s.Locked = s.Locked[:min(len(s.Locked), maxShown)]
	s.Problems = s.Problems[:min(len(s.Problems), maxShown)]
}

// asked is what a serving process answered.
type asked struct {
	mountState
	err error
}

// askAll asks several processes at once, so that those who do not answer are
// waited for once, all together.
func askAll(ctx context.Context, all []*mountRecord) map[*mountRecord]asked {
	answers := make([]asked, len(all))
	var wait sync.WaitGroup
	for i, r := range all {
		wait.Go(func() { answers[i].mountState, answers[i].err = r.ask(ctx, controlRequest{}) })
	}
	wait.Wait()
	out := make(map[*mountRecord]asked, len(all))
	for i, r := range all {
		out[r] = answers[i]
	}
	return out
}
