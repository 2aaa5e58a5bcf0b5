package store

import (
	"context"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// Piece says where the bytes of a content lie from some offset on: in which chunk, and
// up to where. It comes from an index: nothing is read for it.
type Piece struct {
	// End is the offset in the content at which the piece ends.
	End int64
	// chunk is the chunk, and at where in it the piece begins.
	chunk name.Digest
	at    int64
	// whole says that the piece is all of the chunk.
	whole bool
	// hole says that the bytes are zeros; key is the key that the digest depends on.
	hole bool
	key  keys.Fingerprint
}

// Same reports whether the bytes of p and q are the same, as far as both reach. False
// means that the pieces do not tell.
func (p Piece) Same(q Piece) bool {
	return p.hole && q.hole || p.chunk == q.chunk && p.at == q.at
}

// Differs reports whether p and q, which begin at one offset, are known to have different
// bytes: they are whole chunks, and digests under one key differ if contents do.
func (p Piece) Differs(q Piece) bool {
	return p.whole && q.whole && p.End == q.End && p.key == q.key && p.chunk != q.chunk
}

// Piece returns the piece of the content that begins at off. At the end of the content
// it is [io.EOF].
func (x Extent) Piece(ctx context.Context, right CanRead, off int64) (Piece, error) {
	if off < 0 || off >= x.size || x.stream == nil {
		return Piece{}, io.EOF
	}
	p, err := x.stream.piece(ctx, right, x.off, x.size, off)
	if err == io.EOF { //nolint:errorlint // exactly what piece returns
		err = x.stream.wrap(corrupt.At(x.off+off, "content ends after the end of the stream"))
	}
	return p, err
}

// Piece returns the piece of the stream that begins at off. At the end of the stream it
// is [io.EOF].
func (s *Stream) Piece(ctx context.Context, right CanRead, off int64) (Piece, error) {
	return s.piece(ctx, right, 0, s.Size(), off)
}

// piece returns the piece at offset off of a content, which is size bytes from begin on.
func (s *Stream) piece(ctx context.Context, right CanRead, begin, size, off int64) (Piece, error) {
	x, err := s.index(ctx, right)
	if err != nil {
		return Piece{}, err
	}
	i, ok := x.Find(begin + off)
	if !ok {
		return Piece{}, io.EOF
	}
	return s.pieceOf(x, x.Span(i), begin, size, off), nil
}

func (s *Stream) pieceOf(x *index.Index, span index.Span, begin, size, off int64) Piece {
	p := Piece{End: min(span.End-begin, size), chunk: span.Digest, at: begin + off - span.Off}
	p.whole = p.at == 0 && p.End == span.End-begin
	if s.key != nil {
		p.key = s.key.Fingerprint()
	}
	if zero, ok := s.hole(x); ok {
		p.hole = isHole(span, zero, x.ChunkSize())
	}
	return p
}

// Claimed returns where the archive says that the content of a file is. Unlike
// [Archive.Content] it reads nothing and checks nothing, so it tells which chunks the
// content lies in, and is not for reading it.
func (a *Archive) Claimed(p pxar.Payload) (Extent, error) {
	if !p.Ref {
		return Extent{stream: a.meta, off: p.Off, size: p.Size}, nil
	}
	if a.payloadErr != nil {
		return Extent{}, a.payloadErr
	}
	if a.payload == nil {
		return Extent{}, a.Wrap(corrupt.At(p.Off, "payload reference in an archive that is not split"))
	}
	return Extent{stream: a.payload, off: p.Claim(), size: p.Size}, nil
}
