package chunk

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

// slow is a backend that answers nobody before its context ends.
type slow struct {
	asked, at, most atomic.Int64
}

func (b *slow) ReadChunk(ctx context.Context, _ name.Digest, _ []byte) ([]byte, error) {
	b.asked.Add(1)
	b.most.Store(max(b.most.Load(), b.at.Add(1)))
	defer b.at.Add(-1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (b *slow) hold() (Hold, error)      { return b, nil }
func (b *slow) Chunks() (Backend, error) { return b, nil }
func (b *slow) Release()                 {}

func TestBackendHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(1<<20, Limits{Parallel: 1, Timeout: time.Minute, Busy: 1 << 20})
		defer s.Close()
		begin := time.Now()
		_, err := s.Get(t.Context(), plain(name.Digest{1}, 1000), false, new(slow).hold)
		var own *Error
		if !errors.As(err, &own) || own.Digest != (name.Digest{1}) || !strings.Contains(err.Error(), "1m0s") || errors.Is(err, corrupt.Err) {
			t.Errorf("got %v, want that the chunk was not read within a minute, and that it is no damage", err)
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("given up after %s", took)
		}
	})
}

func TestCloseEndsWhatABackendIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := NewSource(1<<20, LocalLimits()), new(slow)
		got := make(chan error)
		go func() {
			_, err := s.Get(t.Context(), plain(name.Digest{1}, 1000), false, b.hold)
			got <- err
		}()
		synctest.Wait()
		go s.Close()
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want %v", err, ErrClosed)
		}
		synctest.Wait()
		if n := b.at.Load(); n != 0 {
			t.Errorf("%d loads go on", n)
		}
	})
}

func TestLoadsAheadAreAsManyAsTheBackendTakes(t *testing.T) {
	for _, parallel := range []int{1, 3, 20} {
		synctest.Test(t, func(t *testing.T) {
			s, b := NewSource(1<<20, Limits{Parallel: parallel, Busy: 1 << 20}), new(slow)
			for i := range 10 {
				s.Ahead(plain(name.Digest{byte(i)}, 1000), b.hold)
			}
			synctest.Wait()
			if n, want := b.asked.Load(), int64(min(parallel, 10)); n != want || b.most.Load() != want {
				t.Errorf("%d chunks are asked for at a time, want %d", n, want)
			}
			s.Close()
		})
	}
}
