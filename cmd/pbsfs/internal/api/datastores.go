package api

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
)

// aboutDatastores are the operations on whole datastores.
func aboutDatastores() []*operation {
	return []*operation{
		answering("GET", "admin/datastore", token.Audit, "list the datastores", listDatastores),
		answering("GET", "admin/datastore/{store}/status", token.Audit, "tell the size of the file system, and what is free", usageOf),
		answering("GET", "admin/datastore/{store}/namespace", token.Audit, "list the namespaces", listNamespaces),
		answering("GET", "admin/datastore/{store}/active-operations", token.Audit, "count the active operations of all processes", activeOperations),
	}
}

// nothing is the parameters of an operation that has none.
type nothing struct{}

// oneStore is the parameter of operations on a datastore.
type oneStore struct {
	Store storeName `param:"store" doc:"the name of the datastore"`
}

// DatastoreItem is a line in the list of datastores.
type DatastoreItem struct {
	Store       string  `json:"store"`
	Comment     *string `json:"comment"`
	MountStatus string  `json:"mount-status"`
	Maintenance string  `json:"maintenance,omitempty"`
}

func listDatastores(c *call, _ nothing) ([]DatastoreItem, error) {
	targets, err := c.Stores.Targets()
	if err != nil {
		return nil, err
	}
	configured, err := maint.Datastores(c.Host)
	if err != nil {
		return nil, err
	}
	about := make(map[string]cfg.Datastore, len(configured))
	for _, d := range configured {
		about[d.Name] = d
	}
	out := make([]DatastoreItem, 0, len(targets))
	for _, t := range targets {
		d := about[t.Name]
		item := DatastoreItem{Store: t.Name, Comment: optional(d.Comment), MountStatus: "nonremovable"}
		if d.Removable() {
			item.MountStatus = "notmounted"
			if _, err := mounts.FindMount(d.Dir()); err == nil {
				item.MountStatus = "mounted"
			}
		}
		mode, err := status.ModeOf(c.Host, t.Name)
		if err != nil {
			return nil, err
		}
		item.Maintenance = maintenanceText(mode)
		out = append(out, item)
	}
	return out, nil
}

// maintenanceText describes a mode as PBS's lists do.
func maintenanceText(m status.Mode) string {
	switch {
	case m.Type == nil:
		return ""
	case m.Message == "":
		return *m.Type
	}
	return *m.Type + ": " + m.Message
}

// optional returns nil for the empty text.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Usage is the size of a file system, in bytes.
type Usage struct {
	Total uint64 `json:"total"`
	Used  uint64 `json:"used"`
	Avail uint64 `json:"avail"`
}

func usageOf(c *call, in oneStore) (u Usage, err error) {
	err = c.view(in.Store, func(_ context.Context, _ *opened, r *store.Reader) error {
		st, err := store.Statfs(r)
		if err != nil {
			return err
		}
		unit := uint64(st.Bsize)
		u = Usage{Total: st.Blocks * unit, Used: (st.Blocks - st.Bfree) * unit, Avail: st.Bavail * unit}
		return nil
	})
	return u, err
}

// namespacesIn are the parameters of listNamespaces.
type namespacesIn struct {
	oneStore
	Parent name.Namespace `param:"parent,optional" doc:"list those below this namespace"`
	Depth  int            `param:"max-depth,optional" doc:"how many levels below it are listed"`
}

// NamespaceItem is a line in the list of namespaces.
type NamespaceItem struct {
	NS string `json:"ns"`
}

func listNamespaces(c *call, in namespacesIn) ([]NamespaceItem, error) {
	depth := name.MaxDepth
	if c.has["max-depth"] {
		depth = in.Depth
	}
	out := []NamespaceItem{}
	err := c.view(in.Store, func(ctx context.Context, _ *opened, r *store.Reader) error {
		if _, err := store.Stat(ctx, r, in.Parent.Dir()); err != nil {
			return missing("namespace", in.Parent.String(), err)
		}
		return eachNamespace(ctx, r, in.Parent, depth, func(ns name.Namespace) error {
			out = append(out, NamespaceItem{ns.String()})
			return nil
		})
	})
	return out, err
}

// eachNamespace calls fn for a namespace and for those below it, parents first.
func eachNamespace(ctx context.Context, r *store.Reader, ns name.Namespace, depth int, fn func(name.Namespace) error) error {
	if err := fn(ns); err != nil || depth == 0 {
		return err
	}
	below, err := store.Namespaces(ctx, r, ns)
	if err != nil {
		return err
	}
	for _, child := range below {
		if err := eachNamespace(ctx, r, child, depth-1, fn); err != nil {
			return err
		}
	}
	return nil
}

// Counts are the active operations on a datastore.
type Counts struct {
	Read  int64 `json:"read"`
	Write int64 `json:"write"`
}

func activeOperations(c *call, in oneStore) (Counts, error) {
	t, err := c.Stores.target(in.Store)
	if err != nil {
		return Counts{}, err
	}
	sum, err := maint.Sum(c.Host, t.Name)
	return Counts{Read: sum.Read, Write: sum.Write}, err
}

// firstLine returns the first line of a text, as lists show comments.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSpace(line)
}

// notThere is an error that says what does not exist.
type notThere struct {
	what, name string
	err        error
}

func (e *notThere) Error() string {
	return "no such " + e.what + ": '" + text.Printable(e.name) + "'"
}

func (e *notThere) Unwrap() error { return e.err }

// missing says what does not exist, if that is what the error is about.
func missing(what, called string, err error) error {
	var own *store.Error
	if errors.Is(err, fs.ErrNotExist) && !errors.As(err, &own) {
		return &notThere{what, called, err}
	}
	return err
}
