package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/store"
)

// A serving process answers on a socket that only its user can reach: to one
// controlRequest, one mountState.

// controlRequest is what a serving process is asked.
type controlRequest struct {
	// Add are keys that it is to have from now on.
	Add *secrets `json:"add,omitempty"`
}

// mountState is what a serving process knows of itself.
type mountState struct {
	Handles  []handleState  `json:"handles"`
	Locked   []lockedState  `json:"locked"`
	Problems []problemState `json:"problems"`
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
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 16 << 20
)

// control answers on the socket of a record until it is closed.
type control struct {
	listener net.Listener
	done     chan struct{}
}

// serveControl begins to answer. The caller must Close it.
func serveControl(r *mountRecord, m *fs.Mount, ref *store.Lookup) (*control, error) {
	if r == nil {
		return nil, errors.New("the mount has no record")
	}
	_ = os.Remove(r.socket())
	before := unix.Umask(0o177) // the socket is for this user only, from the beginning
	l, err := net.Listen("unix", r.socket())
	unix.Umask(before)
	if err != nil {
		return nil, err
	}
	c := &control{listener: l, done: make(chan struct{})}
	busy := make(chan struct{}, maxConversations)
	go func() {
		defer close(c.done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case busy <- struct{}{}:
				go func() {
					defer func() { <-busy }()
					answerControl(conn, m, ref)
				}()
			default:
				_ = conn.Close() // somebody plays
			}
		}
	}()
	return c, nil
}

// answerControl answers one request.
func answerControl(conn net.Conn, m *fs.Mount, ref *store.Lookup) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
	var req controlRequest
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&req); err != nil {
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
	if err := guardMemory(); err != nil {
		return err
	}
	list, _, err := r.Add.open()
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
		_ = c.listener.Close()
		<-c.done
	}
}

func stateOf(m *fs.Mount, ref *store.Lookup) mountState {
	var s mountState
	ctx, cancel := context.WithTimeout(context.Background(), lookAgain)
	defer cancel()
	ref.Look(ctx)
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
	var s mountState
	d := net.Dialer{Timeout: controlTimeout}
	conn, err := d.DialContext(ctx, "unix", r.socket())
	if err != nil {
		return s, fmt.Errorf("asking process %d, which serves %s: %w", r.PID, r.Mountpoint, err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
	err = errors.Join(json.NewEncoder(conn).Encode(req), json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&s))
	if err == nil && s.Error != "" {
		err = errors.New(s.Error)
	}
	if err != nil {
		return s, fmt.Errorf("asking process %d, which serves %s: %w", r.PID, r.Mountpoint, err)
	}
	return s, nil
}
