package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/access"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/watch"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// panics counts what is logged as a fault of ours.
type panics struct {
	slog.Handler
	n *atomic.Int64
}

func (p panics) Enabled(context.Context, slog.Level) bool { return true }

func (p panics) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		p.n.Add(1)
	}
	return nil
}

// fuzzed is an API with a small datastore that is not damaged.
type fuzzed struct {
	handler http.Handler
	gate    *access.Gate
	config  string // datastore.cfg
	text    []byte // of it
	faults  atomic.Int64
	asked   int
}

func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	s := storetest.New(f)
	sn := s.Snapshot("host/a", "2023-11-14T22:30:00Z")
	sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("f", "content"), storetest.Dir("d", storetest.Symlink("l", "../f"), storetest.File("\xff", "x"))))
	sn.Fixed("drive.img.fidx", 4096, make([]byte, 10_000))
	sn.Blob("some.conf.blob", []byte("conf"))
	sn.Finish()
	text := "datastore: tank\n\tpath " + s.Dir + "\n"
	host := storetest.Host(f, text)
	z := &fuzzed{text: []byte(text), config: filepath.Join(host.ConfigDir(), "datastore.cfg"), gate: access.NewGate(nil)}
	log := slog.New(panics{n: &z.faults})
	stores := NewStores(host, nil, func(ctx context.Context, l locate.Target) (*store.Lookup, error) {
		return store.Open(ctx, store.Options{Name: l.Name, Path: l.Path, Host: host, CacheSize: 32 << 20, Log: slog.New(slog.DiscardHandler)})
	}, log)
	readings, err := served.LeaveReadings(host, log)
	if err != nil {
		f.Fatal(err)
	}
	a := New(Options{Host: host, Gate: z.gate, Stores: stores, Changes: watch.NewSource(stores.Look), Readings: readings, Log: log, Downloads: 4})
	f.Cleanup(func() {
		a.End()
		readings.Close()
		_ = stores.Close()
	})
	z.handler = a.Handler()
	return z
}

// hasty is a client that leaves when it was told the first event.
type hasty struct {
	*httptest.ResponseRecorder
	leave func()
}

func (h hasty) Write(p []byte) (int, error) {
	if h.Header().Get("Content-Type") == "text/event-stream" {
		h.leave()
	}
	return h.ResponseRecorder.Write(p)
}

// ask sends a request as an admin, and returns the answer; cut says that it was cut off.
func (z *fuzzed) ask(t *testing.T, method, target, media, body string) (answer *httptest.ResponseRecorder, cut bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://x/", strings.NewReader(body))
	if err != nil {
		t.Skip()
	}
	if r.URL, err = url.ParseRequestURI(target); err != nil || r.URL.Path == "" {
		t.Skip()
	}
	z.asked++
	r.RequestURI, r.Host = target, "x"
	r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", z.asked>>16&255, z.asked>>8&255, z.asked&255)
	r.Header.Set("Authorization", "PBSAPIToken="+z.gate.Once())
	r.Header.Set("Content-Type", media)
	answer = httptest.NewRecorder()
	func() {
		defer func() {
			p := recover()
			cut = p == any(http.ErrAbortHandler)
			if p != nil && !cut {
				panic(p)
			}
		}()
		z.handler.ServeHTTP(hasty{answer, cancel}, r)
	}()
	return answer, cut
}

// FuzzRequests sends whole requests, by an admin, for a datastore that is not damaged: each one
// is answered or refused, nothing is a fault of ours, and no answer is cut off.
func FuzzRequests(f *testing.F) {
	const snapshot = "backup-type=host&backup-id=a&backup-time=1700001000"
	const tank = "/api2/json/admin/datastore/tank/"
	for _, get := range []string{
		"/api2/json/version", "/api2/json/admin/datastore", tank + "status", tank + "namespace?max-depth=3&parent=a/b", tank + "groups?ns=", tank + "active-operations",
		tank + "snapshots?backup-type=host&backup-id=a", tank + "files?" + snapshot, tank + "catalog?" + snapshot + "&filepath=cm9vdC5weGFyLmRpZHg=",
		tank + "pxar-file-download?" + snapshot + "&filepath=cm9vdC5weGFyLmRpZHgvZg==", tank + "pxar-file-download?" + snapshot + "&filepath=cm9vdC5weGFyLmRpZHg=&tar=1",
		tank + "download-decoded?" + snapshot + "&file-name=drive.img.fidx", "/api2/json/config/datastore", "/api2/json/config/datastore/tank", "/pbsfs/maintenance/tank",
		"/pbsfs/status?store=tank", "/api2/json/pbsfs/events", "/api2/json/pbsfs/session", "/", "/pbsfs//../..", "/api2/json/admin/datastore/%2e%2e%2fetc/status",
	} {
		f.Add("GET", get, "", "")
	}
	f.Add("PUT", "/api2/json/config/datastore/tank", "application/x-www-form-urlencoded", "maintenance-mode=type%3Dread-only")
	f.Add("PUT", "/api2/json/config/datastore/tank", "application/json", `{"delete":["maintenance-mode"],"digest":"00"}`)
	f.Add("POST", "/pbsfs/maintenance/tank/set", "application/json", `{"type":"offline","message":"a\u001b b"}`)
	f.Add("POST", "/api2/json/pbsfs/maintenance/tank/clear", "", "")
	f.Add("POST", tank+"unmount", "application/json", `{}`)
	f.Add("POST", "/api2/json/pbsfs/session", "application/json", `{"token":"root@pam!x:00000000-0000-0000-0000-000000000000"}`)
	f.Add("DELETE", "/api2/json/pbsfs/session", "", "")
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, method, target, media, body string) {
		if strings.Contains(body+target, "wait") {
			t.Skip() // whoever wants to be waited for is
		}
		got, cut := z.ask(t, method, target, media, body)
		z.check(t, got, cut)
		if now, err := os.ReadFile(z.config); err != nil || !bytes.Equal(now, z.text) {
			if c, cut := z.ask(t, "POST", "/pbsfs/maintenance/tank/clear", "", ""); cut || c.Code != http.StatusOK {
				t.Errorf("the mode cannot be cleared: %d, %s", c.Code, c.Body)
			}
		}
	})
}

// check looks whether an answer is one.
func (z *fuzzed) check(t *testing.T, got *httptest.ResponseRecorder, cut bool) {
	t.Helper()
	if cut || got.Code >= 500 && got.Code != http.StatusServiceUnavailable || z.faults.Swap(0) > 0 {
		t.Errorf("answer %d, cut off: %v: %s", got.Code, cut, got.Body)
	}
	if strings.HasPrefix(got.Header().Get("Content-Type"), "application/json") && !json.Valid(got.Body.Bytes()) {
		t.Errorf("it is no JSON: %q", got.Body)
	}
}
