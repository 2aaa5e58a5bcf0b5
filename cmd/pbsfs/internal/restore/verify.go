package restore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/tree"
)

// verifyObject compares the metadata of an object with the backup, if that was asked for.
func (r *run) verifyObject(o *object, m *metadata, path string) error {
	if !r.o.Verify {
		return nil
	}
	if err := o.stat(); err != nil {
		return err
	}
	how, err := r.differences(o, m)
	if err != nil {
		return err
	}
	r.tally.verified.Add(1)
	if len(how) > 0 {
		r.tally.differs(path, strings.Join(how, ", "))
	}
	return nil
}

// verifyFile reads a file back from the disk, and compares it with the backup.
func (w *writer) verifyFile(j *job, o *object, m *metadata, f tree.File) error {
	if !w.o.Verify {
		return nil
	}
	same, err := w.sameContent(o.fd, f, math.MaxInt64)
	if err != nil {
		return err
	}
	if same != "" {
		w.tally.differs(j.path(), same)
	}
	return w.verifyObject(o, m, j.path())
}

// sameContent compares content as it is on the disk, up to an end, and returns how it
// differs.
func (w *writer) sameContent(fd int, f tree.File, end int64) (how string, err error) {
	if err := fromDisk(fd); err != nil {
		return "", err
	}
	if len(w.buf) < bufferSize {
		w.buf = make([]byte, bufferSize)
	}
	if w.other == nil {
		w.other = make([]byte, bufferSize)
	}
	size := f.Size()
	for off := int64(0); ; {
		n, err := readBack(fd, w.other[:min(int64(len(w.other)), end-off)], off)
		if err != nil {
			return "", err
		}
		if off+int64(n) > size || n == 0 && off < size {
			return fmt.Sprintf("its size is not %d", size), nil
		}
		if n == 0 {
			return "", nil
		}
		if err := readFull(w.ctx, w.run, f, w.buf[:n], off); err != nil {
			return "", err
		}
		if !bytes.Equal(w.buf[:n], w.other[:n]) {
			return fmt.Sprintf("content differs between offsets %d and %d", off, off+int64(n)), nil
		}
		off += int64(n)
	}
}

// fromDisk makes the next reads of a file come from its disk.
func fromDisk(fd int) error {
	if err := again(func() error { return unix.Fsync(fd) }); err != nil && !unsupported(err) {
		return target("fsync", err)
	}
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	return nil
}

// readBack reads what is there, at most len(p) bytes; 0 is the end.
func readBack(fd int, p []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(fd, p, off)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil && !errors.Is(err, io.EOF):
			return 0, target("reading back", err)
		default:
			return n, nil
		}
	}
}
