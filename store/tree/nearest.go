package tree

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/pbsfs/pbsfs/store"
)

// Missing says of a path that leads nowhere how far it leads, and what is there instead.
type Missing struct {
	// Dir is the directory in which Name is missing, "" for the top.
	Dir, Name string
	// Near are the names in Dir that are most like Name, the nearest first.
	Near []string
	// Other is how many other names there are.
	Other int
}

// nearNames is how many names Nearest suggests, and nearSearched among how many it looks
// for them.
const (
	nearNames    = 5
	nearSearched = 10_000
)

// Nearest looks where path ends to exist. It reports false if that cannot be told, above
// all if path exists.
func (t *Tree) Nearest(ctx context.Context, right store.CanRead, path string) (Missing, bool) {
	names := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	for i := range names {
		dir := strings.Join(names[:i], "/")
		_, err := t.Walk(ctx, right, strings.Join(names[:i+1], "/"), i < len(names)-1)
		if err == nil {
			continue
		}
		n, derr := t.Walk(ctx, right, dir, true)
		if derr != nil || !errors.Is(err, fs.ErrNotExist) {
			return Missing{}, false
		}
		m := Missing{Dir: dir, Name: names[i]}
		return m, m.look(ctx, right, n)
	}
	return Missing{}, false
}

// look fills in what is there. A directory that cannot be listed tells nothing.
func (m *Missing) look(ctx context.Context, right store.CanRead, n *Node) bool {
	type near struct {
		name     string
		distance int
	}
	var all []near
	l, err := n.List(ctx, right)
	if err != nil {
		return false
	}
	for i := range min(l.Len(), nearSearched) {
		e, err := l.At(ctx, right, i)
		if err != nil {
			return false
		}
		if e.Name != "" {
			all = append(all, near{e.Name, distance(m.Name, e.Name)})
		}
	}
	slices.SortStableFunc(all, func(a, b near) int { return cmp.Compare(a.distance, b.distance) })
	for _, c := range all[:min(len(all), nearNames)] {
		m.Near = append(m.Near, c.name)
	}
	m.Other = l.Len() - len(m.Near)
	return true
}

// distance is how far a name is from the one that was asked for. One that contains the
// other, such as an archive without its suffix, is near.
func distance(want, have string) int {
	want, have = strings.ToLower(want), strings.ToLower(have)
	if strings.Contains(have, want) || strings.Contains(want, have) {
		return 1
	}
	return 1 + levenshtein.ComputeDistance(want, have)
}
