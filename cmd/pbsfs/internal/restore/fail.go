package restore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// targetError is a failure of what is written to.
type targetError struct {
	what string // what was done
	err  error
}

func (e *targetError) Error() string { return e.what + ": " + e.err.Error() }
func (e *targetError) Unwrap() error { return e.err }

// target says that err comes from what is written to; nil for nil.
func target(what string, err error) error {
	if err == nil {
		return nil
	}
	return &targetError{what, err}
}

// ofEverything are the errors of TARGET that would come with every other file, too.
var ofEverything = []error{
	unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.ENODEV, unix.ENXIO, unix.ESTALE,
	unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ESHUTDOWN, unix.ENOTCONN,
}

// stops reports whether an error ends the restore, rather than being that of one object.
func stops(err error) bool {
	for _, e := range []error{context.Canceled, context.DeadlineExceeded, store.ErrGone, store.ErrReleased, store.ErrReplaced, errInDatastore} {
		if errors.Is(err, e) {
			return true
		}
	}
	var t *targetError
	if errors.As(err, &t) {
		return isAny(t.err, ofEverything)
	}
	var own *store.Error
	return !errors.As(err, &own) && !isAny(err, ofObject)
}

// ofObject are errors of one object that no snapshot is named in.
var ofObject = []error{store.ErrCorrupt, store.ErrKeyNeeded, store.ErrBusy, tree.ErrNoAccess, unix.ENOTDIR, unix.ELOOP, errOfObject}

// errOfObject matches the errors that are made here about one object.
var errOfObject = errors.New("not restored")

// objectError is such an error.
type objectError struct{ text string }

func (e *objectError) Error() string        { return e.text }
func (e *objectError) Is(target error) bool { return target == errOfObject }

// refuse makes an error about one object.
func refuse(format string, args ...any) error { return &objectError{fmt.Sprintf(format, args...)} }

func isAny(err error, list []error) bool {
	for _, e := range list {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// again repeats a call as long as signals interrupt it.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
