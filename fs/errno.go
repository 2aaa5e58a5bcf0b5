package fs

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/store"
)

// errnos is the one table from what went wrong to what a user is told; the
// first line that matches counts. What matches none is EIO.
var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{context.Canceled, syscall.EINTR},
	{context.DeadlineExceeded, syscall.EINTR},
	{cfg.ErrUnmounting, syscall.ENOMEDIUM},
	{cfg.ErrDeleted, syscall.ESTALE},
	{store.ErrReplaced, syscall.ESTALE}, // the kernel looks the path up again
	{cfg.ErrOffline, syscall.EHOSTDOWN},
	{maint.ErrUncounted, syscall.EIO},
	{errStopping, syscall.EHOSTDOWN},
	{store.ErrGone, syscall.ENOMEDIUM},
	{store.ErrBusy, syscall.EBUSY},
	{store.ErrKeyNeeded, syscall.EACCES},
	{store.ErrCorrupt, syscall.EIO},
	{syscall.ENOTDIR, syscall.ENOTDIR},
	{syscall.EISDIR, syscall.EISDIR},
	{syscall.ENOMEM, syscall.ENOMEM},
	{syscall.EMFILE, syscall.EMFILE},
	{syscall.ENFILE, syscall.ENFILE},
}

// errnoOf returns the errno for err, 0 for nil.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	for _, line := range errnos {
		if errors.Is(err, line.err) {
			return line.errno
		}
	}
	// A file of the datastore that is missing is damage: *store.Error says
	// so. Only what is not there in the tree does not exist.
	var own *store.Error
	if errors.Is(err, fs.ErrNotExist) && !errors.As(err, &own) {
		return syscall.ENOENT
	}
	return syscall.EIO
}

// errStopping is the answer to opening anything while the mount is ending.
var errStopping = errors.New("mount is ending")

// memoryMayAnswer reports whether err is about reading as such, not about the
// thing that was asked for: then what was seen before still holds.
func memoryMayAnswer(err error) bool {
	for _, e := range []error{cfg.ErrUnmounting, cfg.ErrOffline, maint.ErrUncounted, errStopping, store.ErrGone} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
