package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/access"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/watch"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/web"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// settle waits until there are at most that many goroutines.
func settle(t *testing.T, what string, most int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for runtime.NumGoroutine() > most {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%s: %d goroutines, want %d:\n%s", what, runtime.NumGoroutine(), most, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A thousand requests at once, two hundred streams of events and a client that reads
// slowly leave no goroutine behind, and the end of the server leaves none at all.
func TestNoGoroutineIsLeft(t *testing.T) {
	const requests, streams = 1000, 200
	atFirst := runtime.NumGoroutine()
	s := storetest.New(t)
	snap := s.Snapshot("vm/100", "2023-11-14T22:30:00Z")
	image := make([]byte, 16<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range image {
		image[i] = byte(random.Uint32())
	}
	snap.Fixed("drive-scsi0.img.fidx", 4<<20, image)
	snap.Finish()
	host := storetest.Host(t, "datastore: tank\n\tpath "+s.Dir+"\n")
	log := slog.New(slog.DiscardHandler)
	stores := NewStores(host, nil, func(ctx context.Context, l locate.Target) (*store.Lookup, error) {
		return store.Open(ctx, store.Options{Name: l.Name, Path: l.Path, Host: host, CacheSize: 32 << 20, Log: log})
	}, log)
	readings, err := served.LeaveReadings(host, log)
	if err != nil {
		t.Fatal(err)
	}
	gate := access.NewGate(nil)
	a := New(Options{Host: host, Gate: gate, Stores: stores, Changes: watch.NewSource(stores.Look), Readings: readings, Log: log, Downloads: 64})
	at, err := web.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := web.Serve([]*web.Listener{at}, web.Options{Handler: a.Handler(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: requests}}
	get := func(path string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at.Addr().String()+Base+path, nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "PBSAPIToken="+gate.Once())
		return client.Do(r)
	}
	const snapshot = "backup-type=vm&backup-id=100&backup-time=1700001000"
	const download = "admin/datastore/tank/download-decoded?" + snapshot + "&file-name=drive-scsi0.img.fidx"
	asks := []string{
		"version", "admin/datastore", "admin/datastore/tank/groups", "admin/datastore/tank/snapshots", "admin/datastore/tank/files?" + snapshot,
		"pbsfs/status", "admin/datastore/nope/status", "admin/datastore/tank/download-decoded?" + snapshot + "&file-name=index.json.blob",
	}
	ask := func(path string) error {
		got, err := get(path)
		if err != nil {
			return err
		}
		defer got.Body.Close()
		text, err := io.ReadAll(got.Body)
		if ok := got.StatusCode == http.StatusOK; ok == strings.Contains(path, "nope") {
			return fmt.Errorf("%s: got %s: %s", path, got.Status, text)
		}
		return err
	}
	for _, path := range asks {
		if err := ask(path); err != nil {
			t.Fatal(err)
		}
	}
	client.CloseIdleConnections()
	idle := runtime.NumGoroutine()

	var all sync.WaitGroup
	bodies := make([]io.ReadCloser, streams+1)
	for i := range bodies {
		all.Go(func() {
			path := "pbsfs/events"
			if i == streams {
				path = download
			}
			got, err := get(path)
			if err != nil {
				t.Error(err)
				return
			}
			bodies[i] = got.Body
			if _, err := got.Body.Read(make([]byte, 1)); err != nil || got.StatusCode != http.StatusOK {
				t.Errorf("%s: got %s, %v", path, got.Status, err)
			}
		})
	}
	all.Wait()
	for i := range requests {
		all.Go(func() {
			if err := ask(asks[i%len(asks)]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(readings.Open()); n != 1 {
		t.Errorf("%d readings, want that of the slow client", n)
	}
	for _, b := range bodies {
		if b != nil {
			_ = b.Close()
		}
	}
	client.CloseIdleConnections()
	settle(t, "when all clients have gone", idle)
	if n := len(readings.Open()); n != 0 || len(a.downloads) != 0 {
		t.Errorf("%d readings and %d downloads are left", n, len(a.downloads))
	}
	a.End()
	if err := server.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	readings.Close()
	if err := stores.Close(); err != nil {
		t.Error(err)
	}
	settle(t, "after the end of the server", atFirst)
}
