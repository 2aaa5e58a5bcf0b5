package watch

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
)

// scene is what a test lets the Source see.
type scene struct {
	now   atomic.Pointer[[]status.Store]
	looks atomic.Int64
	err   error
}

func (s *scene) look(context.Context) ([]status.Store, error) {
	s.looks.Add(1)
	return *s.now.Load(), s.err
}

func (s *scene) show(stores ...status.Store) { s.now.Store(&stores) }

func old(seconds float64) *float64 { return &seconds }

func TestChangesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offline := "offline"
		sc := &scene{}
		sc.show(status.Store{Datastore: "a"}, status.Store{Datastore: "b", Handles: []status.Handle{{Path: "/x", Age: old(1)}}})
		sub := NewSource(sc.look).Subscribe()
		defer sub.Close()
		steps := []struct {
			what    string
			show    []status.Store
			changed []string
			gone    []string
		}{
			{"at first everything", nil, []string{"a", "b"}, nil},
			{"nothing has changed", nil, nil, nil},
			{"a handle got older", []status.Store{{Datastore: "a"}, {Datastore: "b", Handles: []status.Handle{{Path: "/x", Age: old(2)}}}}, nil, nil},
			{"the handle was closed", []status.Store{{Datastore: "a"}, {Datastore: "b"}}, []string{"b"}, nil},
			{"a mode was set", []status.Store{{Datastore: "a", Mode: &offline}, {Datastore: "b"}}, []string{"a"}, nil},
			{"one is gone, one is new", []status.Store{{Datastore: "c"}, {Datastore: "b"}}, []string{"c"}, []string{"a"}},
		}
		for _, step := range steps {
			if step.show != nil {
				sc.show(step.show...)
			}
			v := <-sub.Views()
			if !slices.Equal(v.Changed, step.changed) || !slices.Equal(v.Gone, step.gone) {
				t.Errorf("%s: changed %v, gone %v; want %v and %v", step.what, v.Changed, v.Gone, step.changed, step.gone)
			}
			synctest.Wait()
		}
	})
}

func TestWhoComesLaterSeesEverythingAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &scene{err: errors.New("one of them hangs")}
		sc.show(status.Store{Datastore: "a"})
		s := NewSource(sc.look)
		first := s.Subscribe()
		defer first.Close()
		<-first.Views()
		<-first.Views()
		later := s.Subscribe()
		defer later.Close()
		before := time.Now()
		v := <-later.Views()
		if !slices.Equal(v.Changed, []string{"a"}) || !errors.Is(v.Err, sc.err) || time.Since(before) != 0 {
			t.Errorf("got %+v after %s", v, time.Since(before))
		}
	})
}

func TestNobodyWaitsForASlowOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &scene{}
		sc.show(status.Store{Datastore: "a"})
		s := NewSource(sc.look)
		slow, quick := s.Subscribe(), s.Subscribe()
		defer quick.Close()
		for range 2 * waiting {
			<-quick.Views()
		}
		n := 0
		for range slow.Views() {
			n++
		}
		if n != waiting || !slow.Dropped() || quick.Dropped() {
			t.Errorf("the slow one got %d views, dropped: %t; the quick one dropped: %t", n, slow.Dropped(), quick.Dropped())
		}
		slow.Close()
	})
}

func TestNobodyLooksWithoutSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &scene{}
		sc.show()
		s := NewSource(sc.look)
		for range 3 { // a bubble ends only when its goroutines have
			sub := s.Subscribe()
			<-sub.Views()
			sub.Close()
			sub.Close()
			if sub.Dropped() {
				t.Error("who has left was not dropped")
			}
		}
		looks := sc.looks.Load()
		time.Sleep(10 * Every)
		if got := sc.looks.Load(); got > looks+3 {
			t.Errorf("%d looks while nobody wanted to know", got-looks)
		}
	})
}
