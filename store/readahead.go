package store

import (
	"math"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
)

const (
	// maxRuns is how many readers of one stream are followed at once.
	maxRuns = 16
	// maxWindow is how many chunks are loaded ahead of one reader.
	maxWindow = 16
	// nearby is how many chunks a reader may leave out, going on: metadata lies
	// between contents that nobody may want.
	nearby = 2
	// wanderer is after how many contents in a row, each going on where the one
	// before it ended, a reader is taken to want those that follow, too.
	wanderer = 2
	// respite is how long a reader may take from one content to the next.
	respite = 100 * time.Millisecond
)

// readers follows those who read a stream from chunk to chunk, whatever handles
// they use: a program that copies an archive opens one file after the other.
// Ahead of who goes on, chunks are loaded: twice as many with each step, so that
// never more is loaded in vain than was read.
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

// visit says that chunk i is read, for content that ends at end; start if it
// begins in this chunk. It returns whether the reader was there just before, and
// otherwise how many chunks to load ahead, none that begins at or behind limit.
func (r *readers) visit(i int, start bool, end int64) (again bool, window int, limit int64) {
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
	if w.crossed >= wanderer {
		end = math.MaxInt64
	}
	return false, w.window, end
}

// recent reports whether somebody was reading a moment ago.
func (r *readers) recent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.seen) < respite
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
		if w.at < i && i <= w.at+nearby {
			near = w
		}
	}
	return near
}

// begin follows a new reader, in place of the one that was seen longest ago.
func (r *readers) begin(w run) *run {
	w.used = r.clock
	if len(r.runs) < maxRuns {
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

// readAhead has chunks after the i-th loaded if the stream is being read from one
// to the next, and reports whether the i-th one was read just before. It stops
// with the reader: nobody who has stopped comes to the next chunk, and what waits
// for its turn a moment later is not loaded.
func (s *Stream) readAhead(right CanRead, x *index.Index, i int, c content) bool {
	again, window, limit := s.readers.visit(i, x.Span(i).Off <= c.begin, c.end)
	if window == 0 {
		return again
	}
	r, err := held(right)
	if err != nil {
		return again
	}
	zero, holes := s.hole(x)
	room := s.snap.ds.chunks.AheadLimit()
	// A hole costs nothing, but a walk through a large one does.
	for n := i + 1; window > 0 && n < min(x.Len(), i+1+4*maxWindow); n++ {
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
	return again
}

// rightAhead returns the right to load ahead of a reader who had one. Who walks
// through many files has each of them open for a moment only, and is on the way
// to the next when the turn of a chunk comes.
func (s *Stream) rightAhead(had *right) (*right, error) {
	own, err := had.again()
	if err != nil && s.readers.recent() {
		return had.ds.join()
	}
	return own, err
}
