package fs

import (
	"context"
	"sync"
	"time"
)

// patience is how long a request goes on after an interrupt. The kernel interrupts
// requests for every signal, even a harmless one, and programs do not expect EINTR from
// stat(2). A request that takes longer waits for something that hangs, and its program
// must be able to end.
const patience = time.Second

// request is the context of a request from the kernel. It is cancelled when patience
// has passed since an interrupt.
type request struct {
	context.Context
	start time.Time

	mu       sync.Mutex // a leaf lock
	answered bool
	done     chan struct{} // nil until a caller waits
	end      chan struct{} // closed when the request was answered
}

// patient returns the context of a request, and a function that must be called when the
// request was answered.
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

// Done starts the watch when a caller waits, which happens in few requests.
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

// watch closes done when the request was interrupted long enough ago, unless the
// request ends before.
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
	case <-done: // is never closed as long as no caller has waited
		return context.Canceled
	default:
		return nil
	}
}
