package cdc

import "sync"

// suggestions are places where a stream is well cut, in order. They are made by
// whoever writes the stream, and used by whoever cuts it.
type suggestions struct {
	mu   sync.Mutex
	offs []int64
}

func (s *suggestions) add(off int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offs = append(s.offs, off)
}

// next returns the first suggestion from one offset to another, both included.
// What lies before is of no use any more.
func (s *suggestions) next(from, to int64) (off int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.offs) && s.offs[n] < from {
		n++
	}
	s.offs = s.offs[n:]
	if len(s.offs) == 0 || s.offs[0] > to {
		return 0, false
	}
	return s.offs[0], true
}
