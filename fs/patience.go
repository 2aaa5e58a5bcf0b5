package fs

import (
	"context"
	"sync"
	"time"
)

// patience is how long a request goes on although it was interrupted. The
// kernel interrupts requests for every signal, harmless ones too, and programs
// do not expect EINTR from stat(2). Who waits longer is waiting for something
// that hangs, and has to get away.
const patience = time.Second

// request is the context of a request of the kernel's, cancelled patience after
// it was interrupted.
type request struct {
	context.Context
	start time.Time

	mu       sync.Mutex // a leaf lock
	answered bool
	done     chan struct{} // nil until somebody waits
	end      chan struct{} // closed when the request was answered
}

// patient returns the context of a request, and what must be called when it was
// answered.
func patient(ctx context.Context) (context.Context, func()) {
	r := &request{Context: ctx, start: time.Now()}
	return r, r.answer
}

// answer ends the watch.
func (r *request) answer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil && !r.answered {
		close(r.end)
	}
	r.answered = true
}

// Done starts to watch when somebody waits, which few requests do.
func (r *request) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if !r.answered {
			r.end = make(chan struct{})
			go r.watch(r.done, r.end)
		}
	}
	return r.done
}

// watch closes done when the request has been interrupted for long enough, if it
// does not end before.
func (r *request) watch(done chan<- struct{}, end <-chan struct{}) {
	select {
	case <-r.Context.Done():
	case <-end:
		return
	}
	timer := time.NewTimer(time.Until(r.start.Add(patience)))
	defer timer.Stop()
	select {
	case <-timer.C:
		close(done)
	case <-end:
	}
}

// Err is nil as long as the request is to go on.
func (r *request) Err() error {
	r.mu.Lock()
	done := r.done
	r.mu.Unlock()
	select {
	case <-done: // never, while nobody has waited
		return context.Canceled
	default:
		return nil
	}
}
