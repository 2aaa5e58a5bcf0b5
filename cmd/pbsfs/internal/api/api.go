package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/access"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/watch"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
)

// Base is the path below which the operations lie.
const Base = "/api2/json/"

// Options are what an API needs.
type Options struct {
	Host hosts.Host
	Gate *access.Gate
	// Stores are the datastores that can be asked about.
	Stores *Stores
	// Changes are what the streams of events tell.
	Changes *watch.Source
	// Readings get what this process has open.
	Readings *served.Readings
	// Failed is called with each error about a datastore, which may be nil, names that do
	// not exist included; nil for nothing. It must be quick, and safe for concurrent use.
	Failed func(datastore string, err error)
	// Version is that of this program, and Release and Commit as PBS has them.
	Version string
	Log     *slog.Logger
	// Downloads bounds the number of downloads at once.
	Downloads int
}

// API answers requests. It is safe for concurrent use.
type API struct {
	Options
	downloads slots
	listings  slots
	ending    context.Context
	end       context.CancelFunc
}

// maxListings bounds how many long lists are made at once, because a list is in memory
// until it is sent.
const maxListings = 8

// New returns an API. Its owner must call [API.End] before the server is shut down.
func New(o Options) *API {
	if o.Failed == nil {
		o.Failed = func(string, error) {}
	}
	a := &API{Options: o, downloads: make(slots, max(1, o.Downloads)), listings: make(slots, maxListings)}
	a.ending, a.end = context.WithCancel(context.Background())
	return a
}

// End ends the streams of events, which would go on for ever.
func (a *API) End() { a.end() }

// Handler returns the handler of all operations and of their description.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	all := operations()
	known := make(map[string]bool)
	for _, op := range all {
		mux.HandleFunc(op.method+" "+Base+op.path, func(w http.ResponseWriter, r *http.Request) { a.serve(op, w, r) })
		known[op.path] = true
	}
	for path := range known { // the mux has no text of its own for these
		mux.HandleFunc(Base+path, func(w http.ResponseWriter, r *http.Request) {
			fail(w, http.StatusMethodNotAllowed, r.Method+" is not done with this path")
		})
	}
	description := describe(all)
	mux.HandleFunc("GET "+descriptionPath, func(w http.ResponseWriter, _ *http.Request) { _ = sendJSON(w, http.StatusOK, description) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "Path '"+r.URL.Path+"' not found.")
	})
	// What is ours lies at the top as well, where a server of PBS has nothing.
	mux.HandleFunc("/pbsfs/", func(w http.ResponseWriter, r *http.Request) {
		at := r.Clone(r.Context())
		at.URL.Path, at.URL.RawPath = strings.TrimSuffix(Base, "/")+r.URL.Path, ""
		mux.ServeHTTP(w, at)
	})
	return mux
}

// serve answers one request to an operation.
func (a *API) serve(op *operation, w http.ResponseWriter, r *http.Request) {
	defer a.survive(r)
	c := &call{API: a, op: op, w: w, r: r}
	err := a.meet(c)
	if err == nil {
		return
	}
	if errors.Is(err, errCutOff) {
		if r.Context().Err() == nil && !errors.Is(err, store.ErrCorrupt) { // that is among the problems
			a.Log.Warn("answer cut off", "path", r.URL.Path, "caller", c.caller.Name, "error", err)
		}
		panic(http.ErrAbortHandler) // the client must not take what it got for the whole
	}
	c.refuse(err)
}

// meet does what a request asks for, if the caller may, when it is its turn.
func (a *API) meet(c *call) error {
	if err := a.admit(c); err != nil {
		return err
	}
	if c.op.share != nil {
		leave, err := c.op.share(a).enter(c.r.Context())
		if err != nil {
			return err
		}
		defer leave()
	}
	return c.op.serve(c)
}

// survive logs a fault of our own, which ends the connection and nothing else. The server
// would do the same, without a line that anybody reads.
func (a *API) survive(r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v != any(http.ErrAbortHandler) {
		a.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

// admit finds out who calls, and whether that caller may.
func (a *API) admit(c *call) (err error) {
	if c.op.need == 0 {
		return nil
	}
	if c.caller, err = a.Gate.Identify(c.r); err != nil {
		return err
	}
	return a.Gate.Allow(c.r, c.caller, c.op.need, c.op.changes())
}

// refuse answers with an error.
func (c *call) refuse(err error) {
	if c.r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		// The client has gone. If it still listens, an answer without a word would say
		// that all is well.
		panic(http.ErrAbortHandler)
	}
	status, body := answerTo(err)
	if status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable {
		c.Log.Error("request failed", "method", c.r.Method, "path", c.r.URL.Path, "caller", c.caller.Name, "error", err)
	}
	switch status {
	case http.StatusUnauthorized:
		c.w.Header().Set("WWW-Authenticate", "PBSAPIToken")
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		c.w.Header().Set("Retry-After", "5")
	}
	if body != nil && c.op.ours() {
		_ = sendJSON(c.w, status, body)
		return
	}
	fail(c.w, status, message(err))
}

// answerTime is how long a client may take to read an answer that is not a download.
const answerTime = time.Minute

// answer sends the data of an answer.
func (c *call) answer(data any) error {
	body := map[string]any{"data": data}
	for k, v := range c.beside {
		body[k] = v
	}
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(answerTime))
	return sendJSON(c.w, http.StatusOK, body)
}
