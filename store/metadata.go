package store

import (
	"context"
	"encoding/binary"
	"io"
	"sync"

	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/internal/metadata"
	"github.com/pbsfs/pbsfs/store/pxar"
)

const (
	// metadataBytes bounds the metadata of archives that is kept in memory.
	metadataBytes = 32 << 20
	// skimBytes is about how much is remembered at once: what comes first is to
	// be there still when it is asked for.
	skimBytes = metadataBytes / 8
	// metadataDisk bounds what is kept in files.
	metadataDisk = 1 << 30
	// maxHead is more than what a chunk can have of a header that the next one
	// has the rest of.
	maxHead = 16
)

// skimmed is how far a unified archive was looked through for what is not
// content. It is a hint: without it, more chunks are read than would have to be.
type skimmed struct {
	mu    sync.Mutex        // a leaf lock
	marks map[int]pxar.Mark // how chunks begin
}

func (s *skimmed) mark(i int) (pxar.Mark, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.marks[i]
	return m, ok || i == 0
}

func (s *skimmed) set(i int, m pxar.Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marks == nil {
		s.marks = make(map[int]pxar.Mark)
	}
	s.marks[i] = m
}

// metadata returns the archive's own stream for one call of the decoder. What
// is remembered of it needs no chunk.
func (s *Stream) metadata(ctx context.Context, right CanRead) io.ReaderAt {
	return sparse{bound{ctx: ctx, right: right, s: s}}
}

// sparse is a stream of which some parts are remembered.
type sparse struct{ bound }

// ReadAt reads len(p) bytes, less only at the end.
func (r sparse) ReadAt(p []byte, off int64) (int, error) { return r.ReadSome(p, len(p), off) }

// ReadSome reads n bytes, and as many more up to len(p) as are at hand.
func (r sparse) ReadSome(p []byte, n int, off int64) (int, error) {
	x, err := r.s.index(r.ctx, r.right)
	if err != nil {
		return 0, err
	}
	if got := r.s.remembered(x, p, off); got >= n {
		return got, nil
	}
	return r.s.ReadAt(r.ctx, r.right, p, off)
}

// remembered copies what is remembered from off on, without a gap, and returns
// how much.
func (s *Stream) remembered(x *index.Index, p []byte, off int64) int {
	got := 0
	for got < len(p) {
		i, ok := x.Find(off + int64(got))
		if !ok {
			break
		}
		piece := s.snap.ds.memory.metadata.Piece(s.file.Csum, i)
		if piece == nil {
			break
		}
		n := piece.ReadAt(p[got:], off+int64(got))
		if n == 0 {
			break
		}
		got += n
	}
	return got
}

// skim remembers what is not content in the chunk that has the header at pos, and
// in those after it that are in memory. It does nothing when that was done before,
// and when something is in the way: then the chunk is read again.
func (a *Archive) skim(ctx context.Context, right CanRead, pos int64) {
	if a.format.Split() {
		return
	}
	x, err := a.meta.index(ctx, right)
	if err != nil {
		return
	}
	i, ok := x.Find(pos)
	if !ok || a.knows(i, pos) {
		return
	}
	b, err := a.meta.block(ctx, right, a.meta.want(x.Span(i)), true)
	if err != nil {
		return
	}
	for room := skimBytes; ; {
		next, ok := a.skimChunk(x, i, b.Bytes(), pos, &room)
		b.Release()
		if !ok {
			return
		}
		if i, ok = x.Find(next); !ok || a.knows(i, x.Span(i).Off) {
			return
		}
		if b = a.meta.snap.ds.chunks.Peek(a.meta.want(x.Span(i))); b == nil {
			return
		}
		pos = max(next, x.Span(i).Off)
	}
}

// knows reports whether chunk i was skimmed from pos on.
func (a *Archive) knows(i int, pos int64) bool {
	p := a.meta.snap.ds.memory.metadata.Piece(a.meta.file.Csum, i)
	return p != nil && p.From <= pos
}

// skimChunk remembers what is not content in chunk i, whose data is b, from its
// beginning where that can be told, else from the header at pos. It returns a
// position in the next chunk of which something could be told, if that is to be
// looked at: not when no room is left.
func (a *Archive) skimChunk(x *index.Index, i int, b []byte, pos int64, room *int) (next int64, ok bool) {
	span := x.Span(i)
	mark, head, known := a.beginning(x, i)
	from := span.Off
	if !known {
		from = pxar.Rewind(b, span.Off, pos)
		mark = pxar.Mark{Next: from}
	}
	b = b[from-span.Off:]
	var found metadata.Ranges
	mark, ok = pxar.Skim(head, b, from, mark, a.meta.Size(), found.Add)
	piece, d := metadata.NewPiece(from, b, found), a.meta.snap.ds
	d.memory.metadata.PutPiece(a.meta.file.Csum, i, piece, a.meta.key == nil || d.cacheEncrypted)
	if *room -= piece.Size(); !ok {
		return 0, false
	}
	next = span.End
	if mark.Content { // what lies in between is of no interest
		next = max(next, mark.Next)
	}
	if j, ok := x.Find(next); ok {
		a.skimmed.set(j, mark)
		return next, *room > 0
	}
	return 0, false
}

// beginning returns how chunk i begins, with the bytes of a header that the chunk
// before has the beginning of.
func (a *Archive) beginning(x *index.Index, i int) (m pxar.Mark, head []byte, known bool) {
	m, known = a.skimmed.mark(i)
	n := x.Span(i).Off - m.Next
	if !known || n <= 0 {
		return m, nil, known
	}
	if n > maxHead {
		return m, nil, false
	}
	head = make([]byte, n)
	return m, head, a.meta.remembered(x, head, m.Next) == len(head)
}

// rememberedLinks returns the hard links that were counted by an earlier mount.
func (a *Archive) rememberedLinks() (map[int64]int, bool) {
	b := a.meta.snap.ds.memory.metadata.Note(a.meta.file.Csum)
	if b == nil || len(b)%linkNote != 0 {
		return nil, false
	}
	extra := make(map[int64]int, len(b)/linkNote)
	for ; len(b) > 0; b = b[linkNote:] {
		extra[int64(binary.LittleEndian.Uint64(b))] = int(binary.LittleEndian.Uint32(b[8:]))
	}
	return extra, true
}

// linkNote is the length of what is remembered of one file with hard links.
const linkNote = 12

// rememberLinks has later mounts know the hard links.
func (a *Archive) rememberLinks(extra map[int64]int) {
	d := a.meta.snap.ds
	if a.format.Split() || a.meta.key != nil && !d.cacheEncrypted {
		return
	}
	b := make([]byte, 0, linkNote*len(extra))
	for pos, n := range extra {
		b = binary.LittleEndian.AppendUint64(b, uint64(pos))
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	d.memory.metadata.PutNote(a.meta.file.Csum, b)
}
