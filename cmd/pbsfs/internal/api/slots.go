package api

import (
	"context"
	"time"
)

// slots bounds how many requests of one kind are met at once.
type slots chan struct{}

// slotWait is how long a request waits for another one to end.
const slotWait = 10 * time.Second

// enter waits until there are not too many requests of the kind. The caller must call the
// result when its request has been met.
func (s slots) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-s }
	select {
	case s <- struct{}{}:
		return leave, nil
	default:
	}
	wait := time.NewTimer(slotWait)
	defer wait.Stop()
	select {
	case s <- struct{}{}:
		return leave, nil
	case <-wait.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
