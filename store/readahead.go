package store

import (
	"math"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
)

const (
	// maxFollowed is how many readers of one stream are tracked at once.
	maxFollowed = 16
	// maxHoles is how many chunks without data may lie before each chunk that is loaded
	// ahead. A hole costs nothing, but a walk through a large one does.
	maxHoles = 3
	// maxGap is how many chunks a reader may skip and still count as the same reader:
	// between the metadata of two files there is content that the reader may not need.
	maxGap = 2
	// crossingsToFollow is how many times a reader must go from the end of one file to
	// the beginning of the next before the file after that is loaded, too.
	crossingsToFollow = 2
	// handleGap is how long a reader may take between closing one file and reading the
	// next.
	handleGap = 100 * time.Millisecond
)

// readers tracks the readers that read a stream from chunk to chunk. A reader is
// identified by its position, not by its handles, because a program that copies an
// archive opens one file after the other. Each time a reader reaches the next chunk,
// twice as many chunks are loaded ahead of it as before. So at most as many are loaded
// in vain as were read.
type readers struct {
	mu    sync.Mutex // a leaf lock
	runs  []run
	clock uint64
	seen  time.Time // the time of the last read
}

// run is the progress of one reader.
type run struct {
	at      int    // the chunk that was read last
	window  int    // how many to load ahead
	end     int64  // the end of the content that was read last
	crossed int    // how often the reader went from one content to the next
	used    uint64 // the clock at the last read
}

// visit notes that chunk i is read, for a file whose content ends at end. start says
// that the content begins in this chunk. sameUse reports whether the same reader has
// just read this chunk. If it has not, window is how many chunks to load ahead, at most
// maxWindow; all of them must begin before limit.
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

// recent reports whether any reader was reading a moment ago.
func (r *readers) recent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.seen) < handleGap
}

// find returns the run to which chunk i belongs, nil if there is none. A run at exactly
// this chunk wins over one shortly before it.
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

// begin tracks a new reader, in the place of the one that was seen longest ago.
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

// content is the part of a stream that a reader is at. alone says that it will not go on
// to the next chunk. past is nil but for [Salvaged].
type content struct {
	begin, end int64
	alone      bool
	past       past
}

// past decides whether a reader wants zeros instead of the error of a span.
type past func(span index.Span, err error) bool

// readAhead loads the chunks after the i-th if a reader reads the stream from one chunk
// to the next. It reports whether the same reader has just read the i-th chunk. When
// the reader stops, this stops as well: the reader asks for no further chunk, and
// chunks that are still waiting are not loaded.
func (s *Stream) readAhead(right CanRead, x *index.Index, i int, c content) bool {
	sameUse, window, limit := s.readers.visit(i, x.Span(i).Off <= c.begin, c.end, s.snap.ds.chunks.Window())
	if window == 0 {
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
		s.loadAhead(right, span)
	}
	return sameUse
}

// loadAhead loads the chunk of a span ahead of a reader that has the right.
func (s *Stream) loadAhead(right CanRead, span index.Span) {
	if r, err := held(right); err == nil {
		s.snap.ds.chunks.Ahead(s.want(span), func() (chunk.Hold, error) { return s.rightAhead(r) })
	}
}

// rightAhead returns the right to load chunks ahead of a reader that had the right had.
// A program that reads many files has each of them open for a moment only. When the
// turn of a chunk comes, the program may have closed one file and not yet opened the
// next.
func (s *Stream) rightAhead(had *right) (*right, error) {
	own, err := had.share()
	if err != nil && s.readers.recent() {
		return had.ds.join()
	}
	return own, err
}
