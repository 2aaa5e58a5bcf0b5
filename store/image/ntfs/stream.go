package ntfs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"sort"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// run is clusters of a stream that lie side by side. lcn is -1 where none are allocated.
type run struct{ vcn, lcn, count int64 }

// stream is the content of an attribute.
type stream struct {
	value       []byte // of a resident one
	runs        []run
	cluster     int64
	size, valid int64
	unit        int64 // clusters that are compressed together, 0 if they are not
	alloc       int64 // bytes on the disk
}

// maxRuns bounds the runs of a stream, and so its memory.
const maxRuns = 1 << 20

// streamOf returns the content of an attribute, put together from its parts.
func (f *FS) streamOf(attrs []attr, typ uint32, name string) (*stream, error) {
	var parts []attr
	for _, a := range attrs {
		if a.typ == typ && a.name == name {
			parts = append(parts, a)
		}
	}
	if len(parts) == 0 {
		return nil, corrupt.New("no attribute %#x %q", typ, name)
	}
	slices.SortStableFunc(parts, func(a, b attr) int { return cmp.Compare(a.first, b.first) })
	head := parts[0]
	s := &stream{cluster: f.cluster, size: head.size, valid: head.valid, alloc: head.compressedAlloc}
	if head.resident {
		if len(parts) > 1 {
			return nil, corrupt.New("attribute %#x %q is there twice", typ, name)
		}
		s.value, s.alloc = head.value, 0
		return s, nil
	}
	if head.size < 0 || head.valid < 0 || head.size > math.MaxInt64/2 {
		return nil, corrupt.New("attribute %#x %q: %d of %d bytes are valid", typ, name, head.valid, head.size)
	}
	s.valid = min(s.valid, s.size)
	switch {
	case head.flags&flagEncrypted != 0:
		return nil, image.ErrEncrypted
	case head.flags&flagCompressed > 1, head.flags&flagCompressed == 1 && head.unit != 4:
		return nil, fmt.Errorf("compression of the kind %d in units of 2^%d clusters: %w", head.flags&flagCompressed, head.unit, image.ErrUnsupported)
	case head.flags&flagCompressed == 1:
		s.unit = 16
	}
	next := int64(0)
	for _, a := range parts {
		if a.resident || a.first != next {
			return nil, corrupt.New("attribute %#x %q: its parts do not follow each other", typ, name)
		}
		if err := s.add(a, f.clusters); err != nil {
			return nil, fmt.Errorf("attribute %#x %q: %w", typ, name, err)
		}
		next = a.last + 1
	}
	return s, nil
}

// add adds the runs of a part.
func (s *stream) add(a attr, clusters int64) error {
	vcn, lcn := a.first, int64(0)
	for b := a.runs; len(b) > 0 && b[0] != 0; {
		lengthSize, offsetSize := int(b[0]&15), int(b[0]>>4)
		if lengthSize < 1 || lengthSize > 8 || offsetSize > 8 || 1+lengthSize+offsetSize > len(b) {
			return corrupt.New("a run of the form %#x", b[0])
		}
		count, delta := signed(b[1:1+lengthSize]), signed(b[1+lengthSize:1+lengthSize+offsetSize])
		b = b[1+lengthSize+offsetSize:]
		at := int64(-1)
		if offsetSize > 0 {
			if lcn+delta < 0 || delta > clusters || lcn+delta > clusters-count || count > clusters {
				return corrupt.New("a run of %d clusters from %d, of %d", count, lcn+delta, clusters)
			}
			lcn += delta
			at = lcn
		}
		if count <= 0 || count > math.MaxInt64/2/s.cluster || vcn > math.MaxInt64/2/s.cluster {
			return corrupt.New("a run of %d clusters", count)
		}
		if len(s.runs) == maxRuns {
			return fmt.Errorf("more than %d runs: %w", maxRuns, image.ErrUnsupported)
		}
		s.runs = append(s.runs, run{vcn, at, count})
		vcn += count
	}
	if vcn != a.last+1 {
		return corrupt.New("runs up to cluster %d instead of %d", vcn-1, a.last)
	}
	return nil
}

// signed reads a number of up to eight bytes with a sign.
func signed(b []byte) int64 {
	var v int64
	for i, c := range b {
		v |= int64(c) << (8 * i)
	}
	if n := len(b); n > 0 && n < 8 && b[n-1]&0x80 != 0 {
		v -= 1 << (8 * n)
	}
	return v
}

// find returns the run with a cluster of the stream.
func (s *stream) find(vcn int64) (run, bool) {
	i := sort.Search(len(s.runs), func(i int) bool { return s.runs[i].vcn+s.runs[i].count > vcn })
	if i == len(s.runs) {
		return run{}, false
	}
	return s.runs[i], true
}

// where returns where a byte of the stream lies on the disk, -1 if it lies nowhere.
func (s *stream) where(off int64) int64 {
	x, ok := s.find(off / s.cluster)
	if !ok || x.lcn < 0 || s.value != nil {
		return -1
	}
	return (x.lcn-x.vcn)*s.cluster + off
}

// readFull reads all of p from a stream that is not compressed.
func (s *stream) readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := s.readAt(r, p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return corrupt.New("stream of %d bytes ends", s.size)
	}
	return err
}

// readAt reads from a stream that is not compressed. It reads less only at the end, where
// it returns io.EOF.
func (s *stream) readAt(r io.ReaderAt, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, fs.ErrInvalid)
	}
	if off >= s.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > s.size-off {
		p, end = p[:s.size-off], io.EOF
	}
	if s.value != nil || len(s.runs) == 0 && s.size == 0 {
		copy(p, s.value[off:])
		return len(p), end
	}
	for done := 0; done < len(p); {
		n, err := s.readRun(r, p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return len(p), end
}

// readRun reads what lies side by side.
func (s *stream) readRun(r io.ReaderAt, p []byte, off int64) (int, error) {
	if off >= s.valid {
		clear(p)
		return len(p), nil
	}
	p = p[:min(int64(len(p)), s.valid-off)]
	x, ok := s.find(off / s.cluster)
	if !ok {
		return 0, corrupt.New("stream of %d bytes has no run for byte %d", s.size, off)
	}
	p = p[:min(int64(len(p)), (x.vcn+x.count)*s.cluster-off)]
	if x.lcn < 0 {
		clear(p)
		return len(p), nil
	}
	if err := image.ReadFull(r, p, (x.lcn-x.vcn)*s.cluster+off); err != nil {
		return 0, err
	}
	return len(p), nil
}
