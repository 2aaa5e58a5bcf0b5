package statefile

import (
	"os"
	"syscall"
	"time"
)

// Stamp tells two states of a file apart without reading it. The zero Stamp stands for
// a file that does not exist.
type Stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// StampOf returns the stamp of the file at path; the zero Stamp if there is none.
func StampOf(path string) (Stamp, error) {
	var st syscall.Stat_t
	for {
		switch err := syscall.Stat(path, &st); err {
		case nil:
			return MakeStamp(&st), nil
		case syscall.EINTR:
		case syscall.ENOENT:
			return Stamp{}, nil
		default:
			return Stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
		}
	}
}

// MakeStamp returns the stamp in a file's description.
func MakeStamp(st *syscall.Stat_t) Stamp {
	return Stamp{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

// Settled reports whether any change of the file after now must show in the stamp.
// Within one tick of the file system's clock it need not, if a program writes into the
// file in place.
func (s Stamp) Settled(now time.Time) bool {
	const tick = 20 * time.Millisecond
	return s == Stamp{} || now.Sub(time.Unix(s.ctime.Unix())) > tick
}

// FileStamp returns the stamp of an open file.
func FileStamp(f *os.File) (Stamp, error) {
	st, err := f.Stat()
	if err != nil {
		return Stamp{}, err
	}
	return MakeStamp(st.Sys().(*syscall.Stat_t)), nil
}
