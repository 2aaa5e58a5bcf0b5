package store

import (
	"errors"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/store/internal/chunk"
)

const (
	// maxLost is how many damaged chunks are remembered.
	maxLost = 100_000
	// askAgain is after how long a disk that could not read a chunk is asked again: such
	// a disk tries for many seconds, and a chunk is read in many parts.
	askAgain = 3 * time.Second
)

// lostChunks remembers which chunks were found damaged by reads that went past them. It
// holds no data. A chunk that can be read again is forgotten.
type lostChunks struct {
	mu    sync.Mutex // a leaf lock
	known map[WantedChunk]lostChunk
}

// lostChunk is what is remembered of a chunk. err is set if its disk could not read it.
type lostChunk struct {
	at  time.Time
	err error
}

// note remembers that a chunk was found damaged.
func (l *lostChunks) note(c WantedChunk, err error) {
	entry := lostChunk{at: time.Now()}
	var bad *chunk.Error
	if errors.As(err, &bad) && faultOf(bad) == ChunkUnreadable {
		entry.err = err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.known[c]; !ok && len(l.known) >= maxLost {
		return
	}
	if l.known == nil {
		l.known = make(map[WantedChunk]lostChunk)
	}
	l.known[c] = entry
}

// forget forgets a chunk that was read.
func (l *lostChunks) forget(c WantedChunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, c)
}

// has reports whether a chunk was damaged when it was read last.
func (l *lostChunks) has(c WantedChunk) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.known[c]
	return ok
}

// none reports whether no chunk was found damaged.
func (l *lostChunks) none() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.known) == 0
}

// failing returns with what error the disk could not read a chunk a moment ago, nil if
// there is none.
func (l *lostChunks) failing(c WantedChunk) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.known[c]; time.Since(e.at) < askAgain {
		return e.err
	}
	return nil
}
