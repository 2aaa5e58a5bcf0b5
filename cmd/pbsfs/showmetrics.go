package main

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/metrics"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/store"
)

// registerMetrics adds the flags of the commands that show numbers to Prometheus.
func registerMetrics(f *pflag.FlagSet, at *metrics.Address) {
	f.StringVar(&at.At, "metrics", "", "show numbers to Prometheus at HOST:PORT or unix:PATH, below /metrics")
	f.BoolVar(&at.Exposed, "metrics-exposed", false, "let --metrics be an address that other hosts reach; there is no login")
}

// numbersOf returns the numbers of a datastore that every process has.
func numbersOf(name string, ref *store.Lookup) metrics.Datastore {
	return metrics.Datastore{
		Name: name, Statistics: ref.Statistics(), Operations: ref.Operations(), Mode: ref.Mode().Type,
		There: ref.Away() == nil, Locked: len(ref.Locked()),
	}
}

// shownMount shows the numbers of a mount.
type shownMount struct {
	server *metrics.Server
	failed func(error)
	mount  atomic.Pointer[fs.Mount] // nil until the tree is mounted
}

// listenMetrics begins to answer, before anything is mounted: an address that cannot be
// listened to must leave nothing half done.
func (o *mountOptions) listenMetrics(ctx context.Context, ref *store.Lookup, log *slog.Logger) (*shownMount, error) {
	s := &shownMount{}
	l, err := o.metrics.Listen(ctx)
	if l == nil || err != nil {
		return s, err
	}
	n := metrics.New(version(), func() []metrics.Datastore { return []metrics.Datastore{s.look(ref, o.mountpoint)} })
	s.failed = func(err error) { n.Errors.Count(ref.Name(), err) }
	s.server, err = n.Serve(l, log)
	return s, err
}

// look returns the numbers of now.
func (s *shownMount) look(ref *store.Lookup, mountpoint string) metrics.Datastore {
	d := numbersOf(ref.Name(), ref)
	if m := s.mount.Load(); m != nil {
		is := m.Statistics()
		d.Holders = is.Handles
		d.Mount = &metrics.Mount{Mountpoint: mountpoint, Reads: is.Reads, ReadBytes: is.ReadBytes, Inodes: is.Inodes}
	}
	return d
}

func (s *shownMount) mounted(m *fs.Mount) { s.mount.Store(m) }

// Close stops answering.
func (s *shownMount) Close() { s.server.Close() }

// showMetrics begins to show the numbers of all datastores that were read, nil if that is
// not wanted. The caller must Close the server.
func (v *serving) showMetrics(ctx context.Context) (*metrics.Server, error) {
	l, err := v.o.metrics.Listen(ctx)
	if l == nil || err != nil {
		return nil, err
	}
	v.numbers = metrics.New(version(), v.look)
	return v.numbers.Serve(l, v.log)
}

// failed returns what is to be called with the errors of requests, nil for nothing.
func (v *serving) failed() func(datastore string, err error) {
	if v.numbers == nil {
		return nil
	}
	return v.numbers.Errors.Count
}

// look returns the numbers of now.
func (v *serving) look() []metrics.Datastore {
	holders := make(map[string]int)
	for _, r := range v.readings.Open() {
		holders[r.Datastore]++
	}
	var out []metrics.Datastore
	v.stores.Opened(func(name string, ref *store.Lookup) {
		d := numbersOf(name, ref)
		d.Holders = holders[name]
		out = append(out, d)
	})
	return out
}
