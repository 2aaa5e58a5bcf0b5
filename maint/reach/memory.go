package reach

import (
	"context"
	"path/filepath"
	"sync"
	"time"
)

// Memory remembers what was found at paths. It is safe for concurrent use; the
// zero value is not usable.
//
// Looking at a path goes on in a goroutine until it ends, however long that
// takes; it is waited for once, and no other one is started for that path as long
// as the mount is there on which the look hangs.
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
	waited bool     // somebody has waited in vain
	mount  uint64   // that was asked last
	before *look[T] // the one that ended last, while this one goes on
	stale  bool     // the mounts have changed since
}

// NewMemory returns a memory of what find finds. find says which mount it is
// about to ask.
func NewMemory[T any](find func(path string, entering func(mount uint64)) (T, error)) *Memory[T] {
	return &Memory[T]{find: find, looks: make(map[string]*look[T])}
}

// believed is for how many times as long as looking took its result is believed
// where nothing is known to have changed, and leastBelieved the least of that.
// What is looked at quickly is looked at often.
const (
	believed      = 1000
	leastBelieved = time.Second
)

func (l *look[T]) fresh(now time.Time) bool {
	return !l.stale && now.Sub(l.started) < max(leastBelieved, believed*l.took)
}

// Known returns what was found at a path when it was last looked at, without
// looking. ok is false if it has to be looked at (again). The error is ErrHangs
// as long as a look that was waited for has not ended.
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

// Last returns what was found at a path when a look at it last ended, be it long
// ago. ok is false if none has.
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

// Forget has a path looked at again the next time.
func (m *Memory[T]) Forget(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.looks[path]; l != nil {
		l.stale = true
	}
}

// Look looks at paths, all at once, and waits for [Patience] at most, or until
// ctx ends. What was found is [Memory.Known] then. A path whose last look is
// recent is not looked at again.
func (m *Memory[T]) Look(ctx context.Context, paths ...string) {
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	var late []*look[T]
	for _, l := range m.start(paths) {
		select {
		case <-l.done:
		case <-timer.C:
			timer.Reset(0) // for those who come after
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

// start starts what looks have to be started, and returns those to be waited for.
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

// Changed has every path looked at again: the mounts have changed. A look that
// hangs goes on if its mount is still there, and is still not waited for.
func (m *Memory[T]) Changed() {
	types, err := mountTypes()
	m.mu.Lock()
	defer m.mu.Unlock()
	for path, l := range m.looks {
		_, there := types[l.mount]
		if !l.ended && err == nil && !there {
			delete(m.looks, path) // whatever it finds is nothing any more
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
