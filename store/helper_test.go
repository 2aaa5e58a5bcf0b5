package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// testName is what the datastore of a test is called.
const testName = "tank"

// place is a datastore, and the host where its operations count.
type place struct {
	*storetest.Store
	t    testing.TB
	host hosts.Host
	ref  *store.Lookup
	log  *bytes.Buffer // to be read when nothing runs
}

// newPlace makes an empty datastore and opens it.
func newPlace(t testing.TB, open ...*storetest.Key) *place {
	t.Helper()
	return placeIn(t, storetest.New(t), open...)
}

// placeIn opens a datastore.
func placeIn(t testing.TB, s *storetest.Store, open ...*storetest.Key) *place {
	t.Helper()
	p := &place{Store: s, t: t, log: &bytes.Buffer{}}
	p.host = storetest.Host(t, "datastore: "+testName+"\n\tpath "+s.Dir+"\n")
	p.ref = p.open(open...)
	return p
}

// open opens the datastore once more, with what no other reference remembers.
func (p *place) open(open ...*storetest.Key) *store.Lookup {
	p.t.Helper()
	var ring []*keys.Key
	for _, k := range open {
		ring = append(ring, k.Key)
	}
	ref, err := store.Open(p.t.Context(), store.Options{
		Name: testName, Path: p.Dir, Host: p.host, Keys: ring, Log: slog.New(slog.NewTextHandler(p.log, nil)),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := ref.Close(); err != nil {
			p.t.Errorf("Close: %v", err)
		}
		if fds := p.descriptors(); len(fds) != 0 {
			p.t.Errorf("descriptors are left open: %v", fds)
		}
	})
	return ref
}

// reader acquires a reader until the test ends.
func (p *place) reader() *store.Reader {
	p.t.Helper()
	r, err := p.ref.Acquire(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(r.Release)
	return r
}

// descriptors returns what this process has open in the datastore.
func (p *place) descriptors() (open []string) {
	p.t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && (to == p.Dir || strings.HasPrefix(to, p.Dir+"/")) {
			open = append(open, to)
		}
	}
	return open
}

func (p *place) group(path string) name.Group {
	p.t.Helper()
	dir, id := filepath.Split(path)
	dir = strings.TrimSuffix(dir, "/")
	above, typ := filepath.Split(dir)
	ns, err := name.ParseNamespace(strings.TrimPrefix(strings.ReplaceAll("/"+strings.TrimSuffix(above, "/"), "/ns/", "/"), "/"))
	if err != nil {
		p.t.Fatal(err)
	}
	g, err := name.NewGroup(ns, name.Type(typ), id)
	if err != nil {
		p.t.Fatal(err)
	}
	if g.Dir() != path {
		p.t.Fatalf("group %s is at %s", path, g.Dir())
	}
	return g
}

func (p *place) snapshotName(dir string) name.Snapshot {
	p.t.Helper()
	at, err := name.ParseTime(filepath.Base(dir))
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := name.NewSnapshot(p.group(filepath.Dir(dir)), at)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *place) load(right store.CanRead, dir string) *store.Snapshot {
	p.t.Helper()
	s, err := store.LoadSnapshot(p.t.Context(), right, p.snapshotName(dir))
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *place) line(s *store.Snapshot, file string) manifest.File {
	p.t.Helper()
	f, err := name.ParseFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	line, ok := s.Manifest().Lookup(f)
	if !ok {
		p.t.Fatalf("the manifest does not list %s", file)
	}
	return line
}

func (p *place) stream(s *store.Snapshot, file string) *store.Stream {
	p.t.Helper()
	stream, err := s.Stream(p.line(s, file))
	if err != nil {
		p.t.Fatal(err)
	}
	return stream
}

// reading is what Stream and Extent have in common.
type reading interface {
	ReadAt(ctx context.Context, right store.CanRead, p []byte, off int64) (int, error)
}

// readAll reads n bytes and finds the end behind them.
func readAll(t testing.TB, right store.CanRead, f reading, n int) []byte {
	t.Helper()
	buf := make([]byte, n+1)
	got, err := f.ReadAt(t.Context(), right, buf, 0)
	if !errors.Is(err, io.EOF) {
		t.Fatalf("read of %d bytes, where %d are: %d, %v, want the end", n+1, n, got, err)
	}
	return buf[:got]
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// texts applies a String method.
func texts[T any](list []T, text func(T) string) []string {
	var out []string
	for _, v := range list {
		out = append(out, text(v))
	}
	return slices.Clip(out)
}

const (
	alpha   = "host/alpha"
	morning = "2023-11-14T08:00:00Z"
	noon    = "2023-11-14T12:00:00Z"
	evening = "2023-11-14T20:00:00Z"
)
