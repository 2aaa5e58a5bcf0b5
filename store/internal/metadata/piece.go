package metadata

import (
	"encoding/binary"
	"slices"
	"unsafe"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// maxPart is the longest part of an archive in one piece: a chunk.
const maxPart = 16 << 20

// Piece holds the bytes of an archive from From to To, except content. It is immutable
// once it is in a cache.
type Piece struct {
	From, To int64
	parts    []part
	data     []byte // of all parts
}

// part is a run of consecutive bytes of the archive.
type part struct {
	pos uint32 // from Piece.From
	at  uint32 // in Piece.data
}

// Ranges are ranges of positions in an archive, in order.
type Ranges struct {
	spans [][2]int64
	size  int64
}

// Add adds the bytes from begin to end, which must lie after all others.
func (r *Ranges) Add(begin, end int64) {
	if begin >= end {
		return
	}
	r.size += end - begin
	if n := len(r.spans); n > 0 && r.spans[n-1][1] == begin {
		r.spans[n-1][1] = end
		return
	}
	r.spans = append(r.spans, [2]int64{begin, end})
}

// NewPiece returns a piece with those bytes of b that are in r. The piece ends where b
// does. b begins at position from, and is copied.
func NewPiece(from int64, b []byte, r Ranges) *Piece {
	p := &Piece{From: from, To: from + int64(len(b)), parts: make([]part, 0, len(r.spans)), data: make([]byte, 0, r.size)}
	for _, s := range r.spans {
		p.parts = append(p.parts, part{pos: uint32(s[0] - from), at: uint32(len(p.data))})
		p.data = append(p.data, b[s[0]-from:s[1]-from]...)
	}
	return p
}

// Size returns how many bytes of the archive the piece has.
func (p *Piece) Size() int { return len(p.data) }

// ReadAt copies the known bytes from pos on, up to the first gap. It returns their
// number.
func (p *Piece) ReadAt(b []byte, pos int64) int {
	if pos < p.From || pos >= p.To {
		return 0
	}
	rel := uint32(pos - p.From)
	i, found := slices.BinarySearchFunc(p.parts, rel, func(x part, rel uint32) int { return int(int64(x.pos) - int64(rel)) })
	if !found {
		i--
	}
	if i < 0 {
		return 0
	}
	have, end := p.parts[i], uint32(len(p.data))
	if i+1 < len(p.parts) {
		end = p.parts[i+1].at
	}
	begin := have.at + (rel - have.pos)
	if begin >= end {
		return 0
	}
	return copy(b, p.data[begin:end])
}

// weight is how many bytes of memory a piece takes.
func (p *Piece) weight() int64 {
	return int64(unsafe.Sizeof(*p)) + int64(cap(p.data)) + int64(cap(p.parts))*int64(unsafe.Sizeof(part{}))
}

// pieceHeader is the length of an encoded piece before its parts.
const pieceHeader = 20

// encode encodes the piece: From, To, number of parts, the parts, data.
func (p *Piece) encode() []byte {
	b := make([]byte, 0, pieceHeader+8*len(p.parts)+len(p.data))
	b = binary.LittleEndian.AppendUint64(b, uint64(p.From))
	b = binary.LittleEndian.AppendUint64(b, uint64(p.To))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.parts)))
	for _, x := range p.parts {
		b = binary.LittleEndian.AppendUint32(b, x.pos)
		b = binary.LittleEndian.AppendUint32(b, x.at)
	}
	return append(b, p.data...)
}

// decode is the inverse of encode. The piece keeps b.
func decode(b []byte) (*Piece, error) {
	if len(b) < pieceHeader {
		return nil, corrupt.New("piece of %d bytes", len(b))
	}
	p := &Piece{
		From: int64(binary.LittleEndian.Uint64(b)),
		To:   int64(binary.LittleEndian.Uint64(b[8:])),
	}
	n := int64(binary.LittleEndian.Uint32(b[16:]))
	b = b[pieceHeader:]
	if p.From < 0 || p.To < p.From || p.To-p.From > maxPart || n > int64(len(b))/8 {
		return nil, corrupt.New("piece from %d to %d with %d parts", p.From, p.To, n)
	}
	p.parts, p.data = make([]part, n), b[8*n:]
	if len(p.data) > 0 && n == 0 {
		return nil, corrupt.New("piece with bytes that are nowhere")
	}
	for i := range p.parts {
		p.parts[i] = part{pos: binary.LittleEndian.Uint32(b[8*i:]), at: binary.LittleEndian.Uint32(b[8*i+4:])}
	}
	return p, p.check()
}

// check checks that the parts follow one another, in the piece and in its data.
func (p *Piece) check() error {
	length, have := uint64(p.To-p.From), uint64(len(p.data))
	pos, at := uint64(0), uint64(0)
	for i, x := range p.parts {
		end := have
		if i+1 < len(p.parts) {
			end = uint64(p.parts[i+1].at)
		}
		if uint64(x.at) != at || uint64(x.pos) < pos || end <= at || end > have || uint64(x.pos)+end-at > length {
			return corrupt.New("part %d of a piece is not in its place", i)
		}
		pos, at = uint64(x.pos)+end-at, end
	}
	return nil
}
