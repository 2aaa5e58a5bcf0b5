package served

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/store"
)

// A serving process answers on a socket that only its user can reach: one State to one
// Request.

// Request is a request to a serving process.
type Request struct {
	// Add are further keys for the process.
	Add *unlock.Secrets `json:"add,omitempty"`
	// Ping asks for an immediate, empty answer.
	Ping bool `json:"ping,omitempty"`
}

// State is what a serving process reports about itself.
type State struct {
	Handles  []Handle  `json:"handles"`
	Locked   []Locked  `json:"locked"`
	Problems []Problem `json:"problems"`
	// Unlisted says that the datastore was removed from the configuration, so that no
	// new operation begins.
	Unlisted bool `json:"unlisted,omitempty"`
	// Away says why the datastore is not there, "" if it is.
	Away string `json:"away,omitempty"`
	// Error says why a request could not be met.
	Error string `json:"error,omitempty"`
}

// Handle is a file or directory that is open in the tree.
type Handle struct {
	Path   string    `json:"path"`
	Opener fs.Opener `json:"opener"`
	Since  time.Time `json:"since"`
}

// Locked is a snapshot that the process keeps from being removed.
type Locked struct {
	Snapshot string    `json:"snapshot"`
	Since    time.Time `json:"since"`
}

// Problem is an error that occurred in the tree.
type Problem struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

const (
	// controlTimeout bounds one conversation on the socket.
	controlTimeout = 5 * time.Second
	// lookAgain bounds how long a status request looks whether the datastore is there.
	lookAgain = time.Second
	// maxConversations bounds the number of conversations at once.
	maxConversations = 16
	// maxRequest bounds how many bytes of a request are read: keys come through a pipe of
	// that size.
	maxRequest = 1 << 20
	// maxAnswer bounds how many bytes of an answer are read, and maxUserAnswer of an
	// answer by another user's process.
	maxAnswer     = 16 << 20
	maxUserAnswer = 1 << 20
	// maxShown bounds how many items of each kind in an answer are looked at.
	maxShown = 10_000
)

// Control answers on the socket of a record until it is closed. If the record or the
// socket is removed meanwhile, it restores them, because other programs clean up run
// directories.
type Control struct {
	record *Record
	answer func(net.Conn)
	told   func() identity.ID // the present identity of the datastore
	log    *slog.Logger
	busy   chan struct{} // one for each conversation
	stop   chan struct{}
	all    sync.WaitGroup // the listener and the keeper

	listener net.Listener // used by the keeper alone, once it runs
	socket   os.FileInfo
	ailing   bool
}

// presenceEvery is how often a serving process checks its record and socket.
const presenceEvery = 500 * time.Millisecond

// Listen begins to answer requests. The caller must close the Control.
func Listen(r *Record, m *fs.Mount, ref *store.Lookup, log *slog.Logger) (*Control, error) {
	if r == nil {
		return nil, errors.New("the mount has no record")
	}
	c := &Control{
		record: r, log: log, busy: make(chan struct{}, maxConversations), stop: make(chan struct{}),
		answer: func(conn net.Conn) { answerControl(conn, m, ref) },
		told:   ref.Identity,
	}
	err := c.listen()
	c.all.Go(c.keep)
	return c, err
}

// listen makes the socket.
func (c *Control) listen() error {
	_ = os.Remove(c.record.socket())
	before := unix.Umask(0o177) // from the beginning, the socket is for this user only
	l, err := net.Listen("unix", c.record.socket())
	unix.Umask(before)
	if err != nil {
		return err
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // by then, another socket may be in its place
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

func (c *Control) accept(l net.Listener) {
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
			_ = conn.Close() // too many conversations
		}
	}
}

// keep restores the record and the socket when they are gone.
func (c *Control) keep() {
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

// restore looks whether the record and the socket are there, and makes missing ones
// anew.
func (c *Control) restore() (lost bool, err error) {
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

// shown is a mount that tells what is open in it, and what went wrong.
type shown interface {
	Handles() []fs.Handle
	Problems() []fs.Problem
}

// answerControl answers one request.
func answerControl(conn net.Conn, m shown, ref *store.Lookup) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
	var req Request
	if err := json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&req); err != nil {
		return
	}
	if req.Ping {
		_ = json.NewEncoder(conn).Encode(State{})
		return
	}
	err := req.serve(ref)
	s := stateOf(m, ref)
	if err != nil {
		s.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(s)
}

// serve does what the request asks for.
func (r Request) serve(ref *store.Lookup) error {
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

// Close stops answering. It may be called on nil.
func (c *Control) Close() {
	if c != nil {
		close(c.stop)
		c.all.Wait()
	}
}

func stateOf(m shown, ref *store.Lookup) State {
	var s State
	ctx, cancel := context.WithTimeout(context.Background(), lookAgain)
	defer cancel()
	ref.Look(ctx)
	s.Unlisted = ref.Mode().Type == cfg.Unlisted
	if err := ref.Away(); err != nil {
		s.Away = err.Error()
	}
	for _, h := range m.Handles() {
		s.Handles = append(s.Handles, Handle(h))
	}
	for _, l := range ref.Locked() {
		s.Locked = append(s.Locked, Locked{Snapshot: l.Snapshot.String(), Since: l.Since})
	}
	for _, p := range m.Problems() {
		s.Problems = append(s.Problems, Problem(p))
	}
	return s
}
