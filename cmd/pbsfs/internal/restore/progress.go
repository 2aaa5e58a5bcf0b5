package restore

import (
	"context"
	"time"
)

// Progress is told of further objects and bytes that are dealt with.
type Progress func(files, bytes int64)

// progressEvery is how often.
const progressEvery = 100 * time.Millisecond

// show tells of the progress until it is ended, which waits for it.
func (t *tally) show(ctx context.Context, to Progress) (end func()) {
	if to == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		var files, bytes int64
		for more := true; more; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				more = false
			}
			nowFiles, nowBytes := t.done.Load(), t.doneBytes.Load()
			to(nowFiles-files, nowBytes-bytes)
			files, bytes = nowFiles, nowBytes
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
