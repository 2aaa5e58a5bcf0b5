package store

import (
	"math"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
)

const (
	// maxFollowed is how many readers of one stream are followed at once.
	maxFollowed = 16
	// maxHoles is how many chunks without data may lie before each one that is
	// loaded ahead: a hole costs nothing, but a walk through a large one does.
	maxHoles = 3
	// maxGap is how many chunks a reader may leave out and still be the same
	// one: between the metadata of two files lies content that nobody may want.
	maxGap = 2
	// crossingsToFollow is how many times a reader must go on from the end of one
	// file to the beginning of the next before the file after that is loaded, too.
	crossingsToFollow = 2
	// handleGap is how long a reader may take from closing one file to reading the
	// next.
	handleGap = 100 * time.Millisecond
)

// readers follows those who read a stream from chunk to chunk. They are told by
// where they read, not by their handles: a program that copies an archive opens
// one file after the other. Each time a reader goes on to the next chunk, twice as
// many chunks are loaded ahead of it as before, so that no more is loaded in vain
// than was read.
type readers struct {
	mu    sync.Mutex // a leaf lock
	runs  []run
	clock uint64
	seen  time.Time // when somebody read last
}

// run is one reader's way.
type run struct {
	at      int    // the chunk that was read last
	window  int    // how many to load ahead
	end     int64  // of the content that was read last
	crossed int    // contents that were read on into the next one
	used    uint64 // when
}

// visit notes that chunk i is read, for a file whose content ends at end. start
// says that the content begins in this chunk. sameUse reports whether the same
// reader read this chunk just before. If not, window is how many chunks to load
// ahead, maxWindow at most; none of them may begin at limit or behind it.
func (r *readers) visit(i int, start bool, end int64, maxWindow int) (sameUse bool, window int, limit int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	r.seen = time.Now()
	w := r.find(i)
	if w == nil {
		w = r.begin(run{at: i, end: end})
		if start {
			w.window = 1
		}
		return false, w.window, end
	}
	w.used = r.clock
	if w.end != end {
		w.end = end
		w.crossed++
	}
	if w.at == i {
		return true, 0, 0
	}
	w.at = i
	w.window = min(max(1, 2*w.window), maxWindow)
	if w.crossed >= crossingsToFollow {
		end = math.MaxInt64
	}
	return false, w.window, end
}

// recent reports whether somebody was reading a moment ago.
func (r *readers) recent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.seen) < handleGap
}

// find returns the run that chunk i belongs to, nil if none. The one that was
// there wins over one that comes near.
func (r *readers) find(i int) *run {
	var near *run
	for k := range r.runs {
		w := &r.runs[k]
		if w.at == i {
			return w
		}
		if w.at < i && i <= w.at+maxGap {
			near = w
		}
	}
	return near
}

// begin follows a new reader, in place of the one that was seen longest ago.
func (r *readers) begin(w run) *run {
	w.used = r.clock
	if len(r.runs) < maxFollowed {
		r.runs = append(r.runs, w)
		return &r.runs[len(r.runs)-1]
	}
	oldest := 0
	for k := range r.runs {
		if r.runs[k].used < r.runs[oldest].used {
			oldest = k
		}
	}
	r.runs[oldest] = w
	return &r.runs[oldest]
}

// content is the part of a stream that a reader is at.
type content struct{ begin, end int64 }

// readAhead has the chunks after the i-th loaded if somebody reads the stream from
// one chunk to the next. It reports whether the same reader read the i-th chunk
// just before. When the reader stops, this stops as well: nobody asks for the next
// chunk, and a chunk whose turn comes later is not loaded.
func (s *Stream) readAhead(right CanRead, x *index.Index, i int, c content) bool {
	sameUse, window, limit := s.readers.visit(i, x.Span(i).Off <= c.begin, c.end, s.snap.ds.chunks.Window())
	if window == 0 {
		return sameUse
	}
	r, err := held(right)
	if err != nil {
		return sameUse
	}
	zero, holes := s.hole(x)
	room := s.snap.ds.chunks.AheadLimit()
	for n := i + 1; window > 0 && n < min(x.Len(), i+1+(1+maxHoles)*s.snap.ds.chunks.Window()); n++ {
		span := x.Span(n)
		if span.Off >= limit {
			break
		}
		if holes && isHole(span, zero, x.ChunkSize()) {
			continue
		}
		window--
		if room -= span.End - span.Off; room < 0 {
			break
		}
		s.snap.ds.chunks.Ahead(s.want(span), func() (chunk.Hold, error) { return s.rightAhead(r) })
	}
	return sameUse
}

// rightAhead returns the right to load ahead of a reader who had the right had.
// A program that reads many files has each of them open for a moment only. When
// the turn of a chunk comes, it may have closed one and not yet opened the next.
func (s *Stream) rightAhead(had *right) (*right, error) {
	own, err := had.share()
	if err != nil && s.readers.recent() {
		return had.ds.join()
	}
	return own, err
}
