package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/pbsfs/pbsfs/store/bucket"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
	"github.com/pbsfs/pbsfs/store/internal/s3"
)

// Bucket says how a datastore is read that lies in a bucket.
type Bucket struct {
	bucket.Location
	bucket.Credentials
	// Parallel is how many requests may be under way; 0 means DefaultParallel.
	Parallel int
	// Refresh is how long names are remembered; 0 means DefaultRefresh.
	Refresh time.Duration
	// Patience is how long a request may make no progress; 0 means DefaultPatience.
	Patience time.Duration
	// CopyDir is a directory for copies of chunks, as they are in the bucket, of at most
	// CopyBytes; with "" none are kept. 0 means DefaultCopyBytes.
	CopyDir   string
	CopyBytes int64
	// ServerCache is the directory of this machine in which a server keeps its copies, ""
	// for none. It is only read.
	ServerCache string
}

const (
	// DefaultParallel is the default for the number of requests at a time.
	DefaultParallel = 16
	// DefaultRefresh is the default for how long names in a bucket are remembered.
	DefaultRefresh = 10 * time.Second
	// DefaultCopyBytes is the default for the size of all copies of chunks.
	DefaultCopyBytes = 10 << 30
	// DefaultPatience is the default for how long a server may be silent.
	DefaultPatience = 30 * time.Second
)

// String names the location; the secret stays out of messages.
func (b *Bucket) String() string { return b.Location.String() }

func (b *Bucket) parallel() int { return orDefault(b.Parallel, DefaultParallel) }

func orDefault[T ~int | ~int64](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// limits are those of a server that takes long to begin an answer: to fill the line, many
// must be under way. An encoded chunk and its data take some 8 MiB. Where there is little
// memory for chunks, those under way take no more than those of a directory.
func (b *Bucket) limits(cacheSize int64) chunk.Limits {
	n := b.parallel()
	busy := min(int64(n)*(8<<20), max(chunk.LocalLimits().Busy, cacheSize/4))
	return chunk.Limits{Parallel: n, Window: 2 * n, Busy: busy}
}

// bucketMedium is the medium of a datastore in a bucket. While an operation is active, it
// has connections; without one, none.
type bucketMedium struct {
	presence
	at s3.Near
	// where is the location, for messages.
	where string
	base  Attr
	seen  atomic.Bool // the server has answered
}

// newBucketMedium asks nobody.
func newBucketMedium(name string, log *slog.Logger, opts *Bucket) (*bucketMedium, error) {
	m := &bucketMedium{
		presence: presence{name: name, log: log}, where: opts.String(),
		// Nobody owns objects: what is above the archives belongs to who looks.
		base: Attr{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Mtime: time.Now()},
	}
	var err error
	m.at.Copies = s3.NewCopies(opts.CopyDir, orDefault(opts.CopyBytes, DefaultCopyBytes), opts.ServerCache, log)
	m.at.Bucket, err = s3.New(s3.Options{
		At: opts.Location, Credentials: opts.Credentials, Parallel: opts.parallel(),
		Refresh: orDefault(opts.Refresh, DefaultRefresh), Patience: orDefault(opts.Patience, DefaultPatience),
		Reached: m.reached,
	})
	return m, err
}

// reached notes whether the server answers.
func (m *bucketMedium) reached(err *s3.Error) {
	switch {
	case err == nil:
		m.seen.Store(true)
		m.back(m.where)
	case err.Away() && m.seen.Load(): // before, whoever opens it is told
		_ = m.leave(fmt.Errorf("datastore %s: %s: %w: %w", m.name, m.where, ErrGone, err))
	}
}

func (m *bucketMedium) open() (backend.Backend, error) { return m.at, nil }
func (m *bucketMedium) follow() error                  { return nil }
func (m *bucketMedium) drop()                          { m.at.Idle() }
func (m *bucketMedium) attr() Attr                     { return m.base }
func (m *bucketMedium) look() bool                     { return true }
func (m *bucketMedium) close()                         { m.at.Copies.Close() }

func (m *bucketMedium) copies() Hits {
	hits, misses := m.at.Copies.Counts()
	return Hits{hits, misses}
}

func (m *bucketMedium) blame(_ context.Context, _ backend.Backend, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("datastore %s: %w", m.name, err)
}

// check finds out whether the datastore is there.
func (m *bucketMedium) check(ctx context.Context) error {
	err := m.at.Check(ctx)
	var own *s3.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own) && own.Away(), errors.Is(err, s3.ErrNoStore):
		return fmt.Errorf("datastore %s: %w: %w", m.name, ErrGone, err)
	}
	return fmt.Errorf("datastore %s: %w", m.name, err)
}
