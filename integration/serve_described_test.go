package integration

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/jsonschema-go/jsonschema"
)

// description is what the server says of its own operations.
type description struct {
	text  []byte
	paths map[string]map[string]*described // by path and method

	mu sync.Mutex // for the requests at once; guards schemas and done
}

// described is an operation.
type described struct {
	ID        string `json:"operationId"`
	Responses map[string]struct {
		Content map[string]struct {
			Schema *jsonschema.Schema `json:"schema"`
		} `json:"content"`
	} `json:"responses"`

	schemas map[string]*jsonschema.Resolved // of JSON, by status
	done    bool                            // it was asked, and has answered as it should
}

func readDescription(t *testing.T, s *apiServer) *description {
	t.Helper()
	got, err := s.client.Get(s.url + "/api2/openapi.json")
	must(t, err)
	defer got.Body.Close()
	var doc struct {
		Paths map[string]map[string]*described `json:"paths"`
	}
	var raw json.RawMessage
	must(t, json.NewDecoder(got.Body).Decode(&raw))
	must(t, json.Unmarshal(raw, &doc))
	if len(doc.Paths) == 0 {
		t.Fatalf("the description has no paths: %.500s", raw)
	}
	return &description{text: raw, paths: doc.Paths}
}

// find returns the operation that a request is for, nil if there is none.
func (d *description) find(method, path string) *described {
	if d == nil {
		return nil
	}
	if strings.HasPrefix(path, "/pbsfs/") {
		path = strings.TrimSuffix(apiBase, "/") + path
	}
	parts := strings.Split(path, "/")
	var found *described
	for template, methods := range d.paths {
		want := strings.Split(template, "/")
		if len(want) != len(parts) {
			continue
		}
		fits := true
		for i := range want {
			fits = fits && (want[i] == parts[i] || strings.HasPrefix(want[i], "{"))
		}
		if op := methods[strings.ToLower(method)]; fits && op != nil {
			found = op
		}
	}
	return found
}

// check fails the test unless the answer is as the description says.
func (d *description) check(a *answer, method, path string) {
	a.t.Helper()
	op := d.find(method, path)
	media, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	switch {
	case len(a.body) == 0 && a.status >= http.StatusBadRequest:
		a.t.Errorf("%s: status %d without a word", a.what, a.status)
	case op == nil, a.status/100 == 3, a.status == http.StatusRequestedRangeNotSatisfiable:
	case err != nil:
		a.t.Errorf("%s: Content-Type %q: %v", a.what, a.header.Get("Content-Type"), err)
	default:
		d.checkOperation(op, a, media)
	}
}

func (d *description) checkOperation(op *described, a *answer, media string) {
	a.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	status := map[int]string{http.StatusOK: "200", http.StatusPartialContent: "200", http.StatusConflict: "409"}[a.status]
	content := op.Responses[status].Content
	if content == nil {
		content = op.Responses["default"].Content
	}
	if _, ok := content[media]; !ok {
		a.t.Errorf("%s: an answer of type %s with status %d is not described", a.what, media, a.status)
		return
	}
	op.done = op.done || a.status == http.StatusOK
	if media != "application/json" {
		return
	}
	if op.schemas == nil {
		op.schemas = make(map[string]*jsonschema.Resolved)
	}
	if op.schemas[status] == nil {
		r, err := content[media].Schema.Resolve(nil)
		must(a.t, err)
		op.schemas[status] = r
	}
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		a.t.Errorf("%s: %v: %.200q", a.what, err, a.body)
		return
	}
	if err := op.schemas[status].Validate(v); err != nil {
		a.t.Errorf("%s: not as described: %v: %.500s", a.what, err, a.body)
	}
}

// The description is one of OpenAPI, in the eyes of a program that nobody here wrote.
func TestServeDescriptionIsOpenAPI(t *testing.T) {
	s := newHost(t).serve("--no-tls")
	doc, err := openapi3.NewLoader().LoadFromData(s.about.text)
	must(t, err)
	if err := doc.Validate(t.Context()); err != nil {
		t.Errorf("the description: %v", err)
	}
	if doc.OpenAPI != "3.1.0" || doc.Paths.Len() != len(s.about.paths) {
		t.Errorf("got version %s and %d paths, want 3.1.0 and %d", doc.OpenAPI, doc.Paths.Len(), len(s.about.paths))
	}
	// Names of operations become names of functions.
	seen := make(map[string]bool)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.OperationID == "" || seen[op.OperationID] || op.Summary == "" {
				t.Errorf("%s %s: no summary, or its id %q is not its own", method, path, op.OperationID)
			}
			seen[op.OperationID] = true
		}
	}
}

// Whatever is described can be asked for, and answers as described.
func TestServeDoesAllThatIsDescribed(t *testing.T) {
	r, h := newRemovable(t, "ext4"), newHost(t)
	h.run("datastore", "add", tank, fixture(t, "ds-basic")).want(t, 0)
	r.configure(h)
	r.plug()
	h.mountBy(r.name)
	s := h.serveTokens()
	read, admin := s.as("read"), s.as("admin")
	at := "admin/datastore/" + tank + "/"
	snap := snapshotParams(t, alpha)

	for _, path := range []string{
		"version", "admin/datastore", at + "status", at + "namespace", at + "active-operations", at + "groups", at + "snapshots",
		"config/datastore", "config/datastore/" + tank, "pbsfs/status", "pbsfs/maintenance/" + tank,
	} {
		read.get(path, nil).want(http.StatusOK)
	}
	read.get(at+"files", snap).want(http.StatusOK)
	read.get(at+"catalog", snap.and(params{"filepath": filepathOf("")})).want(http.StatusOK)
	read.get(at+"pxar-file-download", snap.and(params{"filepath": filepathOf("etc.pxar.didx")})).want(http.StatusOK)
	read.get(at+"download-decoded", snap.and(params{"file-name": "client.log.blob"})).want(http.StatusOK)
	admin.change("PUT", "config/datastore/"+tank, data{"maintenance-mode": "read-only"}).want(http.StatusOK)
	admin.change("POST", "pbsfs/maintenance/"+tank+"/clear", nil).want(http.StatusOK)
	admin.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "read-only"}).want(http.StatusOK)
	admin.change("POST", "admin/datastore/"+r.name+"/unmount", nil).want(http.StatusOK)

	page := s.login("admin")
	page.get("pbsfs/session", nil).want(http.StatusOK)
	page.change("DELETE", "pbsfs/session", nil).want(http.StatusOK)

	events := s.events("audit")
	events.next("hello")
	s.about.find("GET", apiBase+"pbsfs/events").done = true
	s.with().change("POST", "access/ticket", data{"username": "root@pam", "password": "x"}).refused(http.StatusBadRequest, "token")
	s.about.find("POST", apiBase+"access/ticket").done = true // which is all that it answers

	for path, methods := range s.about.paths {
		for method, op := range methods {
			if !op.done {
				t.Errorf("%s %s is described, and nobody has asked for it", strings.ToUpper(method), path)
			}
		}
	}
}
