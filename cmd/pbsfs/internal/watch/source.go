package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
)

// View is what was seen at one look.
type View struct {
	// All are the datastores, in the order in which status shows them.
	All []status.Store
	// Changed are the names of those that are not as they were in the view before; in the
	// first view of a subscription, all names.
	Changed []string
	// Gone are the names of those that are no longer there.
	Gone []string
	// Err says why not everything could be looked at. What could be is in All.
	Err error

	marks map[string][]byte // of each datastore, what a change shows in
}

// Look finds out what happens on all datastores.
type Look func(context.Context) ([]status.Store, error)

// Every is how often a Source looks.
const Every = time.Second

// waiting is how many views a subscriber may be behind.
const waiting = 8

// Source looks at datastores for its subscribers. It is safe for concurrent use.
type Source struct {
	look Look

	mu   sync.Mutex // guards what follows
	subs map[*Subscription]struct{}
	last *View
	stop context.CancelFunc // of the goroutine that looks, nil while there is none
}

// NewSource returns a Source without subscribers, which does nothing.
func NewSource(look Look) *Source {
	return &Source{look: look, subs: make(map[*Subscription]struct{})}
}

// Subscription is one subscriber's share. Its owner must Close it.
type Subscription struct {
	source *Source
	views  chan *View
	// dropped and first are guarded by Source.mu.
	dropped, first bool
}

// Subscribe begins to look, if nobody did before. The first view comes at once.
func (s *Source) Subscribe() *Subscription {
	sub := &Subscription{source: s, views: make(chan *View, waiting), first: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[sub] = struct{}{}
	if s.last != nil {
		sub.take(s.last)
	}
	if s.stop == nil {
		var ctx context.Context
		ctx, s.stop = context.WithCancel(context.Background())
		go s.run(ctx)
	}
	return sub
}

// Views returns the channel of the views. It is closed when the subscription ends. A
// View must not be changed: others have it too.
func (sub *Subscription) Views() <-chan *View { return sub.views }

// Dropped reports whether the subscription ended because its views were not taken.
func (sub *Subscription) Dropped() bool {
	sub.source.mu.Lock()
	defer sub.source.mu.Unlock()
	return sub.dropped
}

// Close ends the subscription. It may be called more than once.
func (sub *Subscription) Close() {
	s := sub.source
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(sub)
}

// end takes out a subscription. The caller holds mu.
func (s *Source) end(sub *Subscription) {
	if _, there := s.subs[sub]; !there {
		return
	}
	delete(s.subs, sub)
	close(sub.views)
	if len(s.subs) == 0 {
		s.stop()
		s.stop, s.last = nil, nil // by the time of the next subscription it is old
	}
}

// take hands a view to the subscriber, or reports that it is too far behind. The caller
// holds Source.mu.
func (sub *Subscription) take(v *View) bool {
	if sub.first {
		sub.first = false
		whole := *v
		whole.Gone, whole.Changed = nil, nil
		for _, d := range v.All {
			whole.Changed = append(whole.Changed, d.Datastore)
		}
		v = &whole
	}
	select {
	case sub.views <- v:
		return true
	default:
		return false
	}
}

func (s *Source) run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		all, err := s.look(ctx)
		if !s.publish(ctx, all, err) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// publish hands on what was seen. It reports whether anybody still wants to know.
func (s *Source) publish(ctx context.Context, all []status.Store, err error) bool {
	s.mu.Lock()
	before := s.last
	s.mu.Unlock()
	v := compare(before, all, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil { // the last subscriber left, and perhaps another one came: that one has its own goroutine
		return false
	}
	s.last = v
	for sub := range s.subs {
		if !sub.take(v) {
			sub.dropped = true
			s.end(sub)
		}
	}
	return ctx.Err() == nil
}

// compare makes a view, with what is different from the one before.
func compare(before *View, all []status.Store, err error) *View {
	v := &View{All: all, Err: err, marks: make(map[string][]byte, len(all))}
	for _, d := range all {
		m := mark(d)
		v.marks[d.Datastore] = m
		if before == nil || !bytes.Equal(before.marks[d.Datastore], m) {
			v.Changed = append(v.Changed, d.Datastore)
		}
	}
	if before != nil {
		for name := range before.marks {
			if _, there := v.marks[name]; !there {
				v.Gone = append(v.Gone, name)
			}
		}
		slices.Sort(v.Gone)
	}
	return v
}

// mark returns what a change of a datastore shows in. That time passes is no change.
func mark(d status.Store) []byte {
	d.Handles = slices.Clone(d.Handles)
	for i := range d.Handles {
		d.Handles[i].Age = nil
	}
	text, err := json.Marshal(d)
	if err != nil { // nothing in it can fail
		return nil
	}
	return text
}
