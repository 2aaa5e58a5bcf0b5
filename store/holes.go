package store

import (
	"context"
	"crypto/sha256"
	"sync"

	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// zeroChunks remembers the digests of chunks that hold only zeros. A chunk with such a
// digest need not be read: the digest tells its content.
type zeroChunks struct {
	mu    sync.Mutex
	known map[zeroKey]name.Digest
}

type zeroKey struct {
	size int64
	key  keys.Fingerprint // zero for data that is not encrypted
}

// digest returns the digest of size zero bytes under key, which may be nil.
func (z *zeroChunks) digest(size int64, key *keys.Key) name.Digest {
	k := zeroKey{size: size}
	if key != nil {
		k.key = key.Fingerprint()
	}
	z.mu.Lock()
	d, ok := z.known[k]
	z.mu.Unlock()
	if ok {
		return d
	}
	zeros := make([]byte, size)
	if d = sha256.Sum256(zeros); key != nil {
		d = key.Digest(zeros)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.known == nil {
		z.known = make(map[zeroKey]name.Digest)
	}
	z.known[k] = d
	return d
}

// hole returns the digest of a hole in the stream, and whether there can be holes: only
// the chunks of images all have one size.
func (s *Stream) hole(x *index.Index) (name.Digest, bool) {
	if x.ChunkSize() == 0 {
		return name.Digest{}, false
	}
	return s.snap.ds.zeros.digest(x.ChunkSize(), s.key), true
}

// isHole reports whether span is a whole chunk of zeros.
func isHole(span index.Span, zero name.Digest, chunkSize int64) bool {
	return span.Digest == zero && span.End-span.Off == chunkSize
}

// Allocated returns how many bytes of the stream lie in chunks that are not all zeros.
func (s *Stream) Allocated(ctx context.Context, right CanRead) (int64, error) {
	x, err := s.index(ctx, right)
	if err != nil {
		return 0, err
	}
	zero, ok := s.hole(x)
	if !ok {
		return x.Size(), nil
	}
	n := int64(0)
	for i := range x.Len() {
		if span := x.Span(i); !isHole(span, zero, x.ChunkSize()) {
			n += span.End - span.Off
		}
	}
	return n, nil
}

// NextData returns the first offset at or after off that does not lie in a hole, or the
// stream's size if there is none.
func (s *Stream) NextData(ctx context.Context, right CanRead, off int64) (int64, error) {
	return s.next(ctx, right, off, false)
}

// NextHole returns the first offset at or after off that lies in a hole. The end of the
// stream counts as a hole.
func (s *Stream) NextHole(ctx context.Context, right CanRead, off int64) (int64, error) {
	return s.next(ctx, right, off, true)
}

func (s *Stream) next(ctx context.Context, right CanRead, off int64, wantHole bool) (int64, error) {
	x, err := s.index(ctx, right)
	if err != nil {
		return 0, err
	}
	zero, holes := s.hole(x)
	first, ok := x.Find(off)
	if !ok {
		return x.Size(), nil
	}
	for i := first; i < x.Len(); i++ {
		span := x.Span(i)
		if (holes && isHole(span, zero, x.ChunkSize())) == wantHole {
			return max(off, span.Off), nil
		}
	}
	return x.Size(), nil
}
