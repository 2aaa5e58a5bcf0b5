package served

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/text"
)

// A tree belongs to a datastore if their identities match: the serving process has the
// identity in its record. Names and paths change.

// Serves reports whether the mount shows that datastore, whatever the datastore's name
// was when it was mounted.
func (r *Record) Serves(t locate.Target) bool {
	own := modes.Present(r.Identity)
	switch {
	case own.Same(t.ID):
		return true
	case own.Differs(t.ID):
		return false
	}
	return r.Datastore == t.Name || samePath(r.Path, t.Path)
}

func samePath(a, b string) bool { return filepath.Clean(a) == filepath.Clean(b) }

// Shows reports whether a mount shows a tree of the datastore: by the record of its
// process, or, without a record, by the mount's source.
func Shows(host hosts.Host, t locate.Target, known []*Record, m mounts.Mount) bool {
	if r := Find(known, m); r != nil {
		return r.Serves(t)
	}
	id := SourceOf(host, m)
	switch {
	case id.Same(t.ID):
		return true
	case id.Differs(t.ID):
		return false
	}
	return samePath(m.Source, t.Path) || t.Removable != nil && samePath(m.Source, t.Removable.Dir())
}

// SourceOf returns the identity of the datastore that a mount names as its source.
func SourceOf(host hosts.Host, m mounts.Mount) identity.ID {
	if !filepath.IsAbs(m.Source) {
		return identity.ID{}
	}
	found, err := modes.FindAt(context.Background(), host, nil, m.Source)
	if err != nil {
		return identity.ID{}
	}
	return found.ID
}

// FormerNames returns the names that the datastore had when its trees were mounted,
// except names that another datastore has by now.
func FormerNames(host hosts.Host, t locate.Target) ([]string, error) {
	known, err := Records(host)
	if err != nil {
		return nil, err
	}
	listed, err := maint.Datastores(host)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range known {
		taken := slices.ContainsFunc(listed, func(d cfg.Datastore) bool { return d.Name == r.Datastore })
		if r.Serves(t) && !taken && r.Datastore != t.Name {
			names = append(names, r.Datastore)
		}
	}
	return names, nil
}

// Resolve is locate.Resolve for commands that look at mounts: a name that is not (or no
// longer) in the configuration may be that in a mount's record.
func Resolve(host hosts.Host, arg string, known []*Record) (locate.Target, error) {
	t, err := locate.Resolve(host, arg)
	if err == nil || locate.IsPath(arg) {
		return t, err
	}
	for _, r := range known {
		if r.Datastore == arg {
			return locate.Target{Name: arg, Path: r.Path, ID: modes.Present(r.Identity)}, nil
		}
	}
	return t, err
}

// At returns the places where something is mounted for a datastore: its trees, and its
// device if that is mounted under its name.
func At(host hosts.Host, t locate.Target) ([]string, error) {
	known, err := Records(host)
	if err != nil {
		return nil, err
	}
	trees, err := TreesOf(host, t, known)
	if err != nil {
		return nil, err
	}
	var at []string
	for _, m := range trees {
		at = append(at, text.Printable(m.Point))
	}
	for _, r := range known {
		if r.Serves(t) && !slices.ContainsFunc(trees, r.of) {
			at = append(at, text.Printable(r.Mountpoint)) // the mount was taken away, but is still in use
		}
	}
	if t.Removable != nil {
		if m, err := mounts.FindMount(t.Removable.Dir()); err == nil {
			at = append(at, text.Printable(m.Point))
		}
	}
	return at, nil
}

// TreesOf returns the mounts of a datastore's trees, including bound ones. The one that
// was made last comes first.
func TreesOf(host hosts.Host, t locate.Target, known []*Record) ([]mounts.Mount, error) {
	ours, err := mountpoint.Ours()
	if err != nil {
		return nil, err
	}
	var of []mounts.Mount
	for _, m := range slices.Backward(ours) {
		if Shows(host, t, known, m) {
			of = append(of, m)
		}
	}
	return of, nil
}

// Find returns the record of a mount, nil if there is none. The kernel uses the numbers
// of devices again, while a process that lost its mount may be stopped and not have
// noticed. So the newest record counts.
func Find(known []*Record, m mounts.Mount) *Record {
	var newest *Record
	for _, r := range known {
		if r.of(m) && (newest == nil || r.StartTime > newest.StartTime) {
			newest = r
		}
	}
	return newest
}

// TakenAway reports whether the mount of the record is no longer there, although its
// process still serves a user of it.
func (r *Record) TakenAway() bool {
	if r.Device == "" || r.Look() != procfs.Runs || inOtherNamespace(r.PID) {
		return false
	}
	ours, err := mountpoint.Ours()
	return err == nil && !slices.ContainsFunc(ours, r.of)
}
