package maint

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"
)

// One directory can be known by several names: one made from its path, as long
// as it is not configured, and one for each section that names it. Modes and
// counts of all of them are about the same datastore.

// maxPathBase is how much of the last component of a path goes into a name.
const maxPathBase = 20

// PathName makes a datastore's name from its directory: the beginning of the
// last component, and a sum of it all, so that no two are alike. Symbolic links
// in path are resolved first, where they can be.
func PathName(path string) string {
	path = resolveDir(path)
	base := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '.', r == '-':
			return r
		}
		return '_'
	}, filepath.Base(path))
	base = strings.TrimLeft(base[:min(maxPathBase, len(base))], ".-")
	sum := sha256.Sum256([]byte(path))
	return base + "-" + hex.EncodeToString(sum[:4])
}

// resolveDir returns the path of a directory without symbolic links. One that
// is not there keeps its path.
func resolveDir(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}

// SameDir reports whether two paths lead to one directory, as far as their names
// say.
func SameDir(a, b string) bool { return resolveDir(a) == resolveDir(b) }

// countedAs returns all names that operations on a datastore are counted under:
// its own, those of other entries for its directory, and the one made from that.
func countedAs(host Host, store string) ([]string, error) {
	listed, err := Datastores(host)
	if err != nil {
		return nil, err
	}
	names := []string{store}
	for _, d := range listed {
		if d.Name != store || d.Path == "" {
			continue
		}
		dir := resolveDir(d.Dir())
		names = append(names, PathName(dir))
		for _, other := range listed {
			if other.Path != "" && resolveDir(other.Dir()) == dir {
				names = append(names, other.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// modeAt is the maintenance mode of a datastore that is known to lie in dir: the
// strictest of all entries for it. An empty dir is not known.
func (c *config) modeAt(store, dir string) Mode {
	mode := c.mode(store)
	if dir == "" || c.problem != "" {
		return mode
	}
	for _, s := range c.sections {
		if s.kind != sectionType || s.name == store {
			continue
		}
		if d := c.datastore(s, ""); d.Path != "" && resolveDir(d.Dir()) == dir {
			mode = stricter(mode, c.mode(s.name))
		}
	}
	return mode
}
