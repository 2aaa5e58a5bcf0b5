package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/s3"
)

// Zeros are for what is lost. What could be had at another time, by another user, or with a
// key, is an error.
func TestWhatIsLost(t *testing.T) {
	read := func(err error) error { return &fs.PathError{Op: "read", Path: "x", Err: err} }
	for what, c := range map[string]struct {
		err     error
		missing bool
		want    bool
	}{
		"missing":                       {fs.ErrNotExist, true, true},
		"other bytes":                   {corrupt.New("digest differs"), false, true},
		"a failing disk":                {read(unix.EIO), false, true},
		"a bad block":                   {read(unix.ENODATA), false, true},
		"a damaged file system":         {read(unix.EUCLEAN), false, true},
		"its checksum":                  {read(unix.EBADMSG), false, true},
		"no permission":                 {read(unix.EACCES), false, false},
		"too many files":                {read(unix.EMFILE), false, false},
		"no memory":                     {read(unix.ENOMEM), false, false},
		"a server of files":             {read(unix.ESTALE), false, false},
		"a server that does not answer": {read(unix.ETIMEDOUT), false, false},
		"a bucket":                      {&s3.Error{Kind: s3.Unreachable, Err: unix.ECONNREFUSED}, false, false},
		"a bucket with the disk's word": {&s3.Error{Kind: s3.Garbled, Err: unix.EIO}, false, false},
		"a bucket that is slow":         {fmt.Errorf("not read within a minute"), false, false},
		"the end":                       {store.ErrClosed, false, false},
		"an interrupt":                  {context.Canceled, false, false},
		"a datastore that is gone":      {fmt.Errorf("%w: %w", store.ErrGone, unix.EIO), false, false},
	} {
		if got := store.IsLost(c.err, c.missing); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
	if store.IsLost(errors.Join(store.ErrReplaced, corrupt.New("x")), false) {
		t.Error("a snapshot that was replaced counts as damaged")
	}
}
