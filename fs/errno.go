package fs

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// errnos is the only table from errors to errnos. The first line that matches counts.
// An error without a match is EIO.
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
	{tree.ErrNoAccess, syscall.EACCES},
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
	// A missing file of the datastore is damage, which *store.Error reports. Only a
	// name that is not in the tree does not exist.
	var own *store.Error
	if errors.Is(err, fs.ErrNotExist) && !errors.As(err, &own) {
		return syscall.ENOENT
	}
	return syscall.EIO
}

// errStopping is the answer to every open while the mount is ending.
var errStopping = errors.New("mount is ending")

// memoryMayAnswer reports whether err concerns reading as such, and not the requested
// object. In that case earlier results still hold.
func memoryMayAnswer(err error) bool {
	for _, e := range []error{cfg.ErrUnmounting, cfg.ErrOffline, maint.ErrUncounted, errStopping, store.ErrGone} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
