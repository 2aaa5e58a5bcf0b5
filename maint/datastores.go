package maint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// ErrPBSOwns says that datastore.cfg belongs to PBS. Datastores are added and removed
// with PBS's own tools then.
var ErrPBSOwns = errors.New("datastores of this host are managed by PBS")

// ErrExists says that a datastore of that name is listed already.
var ErrExists = errors.New("datastore exists")

// Datastores lists the configured datastores, those of our own datastore.cfg first. A
// name that is in two files is listed once, with the stricter mode.
func Datastores(host hosts.Host) ([]cfg.Datastore, error) {
	entries, err := Entries(host)
	if err != nil {
		return nil, err
	}
	list := make([]cfg.Datastore, 0, len(entries))
	for _, e := range entries {
		list = append(list, e.Datastore)
	}
	return list, nil
}

// Entry is an entry of datastore.cfg with everything that the file says of it.
type Entry struct {
	cfg.Datastore
	Properties []cfg.Property
	// Digest is that of the file that has the entry.
	Digest cfg.Digest
}

// Entries is [Datastores] with all properties.
func Entries(host hosts.Host) ([]Entry, error) {
	if len(host.Configs()) == 0 {
		return nil, hosts.ErrZero
	}
	var list []Entry
	for _, place := range host.Configs() {
		data, _, err := modes.ReadConfig(place.File())
		if err != nil {
			return nil, err
		}
		c := cfg.ParseConfig(data)
		if c.Problem != "" && len(c.Sections) == 0 {
			return nil, fmt.Errorf("%s: %s", place.File(), c.Problem)
		}
		for _, s := range c.Sections {
			if s.Kind == cfg.SectionType {
				list = addListed(list, Entry{c.Datastore(s, place.File()), c.Properties(s), c.Digest()})
			}
		}
	}
	return list, nil
}

func addListed(list []Entry, e Entry) []Entry {
	i := slices.IndexFunc(list, func(o Entry) bool { return o.Name == e.Name })
	if i < 0 {
		return append(list, e)
	}
	list[i].Mode = modes.Stricter(list[i].Mode, e.Mode)
	return list
}

// AddDatastore adds a datastore to our own datastore.cfg: Name, Path, BackingDevice and
// Comment. It does not look whether there is a datastore at the path.
func AddDatastore(ctx context.Context, host hosts.Host, d cfg.Datastore) error {
	if err := d.Check(); err != nil {
		return err
	}
	if err := isNew(ctx, host, d); err != nil {
		return err
	}
	return editConfig(ctx, host, func(c *cfg.Config) ([]byte, error) {
		if err := nameIsNew(host, d); err != nil {
			return nil, err
		}
		return c.Added(d), nil
	})
}

// CheckAdd says why [AddDatastore] would refuse a datastore. It is for callers that are
// about to create one.
func CheckAdd(ctx context.Context, host hosts.Host, d cfg.Datastore) error {
	if host.IsPBS() {
		return ErrPBSOwns
	}
	if err := d.Check(); err != nil {
		return err
	}
	return isNew(ctx, host, d)
}

// isNew returns an error if the name or the datastore is listed already.
func isNew(ctx context.Context, host hosts.Host, d cfg.Datastore) error {
	listed, err := Datastores(host)
	if err != nil {
		return err
	}
	if err := nameIsNew(host, d); err != nil {
		return err
	}
	all := modes.Identities(ctx, host, append(slices.Clone(listed), d))
	own := all[len(listed)]
	for i, other := range listed {
		if own.Same(all[i]) || !d.Removable() && !other.Removable() && filepath.Clean(other.Path) == filepath.Clean(d.Path) {
			return fmt.Errorf("%s is datastore %s in %s: %w", d.Path, other.Name, other.File, ErrExists)
		}
	}
	return nil
}

// nameIsNew returns an error if the name is listed already.
func nameIsNew(host hosts.Host, d cfg.Datastore) error {
	listed, err := Datastores(host)
	if err != nil {
		return err
	}
	for _, other := range listed {
		if other.Name == d.Name {
			return fmt.Errorf("datastore %s in %s: %w", d.Name, other.File, ErrExists)
		}
	}
	return nil
}

// RemoveDatastore removes a datastore from our own datastore.cfg; its files stay. It is
// refused with a [*ConflictError] while operations are active under this name or under
// other names that the datastore has or had.
func RemoveDatastore(ctx context.Context, host hosts.Host, name string, also ...string) error {
	if len(host.Configs()) == 0 {
		return hosts.ErrZero
	}
	counted := newTally(host, name)
	counted.also = also
	names, err := counted.names(ctx)
	if err != nil {
		return err
	}
	return editConfig(ctx, host, func(c *cfg.Config) ([]byte, error) {
		s, err := c.Find(name)
		if err != nil {
			return nil, err
		}
		if s == nil {
			return nil, fmt.Errorf("datastore %s: %w", name, cfg.ErrNotConfigured)
		}
		procs, err := counted.conflictingUnder(names, cfg.Offline)
		if err != nil {
			return nil, err
		}
		if len(procs) > 0 {
			return nil, &ConflictError{Store: name, Type: cfg.Delete, Processes: procs}
		}
		return c.Removed(s), nil
	})
}

// editConfig replaces our own datastore.cfg under its lock.
func editConfig(ctx context.Context, host hosts.Host, edit func(*cfg.Config) ([]byte, error)) error {
	if len(host.Configs()) == 0 {
		return hosts.ErrZero
	}
	if host.IsPBS() {
		return ErrPBSOwns
	}
	lock, err := hosts.LockOwnConfig(ctx, host)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	data, _, err := modes.ReadConfig(host.Configs()[0].File())
	if err != nil {
		return err
	}
	c := cfg.ParseConfig(data)
	if c.Problem != "" {
		return fmt.Errorf("%s: %s", host.Configs()[0].File(), c.Problem)
	}
	out, err := edit(c)
	if err != nil {
		return err
	}
	return writeConfig(host, out)
}

// writeConfig replaces our own datastore.cfg. The caller holds its lock.
func writeConfig(host hosts.Host, data []byte) error {
	own, mode := statefile.Owner{}, os.FileMode(0o644)
	switch {
	case host.IsPBS():
		own, mode = statefile.Owner{GID: host.Files().GID, Set: host.Files().Set}, 0o640
	case host.UID() != 0:
		mode = 0o600
	}
	return statefile.ReplaceConfig(host.Configs()[0].File(), data, own, mode)
}
