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
	// metadataBytes bounds the memory for the metadata of archives.
	metadataBytes = 32 << 20
	// skimBytes is about how much one skim remembers: the first part of it must still
	// be in memory when it is needed.
	skimBytes = metadataBytes / 8
	// metadataDisk bounds the size of the files that keep metadata.
	metadataDisk = 1 << 30
	// maxHead is larger than any part of a header that can end a chunk when the next
	// chunk has the rest.
	maxHead = 16
)

// skimmed says how far the metadata of a unified archive was collected. It is a hint:
// without it, more chunks are read than necessary.
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

// metadata returns the archive's own stream for one call of the decoder. The parts that
// are in memory need no chunk.
func (s *Stream) metadata(ctx context.Context, right CanRead) io.ReaderAt {
	return sparse{bound{ctx: ctx, right: right, s: s}}
}

// sparse is a stream with some parts in memory.
type sparse struct{ bound }

// ReadAt reads len(p) bytes, less only at the end.
func (r sparse) ReadAt(p []byte, off int64) (int, error) { return r.ReadSome(p, len(p), off) }

// ReadSome reads at least n bytes, and up to len(p) if they are at hand.
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

// remembered copies the data that is in memory from off on, up to the first gap. It
// returns the number of bytes.
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

// skim collects the metadata in the chunk that has the header at pos, and in the chunks
// after it that are in memory. It does nothing if that was done before. On any error it
// does nothing either, and the chunk is read when it is needed.
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

// skimChunk collects the metadata in chunk i, whose data is b: from its beginning if
// that can be parsed, otherwise from the header at pos. It returns a position in the
// next chunk from which the skim can go on. ok is false if it should not, because no
// room is left.
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
	if mark.Content { // the bytes in between are content, which is not kept
		next = max(next, mark.Next)
	}
	if j, ok := x.Find(next); ok {
		a.skimmed.set(j, mark)
		return next, *room > 0
	}
	return 0, false
}

// beginning returns how chunk i begins, with the bytes of a header whose beginning is
// in the chunk before.
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

// rememberedLinks returns the hard links that an earlier mount has counted.
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

// linkNote is the length of the note on one file with hard links.
const linkNote = 12

// rememberLinks stores the hard links for later mounts.
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
