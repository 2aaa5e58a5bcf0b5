package chunk

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Source reads, verifies and caches chunks. It is safe for concurrent use. Its
// owner must Close it.
type Source struct {
	pool   pool
	limits Limits
	// loads ends with the source: a load may outlive the callers that asked for it.
	loads context.Context
	stop  context.CancelCauseFunc

	// mu guards the fields below. It is a leaf lock.
	mu      sync.Mutex
	cache   cache
	loading map[id]*load
	needed  []*load // loads that a caller waits for, not started yet
	ahead   []*load // loads ahead, not started yet
	queued  int64   // bytes of ahead
	busy    int64   // bytes that the loads under way take
	running int     // loads under way
	counts  Statistics
}

// maxAhead is how many loads ahead may wait to be started.
const maxAhead = 64

// state is the state of a load.
type state uint8

const (
	waiting state = iota // among those loaded ahead
	claimed              // a caller waits for it, and takes the right for it
	started
)

// load is a chunk that is being loaded. block and err are set before done is closed.
type load struct {
	key  id
	want Want
	hold func() (Hold, error) // takes the right of a load ahead; nil for other loads
	done chan struct{}

	// Guarded by Source.mu.
	state   state
	right   Hold
	waiters int // the number of callers that will take a reference

	block *Block
	err   error
}

// errAlone ends a load ahead whose reader had stopped before it was started. A
// caller that has begun to wait for the chunk asks for it again.
var errAlone = errors.New("reader has stopped")

// ErrClosed ends the loads that are under way when a source is closed.
var ErrClosed = errors.New("datastore was closed")

// NewSource returns a source whose cache holds at most cacheSize bytes of decoded
// data, for backends with these limits.
func NewSource(cacheSize int64, limits Limits) *Source {
	ctx, stop := context.WithCancelCause(context.Background())
	return &Source{
		limits:  limits,
		loads:   ctx,
		stop:    stop,
		cache:   cache{limit: cacheSize, blocks: make(map[id]*cached)},
		loading: make(map[id]*load),
	}
}

// Get returns the chunk. hold is called, before Get returns, when the chunk
// must be loaded; the loader releases what it gives. sameUse says that the caller
// goes on with a chunk that it used just before: that does not make the chunk
// one that is used often. The caller must Release the block.
func (s *Source) Get(ctx context.Context, w Want, sameUse bool, hold func() (Hold, error)) (*Block, error) {
	for {
		b, err := s.get(ctx, w, sameUse, hold)
		if !errors.Is(err, errAlone) {
			return b, err
		}
	}
}

func (s *Source) get(ctx context.Context, w Want, sameUse bool, hold func() (Hold, error)) (*Block, error) {
	key := w.id()
	s.mu.Lock()
	if b := s.cache.get(key, sameUse); b != nil {
		b.retain()
		s.counts.Hits++
		s.mu.Unlock()
		return b, nil
	}
	s.counts.Misses++
	l, known := s.loading[key]
	if !known {
		l = &load{key: key, want: w, done: make(chan struct{}), state: claimed}
		s.loading[key] = l
	} else if known = l.state != waiting; !known {
		l.state, l.hold = claimed, nil
		s.ahead = slices.DeleteFunc(s.ahead, func(o *load) bool { return o == l })
		s.queued -= int64(w.Size)
	}
	l.waiters++
	s.mu.Unlock()
	if !known {
		s.claim(l, hold)
	}
	select {
	case <-l.done:
		return l.block, l.err
	case <-ctx.Done():
		s.leave(l)
		return nil, context.Cause(ctx)
	}
}

// Peek returns the chunk if it is in memory, else nil. That is no use of it. The
// caller must Release the block.
func (s *Source) Peek(w Want) *Block {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.cache.blocks[w.id()]; e != nil {
		return e.block.retain()
	}
	return nil
}

// claim takes the right for a load that a caller waits for. Such a load is started
// before all loads ahead.
func (s *Source) claim(l *load, hold func() (Hold, error)) {
	right, err := hold()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.finish(l, nil, err)
		return
	}
	l.right = right
	s.needed = append(s.needed, l)
	s.next()
}

// Ahead has a chunk loaded before a caller asks for it. The right for it is taken
// when the load is started; if the reader has stopped by then, the chunk is not
// loaded. Ahead does nothing when the chunk is in memory or being loaded, when
// enough others are waiting, or when the cache is too small to keep it until it is
// asked for. An error is returned to the caller that asks for the chunk.
func (s *Source) Ahead(w Want, hold func() (Hold, error)) {
	key := w.id()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cache.has(key) || s.loading[key] != nil || len(s.ahead) >= maxAhead || int64(w.Size) > s.AheadLimit() ||
		s.cache.unused+s.queued+int64(w.Size) > (s.cache.limit-s.cache.kept)/2 {
		return
	}
	s.queued += int64(w.Size)
	l := &load{key: key, want: w, hold: hold, done: make(chan struct{})}
	s.loading[key] = l
	s.ahead = append(s.ahead, l)
	s.next()
}

// aheadShare is which part of the cache may be filled ahead of one reader.
const aheadShare = 8

// AheadLimit returns how many bytes may be loaded ahead of one reader.
func (s *Source) AheadLimit() int64 { return s.cache.limit / aheadShare }

// next starts loads, with s.mu held: first those that callers wait for, while there
// is memory, and then loads ahead, while the backend takes more.
func (s *Source) next() {
	for len(s.needed) > 0 && s.room(s.needed[0]) {
		l := s.needed[0]
		s.needed = slices.Delete(s.needed, 0, 1)
		s.start(l)
	}
	for len(s.needed) == 0 && len(s.ahead) > 0 && s.running < s.limits.Parallel && s.room(s.ahead[0]) {
		l := s.ahead[0]
		s.ahead = slices.Delete(s.ahead, 0, 1)
		s.queued -= int64(l.want.Size)
		s.start(l)
	}
}

// room reports whether a load can be started, with s.mu held.
func (s *Source) room(l *load) bool { return s.busy == 0 || s.busy+l.cost() <= s.limits.Busy }

// cost is how many bytes a load takes while it is under way.
func (l *load) cost() int64 { return 2 * int64(l.want.Size) }

// start starts a load, with s.mu held.
func (s *Source) start(l *load) {
	l.state = started
	s.busy += l.cost()
	s.running++
	go func() {
		began := time.Now()
		b, err := s.run(l)
		took := time.Since(began)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy -= l.cost()
		s.running--
		s.count(l, b, err, took)
		s.finish(l, b, err)
		s.next()
	}()
}

// count counts a load, with s.mu held.
func (s *Source) count(l *load, b *Block, err error, took time.Duration) {
	switch {
	case errors.Is(err, errAlone): // nothing was loaded
	case err != nil:
		s.counts.Failed++
	default:
		s.counts.Verified += uint64(len(b.data))
		s.counts.Times.add(took)
		if l.hold != nil && l.waiters > 0 {
			s.counts.AheadUsed++
		}
	}
}

// run loads a chunk. It releases its right, which may close the datastore, before any
// caller gets the answer.
func (s *Source) run(l *load) (*Block, error) {
	right := l.right
	if right == nil {
		var err error
		if right, err = l.hold(); err != nil {
			return nil, errAlone
		}
	}
	defer right.Release()
	return s.load(right, l.want)
}

// leave removes a waiter from a load, and releases the reference that finish may have
// made for it.
func (s *Source) leave(l *load) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-l.done:
		if l.block != nil {
			l.block.Release()
		}
	default:
		l.waiters--
	}
}

// finish ends a load, with s.mu held: the block enters the cache, and each
// waiter gets a reference of its own.
func (s *Source) finish(l *load, b *Block, err error) {
	delete(s.loading, l.key)
	l.err = err
	if err == nil {
		l.block = b
		b.refs.Store(int64(l.waiters) + 1) // and one for here
		s.cache.add(l.key, b, l.waiters > 0)
		b.Release()
	}
	close(l.done)
}

// Window returns how many chunks may be loaded ahead of one reader.
func (s *Source) Window() int { return s.limits.Window }

// Parallel returns how many chunks the backend gives at a time.
func (s *Source) Parallel() int { return s.limits.Parallel }

// Close ends the loads that are under way, and returns when they have ended.
func (s *Source) Close() {
	s.stop(ErrClosed)
	s.Wait()
}

// Wait returns when the loads under way have ended, even those that no caller waits for
// any more.
func (s *Source) Wait() {
	s.mu.Lock()
	running := slices.Collect(maps.Values(s.loading))
	s.mu.Unlock()
	for _, l := range running {
		<-l.done
	}
}

// Drop empties the cache. Blocks that are in use stay valid.
func (s *Source) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.drop()
	s.pool.drop()
}
