package reach

import (
	"context"
	"path/filepath"
	"sync"
	"time"
)

// Memory remembers what was found at paths. It is safe for concurrent use; the zero
// value is not usable.
//
// A look at a path goes on in a goroutine until it ends, however long that takes. It is
// waited for once. No other look at that path starts while the mount on which the look
// hangs is still there.
type Memory[T any] struct {
	find func(path string, entering func(mount uint64)) (T, error)

	mu    sync.Mutex // guards what follows; nothing is called under it
	looks map[string]*look[T]
}

// look is one look at a path.
type look[T any] struct {
	done    chan struct{} // closed when found and err are there
	found   T
	err     error
	started time.Time
	took    time.Duration // zero before it is done

	// Guarded by Memory.mu.
	ended  bool     // found and err are there
	waited bool     // a caller has waited in vain
	mount  uint64   // the mount that was asked last
	before *look[T] // the look that ended last, while this one goes on
	stale  bool     // the mounts have changed since
}

// NewMemory returns a memory for the results of find. find calls entering for each
// mount that it is about to ask.
func NewMemory[T any](find func(path string, entering func(mount uint64)) (T, error)) *Memory[T] {
	return &Memory[T]{find: find, looks: make(map[string]*look[T])}
}

// believed is for how many times the duration of a look its result is believed, if no
// change is known. leastBelieved is the shortest such time. So a path that answers
// quickly is looked at often.
const (
	believed      = 1000
	leastBelieved = time.Second
)

func (l *look[T]) fresh(now time.Time) bool {
	return !l.stale && now.Sub(l.started) < max(leastBelieved, believed*l.took)
}

// Known returns what the last look found at a path, without looking. ok is false if the
// path has to be looked at. The error is ErrHangs as long as a look that was waited for
// has not ended.
func (m *Memory[T]) Known(path string) (found T, err error, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.looks[path]
	switch {
	case l == nil:
		return found, nil, false
	case l.ended:
		return l.found, l.err, !l.stale
	case l.waited:
		return found, ErrHangs, true
	}
	return found, nil, false
}

// Last returns the result of the last look at a path that has ended, however long ago.
// ok is false if none has ended.
func (m *Memory[T]) Last(path string) (found T, err error, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.looks[path]
	if l == nil {
		return found, nil, false
	}
	if !l.ended {
		l = l.before
	}
	if l == nil {
		return found, nil, false
	}
	return l.found, l.err, true
}

// Forget makes the next Look look at a path anew.
func (m *Memory[T]) Forget(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.looks[path]; l != nil {
		l.stale = true
	}
}

// Look looks at paths, all at once. It waits for at most [Patience], or until ctx ends.
// [Memory.Known] returns the results then. A path whose last look is recent is not
// looked at again.
func (m *Memory[T]) Look(ctx context.Context, paths ...string) {
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	var late []*look[T]
	for _, l := range m.start(paths) {
		select {
		case <-l.done:
		case <-timer.C:
			timer.Reset(0) // for the callers that come after
			late = append(late, l)
		case <-ctx.Done():
			return
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range late {
		l.waited = true
	}
}

// start starts the looks that are needed, and returns those to wait for.
func (m *Memory[T]) start(paths []string) []*look[T] {
	m.mu.Lock()
	defer m.mu.Unlock()
	var wait []*look[T]
	now := time.Now()
	for _, path := range paths {
		l := m.looks[path]
		switch {
		case l == nil, l.ended && !l.fresh(now):
			l = &look[T]{done: make(chan struct{}), started: now, before: l}
			m.looks[path] = l
			go m.run(l, path)
			wait = append(wait, l)
		case !l.ended && !l.waited:
			wait = append(wait, l)
		}
	}
	return wait
}

func (m *Memory[T]) run(l *look[T], path string) {
	found, err := m.find(path, func(mount uint64) {
		m.mu.Lock()
		l.mount = mount
		m.mu.Unlock()
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	l.found, l.err, l.took, l.before = found, err, time.Since(l.started), nil
	l.ended = true
	close(l.done)
}

// Changed makes the next Look look at every path anew, because the mounts have changed.
// A look that hangs goes on if its mount is still there, and is still not waited for.
func (m *Memory[T]) Changed() {
	types, err := mountTypes()
	m.mu.Lock()
	defer m.mu.Unlock()
	for path, l := range m.looks {
		_, there := types[l.mount]
		if !l.ended && err == nil && !there {
			delete(m.looks, path) // its result no longer matters
		}
		l.stale = true
	}
}

func cleaned(path string) string {
	if abs, err := Abs(path); err == nil {
		path = abs
	}
	return filepath.Clean(path)
}
