package usher

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// maxMessage bounds a request and an answer.
const maxMessage = 128 << 10

// request asks for one thing.
type request struct {
	ID       uint64
	What     what
	Attach   Attach
	Wanted   fs.Wanted
	Mount    mounts.Mount
	Lazily   bool
	Mounted  bool
	Patience time.Duration
	Dir      string
}

// what is what a request asks for; see the functions of Usher.
type what uint8

const (
	toAttach what = iota + 1
	toMount
	toSettle
	toUnmount
	toEnd
	toAsk
	toFree
	toFindPath
)

// Attach asks for a datastore, and its device to be mounted.
type Attach struct {
	locate.Request
	// For is the process that will serve the tree.
	For procfs.ProcessMark
}

// Attached is the answer to Attach.
type Attached struct {
	locate.Target
	Warning string
	// There says that the tree was there already, and only waited for its device.
	There bool
	// Device says that there is, or will be, a device to be unmounted at the end.
	Device bool
}

// answer is what came of a request.
type answer struct {
	ID       uint64
	Attached *Attached
	Path     string
	Failed   *Error
}

// Error is a failure of the usher, with the exit code of a command that fails so.
type Error struct {
	Code int
	Text string
	Busy bool
}

func (e *Error) Error() string { return e.Text }

// Is matches EBUSY.
func (e *Error) Is(target error) bool { return e.Busy && target == unix.EBUSY }

// failure makes the answer of an error, nil of none.
func failure(err error, code func(error) int) *Error {
	if err == nil {
		return nil
	}
	return &Error{Code: code(err), Text: err.Error(), Busy: errors.Is(err, unix.EBUSY)}
}

// send sends one message, with a descriptor if there is one.
func send(conn *net.UnixConn, message any, f *os.File) error {
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(message); err != nil { // not JSON, which cannot hold every path
		return err
	}
	if text.Len() > maxMessage {
		return fmt.Errorf("a message of %d bytes is too long", text.Len())
	}
	var oob []byte
	if f != nil {
		oob = unix.UnixRights(int(f.Fd()))
	}
	_, _, err := conn.WriteMsgUnix(text.Bytes(), oob, nil)
	return err
}

// receive receives one message.
func receive(conn *net.UnixConn, message any) (oob []byte, err error) {
	text, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, m, flags, _, err := conn.ReadMsgUnix(text, rights)
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, net.ErrClosed
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return nil, errors.New("a message was too long")
	}
	return rights[:m], gob.NewDecoder(bytes.NewReader(text[:n])).Decode(message)
}

// connOf makes a connection of a descriptor, which it closes.
func connOf(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("the descriptor is no socket"), c.Close())
	}
	return conn, nil
}
