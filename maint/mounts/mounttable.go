package mounts

import "slices"

// MountTable is what is mounted in one namespace, as it lists it.
//
// One path may be the point of several mounts, that lie upon each other, and a
// mount upon a directory above hides them all. Paths are told by names alone:
// nothing is looked at, for what is mounted may hang.
type MountTable []Mount

// Find returns what the table has of a mount, which may have been moved since.
func (t MountTable) Find(m Mount) (now Mount, ok bool) {
	i := slices.IndexFunc(t, m.SameMount)
	if i < 0 {
		return now, false
	}
	return t[i], true
}

// OfDevice returns the mounts that show the file system that m shows.
func (t MountTable) OfDevice(m Mount) []Mount {
	var out []Mount
	for _, o := range t {
		if o.sameDevice(m) {
			out = append(out, o)
		}
	}
	return out
}

// At returns the mount that one meets at a place, if it is the point of one.
func (t MountTable) At(place string) (Mount, bool) {
	met := t.Way(place)
	if len(met) == 0 || met[len(met)-1].Point != place {
		return Mount{}, false
	}
	return met[len(met)-1], true
}

// Way returns the mounts that a path without symbolic links leads through, the
// one that it ends on last.
func (t MountTable) Way(path string) []Mount {
	var met []Mount
	on, ok := t.first(path)
	for ok && len(met) < len(t) {
		met = append(met, on)
		on, ok = t.next(on.ID, path)
	}
	return met
}

// first returns the mount that a path begins on: that of the root directory,
// unless that is no mount's point.
func (t MountTable) first(path string) (found Mount, ok bool) {
	ids := make(map[int]bool, len(t))
	for _, m := range t {
		ids[m.ID] = true
	}
	for _, m := range t {
		if (!ids[m.Parent] || m.Parent == m.ID) && Below(path, m.Point) && (!ok || len(m.Point) <= len(found.Point)) {
			found, ok = m, true
		}
	}
	return found, ok
}

// next returns the first of the mounts on directories of the mount id that a path
// comes to.
func (t MountTable) next(id int, path string) (found Mount, ok bool) {
	for _, m := range t {
		if m.Parent == id && m.ID != id && Below(path, m.Point) && (!ok || len(m.Point) <= len(found.Point)) {
			found, ok = m, true
		}
	}
	return found, ok
}

// Upon returns what lies upon the whole of a mount, on its top directory, the
// lowest first.
func (t MountTable) Upon(m Mount) []Mount {
	var upon []Mount
	for on := m; len(upon) < len(t); {
		i := slices.IndexFunc(t, func(o Mount) bool { return o.Parent == on.ID && o.ID != on.ID && o.Point == m.Point })
		if i < 0 {
			break
		}
		on = t[i]
		upon = append(upon, on)
	}
	return upon
}

// Inside returns what is mounted on directories inside a mount.
func (t MountTable) Inside(m Mount) []Mount {
	var inside []Mount
	for _, o := range t {
		if o.Parent == m.ID && o.ID != m.ID && o.Point != m.Point {
			inside = append(inside, o)
		}
	}
	return inside
}

// Hides returns what keeps a path from leading to a mount: something that lies
// upon a directory above its point.
func (t MountTable) Hides(m Mount) (by Mount, hidden bool) {
	met := t.Way(m.Point)
	if len(met) == 0 || slices.ContainsFunc(met, m.SameMount) {
		return by, false
	}
	return met[len(met)-1], true
}
