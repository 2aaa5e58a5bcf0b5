package store

import (
	"context"
	"log/slog"
	"sync"

	"github.com/pbsfs/pbsfs/store/internal/backend"
)

// medium is what a datastore lies on: a [directory] or a [bucketMedium]. It may go away and
// come back while references to it exist.
type medium interface {
	// open returns the open datastore. Only holders of a right call it; see drop.
	open() (backend.Backend, error)
	// follow makes sure that the open datastore is the one that is there now.
	follow() error
	// blame looks for the reason behind an error: if the datastore itself has gone, that
	// is the error.
	blame(ctx context.Context, root backend.Backend, err error) error
	// drop closes what is open. It is called when no operation is active.
	drop()
	// attr returns the attributes of the datastore itself as they were last seen.
	attr() Attr
	// look notes whether the datastore is there, if that costs nothing. Otherwise it
	// reports false.
	look() bool
	// missing returns why the datastore was not there at the last look, nil if it was.
	missing() error
	// copies counts the chunks that were found near, and those that were not, if there
	// are places to look for them.
	copies() Hits
	// close ends what the medium does by itself. It is called once, after the last use.
	close()
}

// presence remembers whether a medium is there, and logs when that changes.
type presence struct {
	name string // of the datastore
	log  *slog.Logger

	state sync.Mutex // a leaf lock; guards away
	away  error      // why the datastore was not there at the last look
}

// leave notes that the datastore is not there, and logs that once.
func (p *presence) leave(err error) error {
	p.state.Lock()
	known := p.away != nil && p.away.Error() == err.Error()
	p.away = err
	p.state.Unlock()
	if !known {
		p.log.Warn("the datastore is not there", "error", err.Error())
	}
	return err
}

// back notes that the datastore is there, at the given place.
func (p *presence) back(where string) {
	p.state.Lock()
	was := p.away
	p.away = nil
	p.state.Unlock()
	if was != nil {
		p.log.Info("the datastore is back", "datastore", p.name, "path", where)
	}
}

func (p *presence) missing() error {
	p.state.Lock()
	defer p.state.Unlock()
	return p.away
}

// Away returns why the datastore was not there at the last look, nil if it was there.
func (l *Lookup) Away() error {
	if l.isZero() {
		return ErrReleased
	}
	return l.ds.missing()
}

// Look finds out whether the datastore is there, for [Lookup.Away], if what it lies on
// has changed since it was last read. Otherwise it reads nothing.
func (l *Lookup) Look(ctx context.Context) {
	if l.isZero() || l.ds.look() {
		return
	}
	_ = l.View(ctx, func(r *Reader) error { // the mode may forbid the look; then it is not known
		_, err := r.r.Root()
		return err
	})
}
