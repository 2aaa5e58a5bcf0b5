// Package lease opens files that somebody else holds a lease on, as file servers
// do for their clients: Samba with kernel oplocks, NFS with delegations. An open
// that must not block fails until the holder has given the lease back; it has
// been asked to by the attempt, and the kernel takes the lease away when it does
// not (fcntl(2), "Leases").
package lease

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is a little more than what the kernel waits for a holder unless
	// the administrator said otherwise (/proc/sys/fs/lease-break-time).
	patience = time.Minute
	poll     = 10 * time.Millisecond
)

// Open calls open, which opens something with O_NONBLOCK, again until nobody
// has a lease that is in its way, for a minute at most. The error is that of
// the last call, or the context's when that has ended.
func Open(ctx context.Context, open func() (int, error)) (int, error) {
	fd, err := open()
	if !errors.Is(err, unix.EAGAIN) {
		return fd, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, err)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for errors.Is(err, unix.EAGAIN) {
		select {
		case <-tick.C:
			fd, err = open()
		case <-ctx.Done():
			return -1, context.Cause(ctx)
		}
	}
	return fd, err
}
