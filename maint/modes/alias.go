package modes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/places"
)

// One datastore can have several names: one made for it while it is not configured, and
// one for each section that names it. The modes and counts of all these names concern
// the same datastore.

// maxPathBase is how much of the last component of a path goes into a name.
const maxPathBase = 20

// PathName makes a name for a datastore in a directory that was not seen yet: the
// beginning of the last component, and a checksum of the whole path.
func PathName(path string) string {
	path = filepath.Clean(path)
	sum := sha256.Sum256([]byte(path))
	return baseName(path) + "-" + hex.EncodeToString(sum[:4])
}

// UnlistedName makes a name for a datastore that is not configured: the beginning of
// its directory's name, and the sum of its identity, which is the same on every path to
// it.
func UnlistedName(path string, id identity.ID) string {
	if !id.Seen() {
		return PathName(path)
	}
	return baseName(path) + "-" + id.Sum()
}

func unlistedName(at places.Spot, store string) string {
	if !at.ID.Seen() || strings.HasSuffix(store, "-"+at.ID.Sum()) {
		return store
	}
	return UnlistedName(at.Dir, at.ID)
}

// UnlistedPattern matches the end of the names of datastores that are not configured.
var UnlistedPattern = regexp.MustCompile(`-[0-9a-f]{8}$`)

func baseName(path string) string {
	base := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '.', r == '-':
			return r
		}
		return '_'
	}, filepath.Base(path))
	return strings.TrimLeft(base[:min(maxPathBase, len(base))], ".-")
}

// Found is what is known of a datastore in a directory.
type Found struct {
	// Dir is the directory, without symbolic links as far as it could be followed.
	Dir string
	ID  identity.ID
	// Listed are the entries that mean this datastore, in the order of the list.
	Listed []cfg.Datastore
}

// FindAt looks for the datastore in a directory, and for its entries in a list. It
// waits a moment for places that do not answer. The error is about the directory alone;
// Dir is set even then.
func FindAt(ctx context.Context, host hosts.Host, list []cfg.Datastore, path string) (Found, error) {
	if host.Places() == nil {
		return Found{}, hosts.ErrZero
	}
	host.Places().Refresh()
	host.Places().Spots.Forget(path)
	host.Places().LookFor(ctx, list, path)
	at, err, known := host.Places().At(path)
	if err == nil && !known {
		err = context.Cause(ctx)
	}
	f := Found{Dir: at.Dir, ID: at.ID}
	for _, d := range list {
		other, oerr, _ := host.Places().Of(d)
		if at.ID.Same(other.ID) || (isHung(oerr) || !at.ID.Seen() && !other.ID.Seen()) && at.Dir == other.Dir {
			f.Listed = append(f.Listed, d)
		}
	}
	return f, err
}

// Present returns what remains of an identity when its disk has been unplugged.
func Present(id identity.ID) identity.ID { return places.Present(id) }

// Identities looks at the places of all datastores in a list, and returns their
// identities in the same order. The identity of a datastore that does not answer in
// time is not known.
func Identities(ctx context.Context, host hosts.Host, list []cfg.Datastore) []identity.ID {
	out := make([]identity.ID, len(list))
	if host.Places() == nil {
		return out
	}
	host.Places().Refresh()
	host.Places().LookFor(ctx, list)
	for i, d := range list {
		at, _, _ := host.Places().Of(d)
		out[i] = at.ID
	}
	return out
}

// Whereabouts returns the directory in which a datastore on a disk is found: the
// configured one, unless the disk is mounted only elsewhere.
func Whereabouts(ctx context.Context, host hosts.Host, d cfg.Datastore) string {
	if _, err := mounts.FindMount(d.Dir()); err == nil || !d.Removable() || host.Places() == nil {
		return d.Dir()
	}
	id := identity.ID{UUID: strings.ToLower(d.BackingDevice), Path: filepath.Join("/", d.Path)}
	if dir, ok := host.Places().OnDisk(ctx, id); ok {
		return dir
	}
	return d.Dir()
}
