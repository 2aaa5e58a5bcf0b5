package imagetest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/image"
)

// span is a range of a file, from start up to end.
type span struct{ start, end int64 }

// content compares bytes and holes. Where both say hole, nothing is read.
func (c *comparison) content(path string, number uint64, size int64) {
	f, err := c.fsys.Open(c.r, number)
	if err != nil {
		c.differ(path, "Open: %v", err)
		return
	}
	if f.Size() != size {
		c.differ(path, "Size = %d, want %d", f.Size(), size)
		return
	}
	k, err := os.Open(path)
	if err != nil {
		c.Fatal(err)
	}
	defer k.Close()
	data, err := spans(f, c.r)
	if err != nil {
		c.differ(path, "NextData, NextHole: %v", err)
		return
	}
	want := kernelSpans(c, k, size)
	if within, lenient := covered(data, want), c.lacks&LackHoles != 0 || hasUnwritten(k, size); !within && !lenient {
		c.differ(path, "data at %v, want it within %v", clip(data), clip(want))
	}
	for _, s := range merge(data, want) {
		if !c.sameBytes(path, f, k, s) {
			return
		}
	}
	c.edges(path, f, k, size)
}

func clip(s []span) []span { return s[:min(len(s), 10)] }

// spans lists the data of a file as the decoder has it.
func spans(f image.File, r io.ReaderAt) ([]span, error) {
	var all []span
	for off := int64(0); off < f.Size(); {
		start, err := f.NextData(r, off)
		if err != nil {
			return all, err
		}
		if start < off || start > f.Size() {
			return all, errors.New("NextData goes backwards or behind the end")
		}
		if start == f.Size() {
			break
		}
		end, err := f.NextHole(r, start)
		if err != nil {
			return all, err
		}
		if end <= start || end > f.Size() {
			return all, errors.New("NextHole goes backwards or behind the end")
		}
		all = append(all, span{start, end})
		off = end
	}
	return all, nil
}

func kernelSpans(c *comparison, k *os.File, size int64) []span {
	var all []span
	for off := int64(0); off < size; {
		start, err := unix.Seek(int(k.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			c.Fatal(err)
		}
		end, err := unix.Seek(int(k.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			c.Fatal(err)
		}
		all = append(all, span{start, end})
		off = end
	}
	return all
}

// covered says whether all of a lies in b. Both are sorted. The ends may differ by less than
// a page: what is allocated ends with a block.
func covered(a, b []span) bool {
	for _, s := range a {
		for len(b) > 0 && b[0].end < s.end-4095 {
			b = b[1:]
		}
		if len(b) == 0 || s.start < b[0].start-4095 {
			return false
		}
	}
	return true
}

// merge returns what lies in a or in b.
func merge(a, b []span) []span {
	var all []span
	for len(a) > 0 || len(b) > 0 {
		if len(a) == 0 || len(b) > 0 && b[0].start < a[0].start {
			a, b = b, a
		}
		s := a[0]
		a = a[1:]
		if n := len(all); n > 0 && s.start <= all[n-1].end {
			all[n-1].end = max(all[n-1].end, s.end)
			continue
		}
		all = append(all, s)
	}
	return all
}

func (c *comparison) sameBytes(path string, f image.File, k *os.File, s span) bool {
	got, want := c.got, c.want
	for off := s.start; off < s.end; {
		n := min(int64(len(got)), s.end-off)
		if m, err := f.ReadAt(c.r, got[:n], off); int64(m) != n || !endsWell(err, off+n == f.Size()) {
			c.differ(path, "ReadAt(%d bytes at %d) = %d, %v", n, off, m, err)
			return false
		}
		if _, err := k.ReadAt(want[:n], off); err != nil {
			c.Fatal(err)
		}
		if !bytes.Equal(got[:n], want[:n]) {
			c.differ(path, "wrong bytes between %d and %d", off, off+n)
			return false
		}
		off += n
	}
	return true
}

// endsWell says whether err is none, or the end, where that may be said.
func endsWell(err error, atEnd bool) bool {
	return err == nil || atEnd && errors.Is(err, io.EOF)
}

// edges reads across the end, behind it, and at odd places.
func (c *comparison) edges(path string, f image.File, k *os.File, size int64) {
	for _, off := range []int64{0, 1, size / 2, size/2 + 4095, size - 4097, size - 1, size, size + 1, size + 1<<40} {
		if off < 0 {
			continue
		}
		got, want := bytes.Repeat([]byte{0xa5}, 5000), make([]byte, 5000)
		n, err := f.ReadAt(c.r, got, off)
		m, wantErr := k.ReadAt(want, off)
		if n != m || !errors.Is(err, wantErr) && (wantErr != nil || !endsWell(err, off+int64(n) == size)) || !bytes.Equal(got[:n], want[:m]) {
			c.differ(path, "ReadAt(5000 bytes at %d) = %d, %v, want %d, %v, and the same bytes", off, n, err, m, wantErr)
		}
	}
}

// hasUnwritten says whether a file has extents that were allocated and never written, or
// that is not known.
func hasUnwritten(k *os.File, size int64) bool {
	const (
		fiemap    = 0xc020660b // FS_IOC_FIEMAP
		last      = 0x1
		unwritten = 0x800
		entries   = 200
	)
	type extent struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
	var m struct {
		start, length                  uint64
		flags, mapped, count, reserved uint32
		extents                        [entries]extent
	}
	for m.length = 1 << 62; ; {
		m.count = entries
		//nolint:gosec // the kernel writes to m while the call lasts
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, k.Fd(), fiemap, uintptr(unsafe.Pointer(&m))); e != 0 {
			return true
		}
		for _, x := range m.extents[:m.mapped] {
			if x.flags&unwritten != 0 {
				return true
			}
			if x.flags&last != 0 {
				return false
			}
			m.start = x.logical + x.length
		}
		if m.mapped == 0 || int64(m.start) >= size {
			return false
		}
	}
}
