package reach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Patience bounds the wait for a file system that may hang.
const Patience = 2 * time.Second

// ErrHangs says that a file system did not answer in time.
var ErrHangs = errors.New("does not answer")

// Try calls do, which may hang, and waits for at most [Patience], or until ctx ends. A
// call that hangs goes on in a goroutine of its own until it ends by itself.
func Try[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type answer struct {
		got T
		err error
	}
	done := make(chan answer, 1)
	go func() {
		got, err := do()
		done <- answer{got, err}
	}()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	var none T
	select {
	case a := <-done:
		return a.got, a.err
	case <-timer.C:
		return none, ErrHangs
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// Resolve follows a path to its end, in bounded time. The answer's Path is set even if
// there is an error; if the path hangs, it is the path as it is written.
func Resolve(ctx context.Context, path string) (Place, error) {
	place, err := Try(ctx, func() (Place, error) { return Follow(path) })
	if place.Path == "" {
		place.Path = cleaned(path)
	}
	if errors.Is(err, ErrHangs) {
		err = fmt.Errorf("%s: %w", path, ErrHangs)
	}
	return place, err
}

// Answers reports whether the file system at a path answers in bounded time. A path
// that leads nowhere counts as answering. Unlike the rest of this package, Answers
// looks into a mounted tree of pbsfs, for callers that were told to do so.
func Answers(ctx context.Context, path string) error {
	place, err := Resolve(ctx, path)
	if err == nil && place.Tree {
		_, err = Try(ctx, func() (os.FileInfo, error) { return os.Lstat(place.Path) })
	}
	switch {
	case errors.Is(err, ErrHangs):
		return fmt.Errorf("%s: what is mounted there %w", path, ErrHangs)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}
