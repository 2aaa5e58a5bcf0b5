package maint

import (
	"os"
	"syscall"
	"time"
)

// stamp tells two states of a file apart without reading it. The zero stamp is
// a file that is not there.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func stampOf(path string) (stamp, error) {
	var st syscall.Stat_t
	for {
		switch err := syscall.Stat(path, &st); err {
		case nil:
			return makeStamp(&st), nil
		case syscall.EINTR:
		case syscall.ENOENT:
			return stamp{}, nil
		default:
			return stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
		}
	}
}

func makeStamp(st *syscall.Stat_t) stamp {
	return stamp{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

// settled says whether a change of the file after now must show in the stamp.
// Within one tick of the file system's clock it need not, if somebody writes
// into the file in place.
func (s stamp) settled(now time.Time) bool {
	const tick = 20 * time.Millisecond
	return s == stamp{} || now.Sub(time.Unix(s.ctime.Unix())) > tick
}

func fileStamp(f *os.File) (stamp, error) {
	st, err := f.Stat()
	if err != nil {
		return stamp{}, err
	}
	return makeStamp(st.Sys().(*syscall.Stat_t)), nil
}
