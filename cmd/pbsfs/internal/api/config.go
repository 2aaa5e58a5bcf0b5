package api

import (
	"errors"
	"fmt"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
)

// aboutConfig are the operations on datastore.cfg.
func aboutConfig() []*operation {
	return []*operation{
		answering("GET", "config/datastore", token.Audit, "list the entries of datastore.cfg", listConfig).with("digest"),
		answering("GET", "config/datastore/{store}", token.Audit, "show an entry of datastore.cfg", showConfig).with("digest"),
		answering("PUT", "config/datastore/{store}", token.Admin, "set or clear the maintenance mode", changeConfig),
	}
}

// properties are an entry of datastore.cfg as it is written there, with its name.
type properties map[string]string

func propertiesOf(e maint.Entry) properties {
	p := properties{"name": e.Name}
	for _, line := range e.Properties {
		if _, twice := p[line.Key]; !twice {
			p[line.Key] = line.Value
		}
	}
	return p
}

func listConfig(c *call, _ nothing) ([]properties, error) {
	entries, err := maint.Entries(c.Host)
	if err != nil {
		return nil, err
	}
	out := make([]properties, 0, len(entries))
	for _, e := range entries {
		out = append(out, propertiesOf(e))
	}
	if len(entries) > 0 {
		c.put("digest", entries[0].Digest.String())
	}
	return out, nil
}

func showConfig(c *call, in oneStore) (properties, error) {
	e, err := entryOf(c, in.Store)
	if err != nil {
		return nil, err
	}
	c.put("digest", e.Digest.String())
	return propertiesOf(e), nil
}

// entryOf returns the entry with a name.
func entryOf(c *call, store storeName) (maint.Entry, error) {
	entries, err := maint.Entries(c.Host)
	if err != nil {
		return maint.Entry{}, err
	}
	for _, e := range entries {
		if e.Name == string(store) {
			return e, nil
		}
	}
	if _, err := c.Stores.target(store); err != nil {
		return maint.Entry{}, err
	}
	return maint.Entry{}, fmt.Errorf("datastore %s: %w", store, cfg.ErrNotConfigured)
}

// changeIn are the parameters of changeConfig.
type changeIn struct {
	oneStore
	Mode   string     `param:"maintenance-mode,optional" doc:"read-only or offline, perhaps with ,message=TEXT"`
	Delete names      `param:"delete,optional" doc:"maintenance-mode: end the maintenance"`
	Digest cfg.Digest `param:"digest,optional" doc:"of the datastore.cfg that was read; if it is another one now, nothing is changed"`
	Drain  bool       `param:"drain,optional" doc:"ours: set the mode although operations are active, and let them end"`
}

func changeConfig(c *call, in changeIn) (any, error) {
	for _, what := range in.Delete {
		if what != "maintenance-mode" {
			return nil, &badParam{"delete", fmt.Errorf("%q is not deleted here, only maintenance-mode", what)}
		}
	}
	o := maint.SetOptions{Digest: in.Digest, Drain: in.Drain, Wait: defaultWait}
	switch {
	case c.has["digest"] && in.Digest == (cfg.Digest{}): // of no file; to maint it is none at all
		return nil, maint.ErrOutdated
	case c.has["maintenance-mode"] && in.Mode == "":
		return nil, fmt.Errorf("%w: it is empty; delete=maintenance-mode ends the maintenance", cfg.ErrBadMode)
	case in.Mode != "" && len(in.Delete) > 0:
		return nil, &badParam{"delete", errors.New("maintenance-mode is set and deleted at once")}
	case in.Mode != "":
		m, err := cfg.ParseMode(in.Mode)
		if err != nil {
			return nil, err
		}
		if !m.Type.Settable() {
			return nil, fmt.Errorf("%w: %s cannot be set, only %s and %s", cfg.ErrBadMode, m.Type, cfg.ReadOnly, cfg.Offline)
		}
		o.Message = m.Message
		return nil, c.setMode(in.Store, m.Type, o)
	case len(in.Delete) > 0:
		return nil, c.clearMode(in.Store, o)
	}
	return nil, nil
}
