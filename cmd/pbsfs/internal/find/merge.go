package find

import (
	"cmp"
	"maps"
	"slices"

	"github.com/pbsfs/pbsfs/store"
)

// alike is a directory in the snapshots in which it is the same, with all below it. They
// are numbered, oldest first; the first one is read for all of them.
type alike struct {
	sub   store.Subtree
	node  *node // instead of sub, once it has been read
	snaps []int32
}

// names are the names in one directory, in all snapshots.
type names struct {
	all  map[string]*named
	keep bool // the snapshots of each version
}

// named is one name.
type named struct {
	wanted   bool // the filter wants the name
	versions []version
	dirs     []alike
}

// version is one state of a name.
type version struct {
	state       State
	count       int
	first, last int32
	snaps       []int32 // if they are kept
}

func newNames(keep bool) *names {
	return &names{all: make(map[string]*named), keep: keep}
}

// get returns the name, which may be new.
func (m *names) get(name string, wanted func() bool) *named {
	n := m.all[name]
	if n == nil {
		n = &named{wanted: wanted()}
		m.all[name] = n
	}
	return n
}

// sorted returns the names in order.
func (m *names) sorted() []string { return slices.Sorted(maps.Keys(m.all)) }

// add adds snapshots in which the name is in a state.
func (m *names) add(n *named, s State, snaps []int32) {
	i := slices.IndexFunc(n.versions, func(v version) bool { return v.state == s })
	if i < 0 {
		i = len(n.versions)
		n.versions = append(n.versions, version{state: s, first: snaps[0], last: snaps[0]})
	}
	v := &n.versions[i]
	v.count += len(snaps)
	v.first, v.last = min(v.first, snaps[0]), max(v.last, snaps[len(snaps)-1])
	if m.keep {
		v.snaps = append(v.snaps, snaps...)
	}
}

// newestFirst orders the versions of the name.
func (n *named) newestFirst() {
	slices.SortStableFunc(n.versions, func(a, b version) int { return cmp.Or(cmp.Compare(b.last, a.last), cmp.Compare(b.first, a.first)) })
}

// join makes one of those directories that have the same key.
func join[K comparable](dirs []alike, key func(i int) (K, bool)) []alike {
	at := make(map[K]int, len(dirs))
	var out []alike
	for i, d := range dirs {
		k, ok := key(i)
		if !ok {
			out = append(out, d)
			continue
		}
		j, known := at[k]
		if !known {
			at[k] = len(out)
			out = append(out, d)
			continue
		}
		out[j].snaps = append(slices.Clip(out[j].snaps), d.snaps...)
	}
	for i := range out {
		slices.Sort(out[i].snaps)
	}
	return out
}
