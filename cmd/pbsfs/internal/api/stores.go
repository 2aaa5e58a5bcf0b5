package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Opener opens a datastore for reading.
type Opener func(context.Context, locate.Target) (*store.Lookup, error)

// Stores are the datastores that can be asked about: those of the configuration, as it is
// at the time of each request, and those that were named when the server was started. It
// is safe for concurrent use. Its owner must Close it.
type Stores struct {
	host  hosts.Host
	named []string
	open  Opener
	log   *slog.Logger

	mu     sync.Mutex // guards what follows; nothing is opened under it
	opened map[string]*opened
}

// NewStores returns the datastores of a host, and those that named lists. It opens none.
func NewStores(host hosts.Host, named []string, open Opener, log *slog.Logger) *Stores {
	return &Stores{host: host, named: named, open: open, log: log, opened: make(map[string]*opened)}
}

// opened is an open datastore. Between requests it holds nothing of the datastore.
type opened struct {
	locate.Target
	ref  *store.Lookup
	tree *tree.Tree
	// users counts the requests that use it; old says that the configuration has another
	// datastore of that name by now. Stores.mu guards both.
	users int
	old   bool
}

// Targets returns all datastores.
func (s *Stores) Targets() ([]locate.Target, error) {
	configured, err := locate.Configured(s.host)
	if err != nil {
		return nil, err
	}
	var out []locate.Target
	known := make(map[string]bool)
	add := func(t locate.Target) {
		if !known[t.Name] {
			known[t.Name] = true
			out = append(out, t)
		}
	}
	for _, d := range configured {
		add(locate.TargetOf(s.host, configured, d))
	}
	for _, arg := range s.named {
		t, err := locate.Resolve(s.host, arg)
		if err != nil {
			s.log.Warn("a datastore that was named is not there", "datastore", arg, "error", err)
			continue
		}
		add(t)
	}
	return out, nil
}

// target returns the datastore with a name.
func (s *Stores) target(name storeName) (locate.Target, error) {
	configured, err := maint.Datastores(s.host)
	if err != nil {
		return locate.Target{}, err
	}
	for _, d := range configured {
		if d.Name == string(name) {
			return locate.Resolve(s.host, d.Name)
		}
	}
	for _, arg := range s.named {
		if t, err := locate.Resolve(s.host, arg); err == nil && t.Name == string(name) {
			return t, nil
		}
	}
	return locate.Target{}, fmt.Errorf("%w '%s'", errNoStore, name)
}

// use calls fn with an open datastore.
func (s *Stores) use(ctx context.Context, name storeName, fn func(*opened) error) error {
	t, err := s.target(name)
	if err != nil {
		return err
	}
	d, err := s.acquire(ctx, t)
	if err != nil {
		return err
	}
	defer s.release(d)
	return fn(d)
}

// same reports whether the datastore is still the one that the target names.
func (d *opened) same(t locate.Target) bool {
	return d.Path == t.Path && d.UUID() == t.UUID() && d.S3 == t.S3
}

// find returns the open datastore for a target, nil if there is none.
func (s *Stores) find(t locate.Target) *opened {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.opened[t.Name]
	if d == nil || !d.same(t) {
		return nil
	}
	d.users++
	return d
}

func (s *Stores) acquire(ctx context.Context, t locate.Target) (*opened, error) {
	if d := s.find(t); d != nil {
		return d, nil
	}
	ref, err := s.open(ctx, t)
	if err != nil {
		return nil, err
	}
	d := &opened{Target: t, ref: ref, tree: tree.New(ref), users: 1}
	s.mu.Lock()
	before := s.opened[t.Name]
	if before != nil && before.same(t) { // another request was quicker
		before.users++
		s.mu.Unlock()
		s.close(d)
		return before, nil
	}
	s.opened[t.Name] = d
	unused := before != nil && before.users == 0
	if before != nil {
		before.old = true
	}
	s.mu.Unlock()
	if unused {
		s.close(before)
	}
	return d, nil
}

func (s *Stores) release(d *opened) {
	s.mu.Lock()
	d.users--
	unused := d.old && d.users == 0
	s.mu.Unlock()
	if unused {
		s.close(d)
	}
}

func (s *Stores) close(d *opened) {
	if err := d.ref.Close(); err != nil {
		s.log.Warn("closing a datastore", "datastore", d.Name, "error", err)
	}
}

// Opened calls fn with each datastore that was read since the process began, as it is
// configured now. fn must not wait.
func (s *Stores) Opened(fn func(name string, ref *store.Lookup)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, d := range s.opened {
		fn(name, d.ref)
	}
}

// Close closes all datastores. No request may be under way.
func (s *Stores) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, d := range s.opened {
		err = errors.Join(err, d.ref.Close())
	}
	clear(s.opened)
	return err
}

// view calls fn with the right to read a datastore, for the time of the call.
func (c *call) view(name storeName, fn func(ctx context.Context, d *opened, r *store.Reader) error) error {
	ctx := c.r.Context()
	return c.noting(name, c.Stores.use(ctx, name, func(d *opened) error {
		return d.ref.View(ctx, func(r *store.Reader) error { return fn(ctx, d, r) })
	}))
}

// noting adds an error about damage to the problems of the datastore, and returns it.
func (c *call) noting(datastore storeName, err error) error {
	if !errors.Is(err, errNoStore) {
		c.Failed(string(datastore), err)
	}
	var own *store.Error
	switch {
	case errors.As(err, &own) && errors.Is(err, store.ErrCorrupt):
		c.Readings.Report(string(datastore), own.Cause(), own.Error())
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, maint.ErrUncounted):
		c.Readings.Report(string(datastore), err.Error(), err.Error())
	}
	return err
}
