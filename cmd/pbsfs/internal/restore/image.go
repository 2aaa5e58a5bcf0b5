package restore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Device is a block device that is to be written to. It is open exclusively: nothing else
// that uses it is there, and nothing can begin to use it. Its owner must Close it.
type Device struct {
	fd   int
	path string
	size int64
}

// IsDevice reports whether there is a block device at a path.
func IsDevice(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK
}

// OpenDevice opens a block device, unless something uses it. It writes nothing.
func OpenDevice(path string, guard *Guard) (*Device, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s is in use: it is mounted, or belongs to something that is; unmount it first", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d := &Device{fd: fd, path: path}
	if err := d.look(guard); err != nil {
		d.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func (d *Device) look(guard *Guard) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return errors.New("it is no block device")
	}
	for id := range guard.ids {
		if id.dev == st.Rdev {
			return fmt.Errorf("the datastore lies on it: %w", errInDatastore)
		}
	}
	var size uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); errno != 0 {
		return errno
	}
	d.size = int64(min(size, math.MaxInt64))
	return nil
}

// Size returns the length of the device in bytes.
func (d *Device) Size() int64 { return d.size }

// Close closes the device.
func (d *Device) Close() { unix.Close(d.fd) }

// DeviceOptions say how to write to a device.
type DeviceOptions struct {
	// IsZero says that the device is known to be all zeros: zeros are not written.
	IsZero   bool
	Verify   bool // read back, and compare
	DryRun   bool // write nothing
	Progress Progress
}

// Write writes the content of n to the beginning of the device. What is behind it stays.
// After an error the device has a part of it.
func (d *Device) Write(ctx context.Context, right *store.Reader, n *tree.Node, o DeviceOptions) (*Report, error) {
	r := newRun(ctx, right, nil, Options{Verify: o.Verify, DryRun: o.DryRun})
	defer r.stop(nil)
	shown := r.tally.show(ctx, o.Progress)
	err := r.toDevice(d, n, o)
	shown()
	return r.tally.report(), err
}

// TooSmall returns an error if n does not fit on the device.
func (d *Device) TooSmall(n *tree.Node) error {
	if size := n.Attr().Size; size > d.size {
		return fmt.Errorf("%s has %d bytes, and %d are needed: %w", d.path, d.size, size, unix.ENOSPC)
	}
	return nil
}

func (r *run) toDevice(d *Device, n *tree.Node, o DeviceOptions) error {
	if err := d.TooSmall(n); err != nil {
		return err
	}
	f, err := n.Open(r.ctx, r.right)
	if err != nil {
		return err
	}
	if !o.DryRun {
		out := &deviceSink{fd: d.fd, isZero: o.IsZero}
		var buf []byte
		if err := newCopier(r, f, out).all(&buf); err != nil {
			return fmt.Errorf("%s: it has a part of the image only: %w", d.path, err)
		}
		if err := again(func() error { return unix.Fsync(d.fd) }); err != nil {
			return fmt.Errorf("%s: it has a part of the image only: %w", d.path, target("fsync", err))
		}
	}
	r.tally.zeros(d.path, lostOf(f))
	r.tally.files.Add(1)
	r.tally.bytes.Add(f.Size())
	if !o.Verify || o.DryRun {
		return nil
	}
	return r.verifyDevice(d, f)
}

// verifyDevice reads the device back.
func (r *run) verifyDevice(d *Device, f tree.File) error {
	w := &writer{run: r}
	how, err := w.sameContent(d.fd, f, f.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	r.tally.verified.Add(1)
	if how != "" {
		r.tally.differs(d.path, how)
	}
	return nil
}

// deviceSink is a device, in which everything has to be written.
type deviceSink struct {
	fd     int
	isZero bool
	// noPunch and noZero are set once the device cannot do that.
	noPunch, noZero atomic.Bool
}

func (s *deviceSink) write(p []byte, off int64) error {
	if !s.isZero {
		return writeFull(s.fd, p, off)
	}
	return withoutZeros(p, off, func(p []byte, off int64) error { return writeFull(s.fd, p, off) })
}

func (s *deviceSink) flush(off, n int64) { flush(s.fd, off, n) }

// zero lets the device forget what is there, makes it zero, or writes zeros.
func (s *deviceSink) zero(off, n int64) error {
	if s.isZero {
		return nil
	}
	for _, way := range []struct {
		mode uint32
		no   *atomic.Bool
	}{{unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, &s.noPunch}, {unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE, &s.noZero}} {
		if way.no.Load() {
			continue
		}
		err := again(func() error { return unix.Fallocate(s.fd, way.mode, off, n) })
		if err == nil {
			return nil
		}
		if !unsupported(err) {
			return target("making zeros", err)
		}
		way.no.Store(!errors.Is(err, unix.EINVAL)) // which may be about this place only
	}
	for p := make([]byte, min(n, bufferSize)); n > 0; {
		p = p[:min(n, int64(len(p)))]
		if err := writeFull(s.fd, p, off); err != nil {
			return err
		}
		off, n = off+int64(len(p)), n-int64(len(p))
	}
	return nil
}

// IsFree returns an error unless a new file can be made at a path, in a directory that is
// there.
func IsFree(path string) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return fmt.Errorf("%s: it is there already, and is no block device", path)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	_, err := os.Stat(filepath.Dir(path))
	return err
}
