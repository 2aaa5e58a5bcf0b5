package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.yaml.in/yaml/v3"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/web"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/store"
)

// tank is a mounted datastore of which everything is known.
var tank = Datastore{
	Name: "tank", There: true, Mode: cfg.ReadOnly, Holders: 3, Locked: 2,
	Operations: opsfile.Counts{Read: 4, Write: 1},
	Statistics: store.Statistics{
		Chunks: store.Hits{Hits: 10, Misses: 5}, Metadata: store.Hits{Hits: 7, Misses: 6}, MetadataFiles: store.Hits{Hits: 2, Misses: 4},
		Copies: store.Hits{Hits: 1, Misses: 8}, Verified: 4096, FailedLoads: 9, AheadUsed: 11, AheadWasted: 12,
		LoadTimes: store.Times{Bounds: []time.Duration{time.Millisecond, time.Second}, Counts: []uint64{2, 3, 1}, Sum: 5 * time.Second},
	},
	Mount: &Mount{Mountpoint: "/mnt/\xffpbs", Reads: 20, ReadBytes: 8192, Inodes: 30},
}

func newNumbers() *Numbers {
	n := New("1.2.3", func() []Datastore { return []Datastore{tank} })
	n.Requests(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	return n
}

func TestNamesFollowPrometheusConventions(t *testing.T) {
	problems, err := testutil.GatherAndLint(newNumbers().registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// get returns the numbers as Prometheus gets them.
func get(t *testing.T, n *Numbers) string {
	t.Helper()
	w := httptest.NewRecorder()
	n.handler().ServeHTTP(w, httptest.NewRequest("GET", Path, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("got status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestNumbersAreShown(t *testing.T) {
	got := get(t, newNumbers())
	for _, line := range []string{
		`pbsfs_datastore_up{datastore="tank"} 1`,
		`pbsfs_maintenance_mode{datastore="tank",mode="read-only"} 1`,
		`pbsfs_maintenance_mode{datastore="tank",mode="none"} 0`,
		`pbsfs_maintenance_mode{datastore="tank",mode="unknown"} 0`,
		`pbsfs_active_operations{datastore="tank",operation="read"} 4`,
		`pbsfs_active_operations{datastore="tank",operation="write"} 1`,
		`pbsfs_holders{datastore="tank"} 3`,
		`pbsfs_locked_snapshots{datastore="tank"} 2`,
		`pbsfs_cache_requests_total{cache="chunks",datastore="tank",result="hit"} 10`,
		`pbsfs_cache_requests_total{cache="chunks",datastore="tank",result="miss"} 5`,
		`pbsfs_cache_requests_total{cache="metadata_files",datastore="tank",result="hit"} 2`,
		`pbsfs_cache_requests_total{cache="copies",datastore="tank",result="miss"} 8`,
		`pbsfs_chunk_load_duration_seconds_bucket{datastore="tank",le="0.001"} 2`,
		`pbsfs_chunk_load_duration_seconds_bucket{datastore="tank",le="1"} 5`,
		`pbsfs_chunk_load_duration_seconds_bucket{datastore="tank",le="+Inf"} 6`,
		`pbsfs_chunk_load_duration_seconds_sum{datastore="tank"} 5`,
		`pbsfs_chunk_load_failures_total{datastore="tank"} 9`,
		`pbsfs_verified_bytes_total{datastore="tank"} 4096`,
		`pbsfs_readahead_chunks_total{datastore="tank",result="used"} 11`,
		`pbsfs_readahead_chunks_total{datastore="tank",result="wasted"} 12`,
		`pbsfs_reads_total{datastore="tank"} 20`,
		`pbsfs_read_bytes_total{datastore="tank"} 8192`,
		`pbsfs_inodes{datastore="tank"} 30`,
		"pbsfs_mount_info{datastore=\"tank\",mountpoint=\"/mnt/\uFFFDpbs\"} 1",
		`pbsfs_errors_total{datastore="tank",kind="damage"} 0`,
		`pbsfs_http_requests_total{code="404"} 1`,
		`pbsfs_build_info{version="1.2.3"} 1`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("there is no %s", line)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// A mode that the configuration of a newer server has is none that is known.
func TestModeOfTheFuture(t *testing.T) {
	d := tank
	d.Mode = "hibernating"
	got := get(t, New("1", func() []Datastore { return []Datastore{d} }))
	if !strings.Contains(got, `pbsfs_maintenance_mode{datastore="tank",mode="unknown"} 1`) {
		t.Error(got)
	}
}

// names returns the names of all numbers of ours.
func names(t *testing.T) map[string]bool {
	t.Helper()
	all, err := newNumbers().registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]bool)
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "pbsfs_") {
			out[f.GetName()] = true
		}
	}
	if len(out) < 10 {
		t.Fatalf("there are only %d numbers", len(out))
	}
	return out
}

var nameInText = regexp.MustCompile(`\bpbsfs_\w+`)

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAlertsAreAboutNumbersThatExist(t *testing.T) {
	known := names(t)
	text := read(t, "dist", "prometheus", "pbsfs.rules.yml")
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For string
				Labels           map[string]string
				Annotations      map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			alerts++
			if r.Alert == "" || r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("alert %q lacks a name, an expression, a severity or a summary", r.Alert)
			}
			for _, name := range nameInText.FindAllString(r.Expr, -1) {
				if !known[name] && !known[strings.TrimSuffix(name, "_bucket")] {
					t.Errorf("alert %s: there is no %s", r.Alert, name)
				}
			}
		}
	}
	if alerts == 0 {
		t.Error("there are no alerts")
	}
	for _, kind := range regexp.MustCompile(`kind="(\w+)"`).FindAllStringSubmatch(text, -1) {
		if !isKind(kind[1]) {
			t.Errorf("there is no kind %s", kind[1])
		}
	}
}

func isKind(kind string) bool {
	for _, line := range kinds {
		if line.kind == kind {
			return true
		}
	}
	return kind == otherKind
}

func TestNumbersAreDocumented(t *testing.T) {
	known, text := names(t), read(t, "docs", "metrics.md")
	told := make(map[string]bool)
	for _, name := range nameInText.FindAllString(text, -1) {
		told[name] = true
		if !known[name] {
			t.Errorf("%s is documented and does not exist", name)
		}
	}
	for name := range known {
		if !told[name] {
			t.Errorf("%s is not documented", name)
		}
	}
	for _, line := range kinds {
		if line.kind != "" && !strings.Contains(text, "| `"+line.kind+"` |") {
			t.Errorf("the kind %s is not documented", line.kind)
		}
	}
}

func TestErrorsAreCountedByKind(t *testing.T) {
	n := newNumbers()
	for _, err := range []error{
		&store.Error{Err: fmt.Errorf("x: %w", store.ErrCorrupt), Off: -1}, store.ErrCorrupt,
		&store.Error{Err: fs.ErrNotExist, Off: -1}, // a file of the datastore
		&store.KeyError{}, errors.New("anything"),
		fs.ErrNotExist, context.Canceled, nil,
	} {
		n.Errors.Count("tank", err)
	}
	n.Errors.Count("\xff", store.ErrGone)
	got := get(t, n)
	for line, want := range map[string]int{"damage": 2, "key": 1, "other": 2, "gone": 0} {
		if text := fmt.Sprintf("pbsfs_errors_total{datastore=\"tank\",kind=%q} %d\n", line, want); !strings.Contains(got, text) {
			t.Errorf("there is no %s in %s", text, got)
		}
	}
}

func TestAddresses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		Address
		usage bool
		says  string // "": it works
	}{
		"this host":              {Address: Address{At: "127.0.0.1:0"}},
		"this host, IPv6 form":   {Address: Address{At: "[::ffff:127.0.0.1]:0"}},
		"a socket":               {Address: Address{At: "unix:" + dir + "/socket"}},
		"all addresses":          {Address: Address{At: "0.0.0.0:0"}, usage: true, says: "--metrics-exposed"},
		"no host":                {Address: Address{At: ":0"}, usage: true, says: "--metrics-exposed"},
		"exposed":                {Address: Address{At: "0.0.0.0:0", Exposed: true}},
		"exposed, without which": {Address: Address{Exposed: true}, usage: true, says: "--metrics"},
		"no port":                {Address: Address{At: "127.0.0.1"}, usage: true, says: "HOST:PORT"},
		"a port that cannot be":  {Address: Address{At: "127.0.0.1:70000"}, usage: true, says: "HOST:PORT"},
		"a word":                 {Address: Address{At: "here"}, usage: true, says: `"here"`},
		"no path":                {Address: Address{At: "unix:"}, usage: true, says: "unix:"},
		"a file":                 {Address: Address{At: "unix:" + file}, usage: true, says: "no socket"},
		"in use":                 {Address: Address{At: taken.Addr().String()}, says: "is in use"},
		"no directory":           {Address: Address{At: "unix:" + dir + "/x/y"}, says: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := c.listen(t)
			if l != nil {
				defer l.Close()
			}
			var onCommandLine *usage.Error
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says == "":
			case err == nil:
				t.Error("it is listened to")
			case !strings.Contains(err.Error(), c.says), errors.As(err, &onCommandLine) != c.usage:
				t.Errorf("got %v, want %q; as a usage error: %t", err, c.says, c.usage)
			}
		})
	}
}

func (a Address) listen(t *testing.T) (*web.Listener, error) {
	t.Helper()
	if err := a.Complete(); err != nil {
		return nil, err
	}
	return a.Listen(t.Context())
}

func TestSocketIsOfItsOwnerAndGoesAway(t *testing.T) {
	t.Chdir(t.TempDir())
	a := Address{At: "unix:metrics.sock"}
	l, err := a.listen(t)
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	if info, err := os.Lstat(at); !filepath.IsAbs(at) || err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket %s is %v, %v", at, info, err)
	}
	s, err := newNumbers().Serve(l, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", at) }
	client := &http.Client{Transport: &http.Transport{DialContext: dial}}
	for path, want := range map[string]int{Path: http.StatusOK, "/": http.StatusNotFound} {
		r, err := client.Get("http://localhost" + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s: got status %d, want %d", path, r.StatusCode, want)
		}
	}
	client.CloseIdleConnections()
	s.Close()
	if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// What is wrapped around an answer is still all that an answer can be.
func TestCountedAnswersCanBeFlushedAndBounded(t *testing.T) {
	n := New("1", func() []Datastore { return nil })
	s := httptest.NewServer(n.Requests(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f, ok := w.(http.Flusher); !ok {
			t.Error("cannot be flushed")
		} else {
			f.Flush()
		}
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, "hello")
	})))
	r, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	s.Close() // and so the request has ended
	got := get(t, n)
	for _, line := range []string{`pbsfs_http_requests_total{code="200"} 1`, "pbsfs_http_response_bytes_total 5"} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("there is no %s in %s", line, got)
		}
	}
}
