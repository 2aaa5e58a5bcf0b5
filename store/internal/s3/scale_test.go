package s3

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store/bucket"
)

// huge is a server with a datastore that is computed: groups vm/0 to vm/9999 with a hundred
// snapshots each, and a billion chunks that nobody lists.
type huge struct {
	requests atomic.Int64
	wrong    atomic.Int64 // requests that no reader should make
}

const (
	hugeGroups    = 10_000
	hugeSnapshots = 100
	pageSize      = 1000
)

var hugeFiles = []string{"client.log.blob", "drive-scsi0.img.fidx", "fw.conf.blob", "index.json.blob", "qemu-server.conf.blob"}

// keys returns the names below a prefix, in the order of a server: whole keys, or up to the
// next slash.
func (h *huge) keys(prefix string, deep bool) []string {
	switch parts := strings.Split(strings.TrimPrefix(prefix, "tank/.cnt/"), "/"); {
	case prefix == "tank/":
		return []string{"tank/.cnt/"}
	case prefix == "tank/.cnt/" && !deep:
		return []string{prefix + "vm/"}
	case prefix == "tank/.cnt/vm/" && !deep:
		out := make([]string, hugeGroups)
		for i := range out {
			out[i] = fmt.Sprintf("%s%d/", prefix, i)
		}
		sort.Strings(out)
		return out
	case len(parts) == 3 && parts[2] == "" && deep:
		return groupKeys(prefix)
	}
	h.wrong.Add(1)
	return nil
}

// groupKeys returns all keys of a group.
func groupKeys(prefix string) []string {
	out := make([]string, 0, 1+hugeSnapshots*len(hugeFiles))
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for range hugeSnapshots {
		for _, f := range hugeFiles {
			out = append(out, prefix+at.Format(time.RFC3339)+"/"+f)
		}
		at = at.AddDate(0, 0, 1)
	}
	return append(out, prefix+"owner")
}

// page is an answer to ListObjectsV2.
type page struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name, Prefix          string
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []pageObject
	CommonPrefixes        []pagePrefix
}

type pageObject struct {
	Key, LastModified, ETag string
	Size                    int64
}

type pagePrefix struct{ Prefix string }

func (h *huge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.requests.Add(1)
	q := r.URL.Query()
	prefix, err := url.QueryUnescape(q.Get("prefix"))
	if err != nil || q.Get("list-type") != "2" || r.Method != http.MethodGet {
		h.wrong.Add(1)
		w.WriteHeader(http.StatusForbidden)
		return
	}
	all := h.keys(prefix, q.Get("delimiter") == "")
	from, _ := strconv.Atoi(q.Get("continuation-token"))
	to := min(from+pageSize, len(all))
	p := page{Name: "huge", Prefix: prefix}
	if to < len(all) {
		p.IsTruncated, p.NextContinuationToken = true, strconv.Itoa(to)
	}
	for _, k := range all[from:to] {
		if strings.HasSuffix(k, "/") {
			p.CommonPrefixes = append(p.CommonPrefixes, pagePrefix{k})
			continue
		}
		p.Contents = append(p.Contents, pageObject{k, "2025-11-01T12:00:00.000Z", `"` + strings.Repeat("a", 32) + `"`, 100})
	}
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(p)
}

func hugeBucket(t *testing.T, s *httptest.Server) *Bucket {
	t.Helper()
	at, err := bucket.Location{Bucket: "huge", Store: "tank"}.At(s.URL, "", true, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Options{At: at, Credentials: bucket.Credentials{AccessKey: "a", SecretKey: "b"}, Parallel: 4, Refresh: time.Hour, Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// A million snapshots cost what is looked at: a page of a thousand groups, a page for each
// group; and never a listing of chunks.
func TestMillionSnapshots(t *testing.T) {
	h := new(huge)
	s := httptest.NewServer(h)
	defer s.Close()
	b := hugeBucket(t, s)
	spent := func(what string, most int64) {
		t.Helper()
		n := h.requests.Swap(0)
		t.Logf("%s: %d requests", what, n)
		if n > most {
			t.Errorf("%s: %d requests, want at most %d", what, n, most)
		}
	}
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	spent("is it there", 1)
	if groups, err := b.List(t.Context(), "vm"); err != nil || len(groups) != hugeGroups {
		t.Fatalf("%d groups, %v", len(groups), err)
	}
	spent("listing 10,000 groups", hugeGroups/pageSize)
	for range 1000 {
		if _, err := b.Stat(t.Context(), "vm/77/2025-02-01T00:00:00Z/index.json.blob"); err != nil {
			t.Fatal(err)
		}
	}
	spent("a thousand names in a group", 1)
	for i := range 1000 {
		if _, err := b.Stat(t.Context(), fmt.Sprintf("vm/%d", i*7)); err != nil {
			t.Fatal(err)
		}
	}
	spent("a thousand groups", 0) // the listing of all groups answers
	if n := h.wrong.Load(); n > 0 {
		t.Errorf("%d requests that no reader should make", n)
	}
}

// Many machines on one bucket ask for what they look at, and none for more.
func TestManyMachinesOnOneBucket(t *testing.T) {
	h := new(huge)
	s := httptest.NewServer(h)
	defer s.Close()
	const machines = 200
	var all sync.WaitGroup
	limit := make(chan struct{}, 32)
	for i := range machines {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			b := hugeBucket(t, s)
			for range 3 { // within --refresh
				if _, err := b.List(t.Context(), fmt.Sprintf("vm/%d", i)); err != nil {
					t.Error(err)
				}
			}
			b.Idle()
		})
	}
	all.Wait()
	if n := h.requests.Load(); n != machines {
		t.Errorf("%d requests of %d machines", n, machines)
	}
}
