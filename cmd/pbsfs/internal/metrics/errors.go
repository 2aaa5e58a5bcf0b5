package metrics

import (
	"context"
	"errors"
	"io/fs"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// kinds is the table from errors to their kinds. The first line that matches counts.
var kinds = []struct {
	err  error
	kind string
}{
	{context.Canceled, ""}, // who asked has gone
	{context.DeadlineExceeded, "timeout"},
	{cfg.ErrUnmounting, "maintenance"},
	{cfg.ErrDeleted, "maintenance"},
	{cfg.ErrOffline, "maintenance"},
	{cfg.ErrReadOnly, "maintenance"},
	{store.ErrReplaced, "replaced"},
	{maint.ErrUncounted, "uncounted"},
	{store.ErrGone, "gone"},
	{store.ErrBusy, "busy"},
	{store.ErrKeyNeeded, "key"},
	{tree.ErrNoAccess, "access"},
	{store.ErrCorrupt, "damage"},
}

// otherKind is the kind of an error that is in no line.
const otherKind = "other"

// kindOf returns the kind of an error, "" if it is none: a name that does not exist, or a
// request that was given up.
func kindOf(err error) string {
	for _, line := range kinds {
		if errors.Is(err, line.err) {
			return line.kind
		}
	}
	var own *store.Error
	if errors.Is(err, fs.ErrNotExist) && !errors.As(err, &own) {
		return ""
	}
	return otherKind
}

// Errors counts errors by their kind. It is safe for concurrent use.
type Errors struct{ counts *prometheus.CounterVec }

func newErrors() *Errors {
	return &Errors{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pbsfs_errors_total",
		Help: "Requests that were answered with an error, by its kind.",
	}, []string{"datastore", "kind"})}
}

// begin makes the counts of a datastore begin with 0, so that the first error is a change.
func (e *Errors) begin(datastore string) {
	for _, line := range kinds {
		if line.kind != "" {
			e.counts.WithLabelValues(datastore, line.kind)
		}
	}
	e.counts.WithLabelValues(datastore, otherKind)
}

// Count counts an error that a request was answered with, which may be nil. The datastore
// must be one that exists: each name is kept for ever.
func (e *Errors) Count(datastore string, err error) {
	if err == nil {
		return
	}
	if kind := kindOf(err); kind != "" {
		e.counts.WithLabelValues(label(datastore), kind).Inc()
	}
}
