package mounts

import "slices"

// MountTable is the list of mounts in one namespace, in the kernel's order.
//
// Several mounts that lie upon each other may have the same point, and a mount upon a
// directory above hides them all. Paths are compared by name alone. Nothing is looked
// at, because a mounted file system may hang.
type MountTable []Mount

// Find returns the table's entry of a mount, which may have been moved since.
func (t MountTable) Find(m Mount) (now Mount, ok bool) {
	i := slices.IndexFunc(t, m.SameMount)
	if i < 0 {
		return now, false
	}
	return t[i], true
}

// OfDevice returns the mounts that show the same file system as m.
func (t MountTable) OfDevice(m Mount) []Mount {
	var out []Mount
	for _, o := range t {
		if o.sameDevice(m) {
			out = append(out, o)
		}
	}
	return out
}

// At returns the mount that a path leads to, if the path is its mount point.
func (t MountTable) At(place string) (Mount, bool) {
	met := t.Way(place)
	if len(met) == 0 || met[len(met)-1].Point != place {
		return Mount{}, false
	}
	return met[len(met)-1], true
}

// Way returns the mounts through which a path without symbolic links leads, in order.
func (t MountTable) Way(path string) []Mount {
	var met []Mount
	on, ok := t.first(path)
	for ok && len(met) < len(t) {
		met = append(met, on)
		on, ok = t.next(on.ID, path)
	}
	return met
}

// first returns the mount on which a path begins: that of the root directory, unless
// the root directory is no mount point.
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

// next returns the first mount on a directory of the mount id that a path reaches.
func (t MountTable) next(id int, path string) (found Mount, ok bool) {
	for _, m := range t {
		if m.Parent == id && m.ID != id && Below(path, m.Point) && (!ok || len(m.Point) <= len(found.Point)) {
			found, ok = m, true
		}
	}
	return found, ok
}

// Upon returns the mounts that lie upon the whole of a mount, on its top directory, the
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

// Inside returns the mounts on directories inside a mount.
func (t MountTable) Inside(m Mount) []Mount {
	var inside []Mount
	for _, o := range t {
		if o.Parent == m.ID && o.ID != m.ID && o.Point != m.Point {
			inside = append(inside, o)
		}
	}
	return inside
}

// Hides returns the mount that keeps a mount's point from leading to it: it lies upon a
// directory above that point.
func (t MountTable) Hides(m Mount) (by Mount, hidden bool) {
	met := t.Way(m.Point)
	if len(met) == 0 || slices.ContainsFunc(met, m.SameMount) {
		return by, false
	}
	return met[len(met)-1], true
}
