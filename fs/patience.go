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

	once sync.Once
	done chan struct{}
	end  chan struct{}
}

// patient returns the context of a request, and what must be called when it was
// answered.
func patient(ctx context.Context) (context.Context, func()) {
	r := &request{Context: ctx, start: time.Now(), done: make(chan struct{}), end: make(chan struct{})}
	return r, sync.OnceFunc(func() { close(r.end) })
}

// Done starts to watch when somebody waits, which few requests do.
func (r *request) Done() <-chan struct{} {
	r.once.Do(func() { go r.watch() })
	return r.done
}

func (r *request) watch() {
	select {
	case <-r.Context.Done():
	case <-r.end:
		return
	}
	timer := time.NewTimer(time.Until(r.start.Add(patience)))
	defer timer.Stop()
	select {
	case <-timer.C:
		close(r.done)
	case <-r.end:
	}
}

// Err is nil as long as the request is to go on.
func (r *request) Err() error {
	select {
	case <-r.done:
		return context.Canceled
	default:
		return nil
	}
}
