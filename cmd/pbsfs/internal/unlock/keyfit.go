package unlock

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// fitGroups bounds how many groups are tried with a key: a mount must not take longer
// the more groups there are.
const fitGroups = 1000

var errEnough = errors.New("enough groups seen")

// Unfit returns the keys that open none of the newest snapshots of the groups. Perhaps
// the user gave a wrong key.
func Unfit(ctx context.Context, ref *store.Lookup, list []*keys.Key) ([]keys.Fingerprint, error) {
	left := make(map[keys.Fingerprint]bool)
	for _, k := range list {
		left[k.Fingerprint()] = true
	}
	if len(left) == 0 {
		return nil, nil
	}
	seen := 0
	err := ref.View(ctx, func(r *store.Reader) error {
		return eachGroup(ctx, r, name.Namespace{}, func(g name.Group) error {
			if seen++; seen > fitGroups || len(left) == 0 {
				return errEnough
			}
			s, ok, err := store.Latest(ctx, r, g)
			if err != nil || !ok {
				return nil // damage is reported when the file is read
			}
			if snap, err := store.LoadSnapshot(ctx, r, s); err == nil {
				if fp, known := snap.Manifest().KeyFingerprint(); known {
					delete(left, fp)
				}
			}
			return ctx.Err()
		})
	})
	if seen > fitGroups || err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	var out []keys.Fingerprint
	for fp := range left {
		out = append(out, fp)
	}
	return out, nil
}

// eachGroup calls fn for the groups of ns and of the namespaces below it.
func eachGroup(ctx context.Context, r *store.Reader, ns name.Namespace, fn func(name.Group) error) error {
	types, _ := store.Types(ctx, r, ns)
	for _, t := range types {
		groups, _ := store.Groups(ctx, r, ns, t)
		for _, g := range groups {
			if err := fn(g); err != nil {
				return err
			}
		}
	}
	children, _ := store.Namespaces(ctx, r, ns)
	for _, c := range children {
		if err := eachGroup(ctx, r, c, fn); err != nil {
			return err
		}
	}
	return nil
}

// UnfitWarning returns a warning about keys that open nothing; "" if there are none.
func UnfitWarning(list []keys.Fingerprint) string {
	var b strings.Builder
	for _, fp := range list {
		fmt.Fprintf(&b, "pbsfs: warning: the key %s fits none of the newest snapshots\n", fp.Short())
	}
	return b.String()
}
