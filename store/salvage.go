package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// A datastore that was opened with [Options.Salvage] gives the contents of files and of
// images as [Salvaged]. Such a content cannot be handed to a decoder: it is no
// [io.ReaderAt], and a [Stream] and an [Archive] never read through one. So zeros are never
// taken for the structure of an archive, of a catalog or of a file system, and what depends
// on a damaged chunk with structure in it is an error as ever.
//
// The zeros are made in the buffer of who reads. They are in no cache, and the chunk is
// looked for again by the next read.

// Range is the bytes from Off to before End of a content.
type Range struct{ Off, End int64 }

// Lost is a range that is zeros because its chunk is damaged, and what is wrong with that.
type Lost struct {
	Range
	Err error
}

// Salvaged is a content that is read past damage: where a chunk is missing, or is not what
// it must be, or the disk cannot read it, there are zeros. A chunk that could not be read
// for any other reason is an error. It is safe for concurrent use.
type Salvaged struct {
	x Extent

	mu   sync.Mutex         // a leaf lock
	lost map[Range]struct{} // what reads have met
}

// SalvagedImage is a disk image as [Salvaged], with its holes.
type SalvagedImage struct {
	*Salvaged
	stream *Stream
}

// Salvage reports whether the datastore was opened with [Options.Salvage].
func (l *Lookup) Salvage() bool { return !l.isZero() && l.ds.salvage }

// Salvages reports whether contents of the snapshot are to be read past damage.
func (s *Snapshot) Salvages() bool { return s.ds.salvage }

// Salvage is [Archive.Content] for a content that is read past damage. In a split archive
// the header in front of a content only says once more what the reference to it has said.
// If it lies in a damaged chunk, the reference is believed, as far as the stream reaches.
func (a *Archive) Salvage(ctx context.Context, right CanRead, p pxar.Payload) (*Salvaged, error) {
	if !a.meta.snap.ds.salvage {
		return nil, errNotAsked
	}
	x, err := a.Content(ctx, right, p)
	if err == nil {
		return &Salvaged{x: x}, nil
	}
	if !p.Ref || !isLost(err) {
		return nil, err
	}
	x, cerr := a.Claimed(p)
	if cerr != nil || x.off > a.payload.Size() || x.size > a.payload.Size()-x.off {
		return nil, err
	}
	return &Salvaged{x: x}, nil
}

// errNotAsked is the answer where nobody has asked for zeros.
var errNotAsked = errors.New("datastore was not opened to salvage")

// Salvage returns a disk image that is read past damage. ok is false for every other
// stream: it may have structure in it.
func (s *Stream) Salvage() (_ *SalvagedImage, ok bool) {
	if !s.snap.ds.salvage || s.file.Name.Format() != name.Fixed {
		return nil, false
	}
	return &SalvagedImage{&Salvaged{x: Extent{stream: s, size: s.Size()}}, s}, true
}

// NextData and NextHole are those of the image. What is lost is no hole.
func (s *SalvagedImage) NextData(ctx context.Context, right CanRead, off int64) (int64, error) {
	return s.stream.NextData(ctx, right, off)
}

// NextHole is that of [Stream].
func (s *SalvagedImage) NextHole(ctx context.Context, right CanRead, off int64) (int64, error) {
	return s.stream.NextHole(ctx, right, off)
}

// Size returns the length of the content.
func (s *Salvaged) Size() int64 { return s.x.size }

// ReadAt is [Salvaged.ReadPast] for who asks [Salvaged.Lost] at the end.
func (s *Salvaged) ReadAt(ctx context.Context, right CanRead, p []byte, off int64) (int, error) {
	n, _, err := s.ReadPast(ctx, right, p, off)
	return n, err
}

// ReadPast reads len(p) bytes from offset off, less only at the end, as [Extent.ReadAt]
// does. It returns what of the content is lost, of each damaged chunk that it came to.
func (s *Salvaged) ReadPast(ctx context.Context, right CanRead, p []byte, off int64) (n int, lost []Lost, err error) {
	n, err = s.x.read(ctx, right, p, off, func(span index.Span, err error) bool {
		if !isLost(err) {
			return false
		}
		lost = append(lost, Lost{s.within(span), err})
		return true
	})
	if len(lost) > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.lost == nil {
			s.lost = make(map[Range]struct{})
		}
		for _, l := range lost {
			s.lost[l.Range] = struct{}{}
		}
	}
	return n, lost, err
}

// within returns the part of the content that lies in a span of its stream.
func (s *Salvaged) within(span index.Span) Range {
	return Range{max(span.Off-s.x.off, 0), min(span.End-s.x.off, s.x.size)}
}

// Lost returns what reads have met so far that is lost, in order.
func (s *Salvaged) Lost() []Range {
	s.mu.Lock()
	defer s.mu.Unlock()
	return merged(slices.Collect(maps.Keys(s.lost)))
}

// Damaged reads each chunk of the content, and returns what is lost, in order.
func (s *Salvaged) Damaged(ctx context.Context, right CanRead) ([]Range, error) {
	var out []Range
	var one [1]byte
	err := s.x.Parts(ctx, right, func(p Part) error {
		_, lost, err := s.ReadPast(ctx, right, one[:], p.Off)
		for _, l := range lost {
			out = append(out, l.Range)
		}
		return err
	})
	return merged(out), err
}

// Known returns what is lost as far as that is known from reads of this or other contents.
// It reads no chunk.
func (s *Salvaged) Known(ctx context.Context, right CanRead) ([]Range, error) {
	if s.x.stream == nil || s.x.stream.snap.ds.lost.none() {
		return nil, nil
	}
	var out []Range
	err := s.x.Parts(ctx, right, func(p Part) error {
		if s.x.stream.snap.ds.lost.has(p.Chunk) {
			out = append(out, Range{p.Off, p.End})
		}
		return nil
	})
	return merged(out), err
}

// merged sorts ranges, and makes one of those that touch.
func merged(list []Range) []Range {
	slices.SortFunc(list, func(a, b Range) int { return int(min(1, max(-1, a.Off-b.Off))) })
	out := list[:0]
	for _, r := range list {
		if n := len(out); n > 0 && r.Off <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

// isLost reports whether an error of a read says that a chunk is damaged: it is not there,
// or is not what it must be, or its disk cannot read it. A key that is missing, a server
// that does not answer, or a file that may not be read is no damage.
func isLost(err error) bool {
	var bad *chunk.Error
	if errors.Is(err, ErrGone) || errors.Is(err, ErrReplaced) || !errors.As(err, &bad) {
		return false
	}
	switch faultOf(bad) {
	case ChunkMissing, ChunkMarked, ChunkDamaged:
		return true
	case ChunkUnreadable:
		return Unreadable(bad.Err)
	}
	return false
}
