package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// jsonLines reads what a command printed with --json, one value in a line.
func jsonLines[T any](t *testing.T, r result) []T {
	t.Helper()
	r.want(t, 0)
	var out []T
	for line := range strings.Lines(r.stdout) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("pbsfs %q: %v in %s", r.args, err, line)
		}
		out = append(out, v)
	}
	return out
}

// searchedGroup is a backup group of a store, as a walk through a mount has seen it.
type searchedGroup struct {
	h           *host
	store, path string
	seen        groupSeen
}

// What find, diff and history say is what a slow and simple comparison through a mount
// says, on snapshots that a server has written and on 30 of a tree that changes.
func TestSearchEqualsWalkThroughAMount(t *testing.T) {
	needRoot(t)
	stores := map[string][]string{generated(t): {"host/unified", "host/split"}}
	stores[fixture(t, "ds-basic")] = []string{"host/alpha", "ct/101", "vm/100", "ns/prod/host/small-bravo"}
	stores[fixture(t, "ds-split")] = []string{"host/split", "ns/nsx/host/split-small"}
	stores[fixture(t, "ds-nasty")] = []string{"host/nasty"}
	for _, store := range slices.Sorted(maps.Keys(stores)) {
		h := newHost(t)
		m := h.mount(store)
		for _, group := range stores[store] {
			g := &searchedGroup{h, store, group, lookAt(t, m.path(group))}
			t.Run(filepath.Base(store)+"/"+group, func(t *testing.T) {
				t.Run("find", g.find)
				t.Run("find owners", g.findOwners)
				t.Run("diff", g.diff)
				t.Run("history", g.history)
			})
		}
	}
}

// foundLine is a line of find --json.
type foundLine struct {
	Path        string
	Bytes       []byte `json:"path_base64"`
	Type        string
	Size        int64
	Mtime       time.Time
	Mode        string
	UID, GID    uint32
	Count       int
	First, Last string
}

func (f foundLine) path() string {
	if f.Bytes != nil {
		return string(f.Bytes)
	}
	return f.Path
}

func (g *searchedGroup) find(t *testing.T) {
	// What lies beside archives is the same if its content is; find does not say which.
	wanted := g.versions(func(s *sight) string {
		if s.item {
			return fmt.Sprint(s.size, s.sum)
		}
		if s.typ() == unix.S_IFREG {
			return fmt.Sprint(s.size, s.mtime.Sec)
		}
		return ""
	})
	got := jsonLines[foundLine](t, g.h.run("find", g.store, g.path, "--json"))
	compareSets(t, "find", g.lines(got, nil), wanted)
	names := 0
	for _, f := range jsonLines[foundLine](t, g.h.run("find", g.store, g.path, "--json", "--name", "*1*", "--type", "f", "--size", "+100")) {
		names++
		if !strings.Contains(path.Base(f.path()), "1") || f.Size <= 100 || f.Type != "file" {
			t.Errorf("found %+v", f)
		}
	}
	want := 0
	for _, f := range got {
		if strings.Contains(path.Base(f.path()), "1") && f.Size > 100 && f.Type == "file" {
			want++
		}
	}
	if names != want {
		t.Errorf("with filters %d files were found, want %d", names, want)
	}
}

// findOwners searches metadata.
func (g *searchedGroup) findOwners(t *testing.T) {
	wanted := g.versions(func(s *sight) string {
		switch {
		case s.item:
			return fmt.Sprint(s.size, s.sum, s.mode, s.uid, s.gid)
		case s.typ() == unix.S_IFREG:
			return fmt.Sprint(s.size, s.mtime.Sec, s.mode, s.uid, s.gid)
		}
		return fmt.Sprint(s.mode, s.uid, s.gid)
	})
	got := jsonLines[foundLine](t, g.h.run("find", g.store, g.path, "--json", "--perm", "/0"))
	compareSets(t, "find --perm", g.lines(got, nil), wanted)
}

// lines brings what was found into the form of versions.
func (g *searchedGroup) lines(got []foundLine, _ any) map[string]int {
	out := map[string]int{}
	for _, f := range got {
		below := strings.TrimPrefix(f.path(), g.path+"/"+f.Last+"/")
		out[fmt.Sprintf("%q %d %s %s", below, f.Count, f.First, f.Last)]++
	}
	return out
}

// versions are the states of all paths, told apart by key: in how many snapshots, from
// when to when.
func (g *searchedGroup) versions(key func(*sight) string) map[string]int {
	type version struct{ path, key string }
	in := map[version][]string{}
	for _, at := range g.seen.times() {
		for below, s := range g.seen[at] {
			v := version{below, fmt.Sprint(s.typ(), " ", key(s))}
			in[v] = append(in[v], at)
		}
	}
	out := map[string]int{}
	for v, times := range in {
		out[fmt.Sprintf("%q %d %s %s", v.path, len(times), times[0], times[len(times)-1])]++
	}
	return out
}

// compareSets tells what is in only one of two sets.
func compareSets(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	for k, n := range want {
		if got[k] != n {
			t.Errorf("%s: %s: got %d, want %d", what, k, got[k], n)
		}
	}
	for k, n := range got {
		if want[k] == 0 {
			t.Errorf("%s: %s: got %d, want none", what, k, n)
		}
	}
	if len(want) == 0 {
		t.Errorf("%s: nothing was compared", what)
	}
}

// detail is one aspect of a change in JSON.
type detail struct{ What, Name string }

// changeLine is a line of diff --json.
type changeLine struct {
	Change, Path, From string
	What               []detail
}

func (g *searchedGroup) diff(t *testing.T) {
	times := g.seen.times()
	for i := 1; i < len(times); i++ {
		g.diffOf(t, times[i-1], times[i])
	}
	g.diffOf(t, times[len(times)-1], times[0])
}

func (g *searchedGroup) diffOf(t *testing.T, from, to string) {
	t.Helper()
	got := map[string]int{}
	lines := jsonLines[changeLine](t, g.h.run("diff", g.store, g.path+"/"+from, g.path+"/"+to, "--json"))
	for _, l := range lines {
		switch l.Change {
		case "moved":
			got[fmt.Sprintf("removed %q", l.From)]++
			got[fmt.Sprintf("added %q", l.Path)]++
			if old, is := g.seen[from][l.From], g.seen[to][l.Path]; old == nil || is == nil || old.sum != is.sum {
				t.Errorf("%s to %s: %q is said to be %q, moved", from, to, l.Path, l.From)
			}
		case "changed":
			var what []string
			for _, d := range l.What {
				what = append(what, strings.TrimSpace(d.What))
			}
			slices.Sort(what)
			got[fmt.Sprintf("changed %q %s", l.Path, slices.Compact(what))]++
		default:
			got[fmt.Sprintf("%s %q", l.Change, l.Path)]++
		}
	}
	want := g.expected(from, to)
	if len(want)+len(got) > 0 {
		compareSets(t, fmt.Sprintf("diff of %s and %s", from, to), got, want)
	}
}

// expected is what a diff must say.
func (g *searchedGroup) expected(from, to string) map[string]int {
	out := map[string]int{}
	a, b := g.seen[from], g.seen[to]
	all := maps.Clone(a)
	maps.Copy(all, b)
	for below := range all {
		switch below {
		case "index.json", "client.log", "catalog.pcat1":
			continue
		}
		shown := strings.ToValidUTF8(below, "\ufffd")
		old, is := a[below], b[below]
		switch {
		case old == nil:
			out[fmt.Sprintf("added %q", shown)]++
		case is == nil:
			out[fmt.Sprintf("removed %q", shown)]++
		default:
			if what := aspects(old, is); len(what) > 0 {
				out[fmt.Sprintf("changed %q %s", shown, what)]++
			}
		}
	}
	return out
}

// aspects says in what two states of a file differ.
func aspects(old, is *sight) []string {
	var out []string
	differ := func(what string, yes bool) {
		if yes {
			out = append(out, what)
		}
	}
	bothFiles := old.typ() == unix.S_IFREG && is.typ() == unix.S_IFREG
	differ("content", bothFiles && old.sum != is.sum)
	if !old.item {
		bothDirs := old.typ() == unix.S_IFDIR && is.typ() == unix.S_IFDIR
		differ("mode", old.mode&0o7777 != is.mode&0o7777)
		differ("mtime", !bothDirs && old.mtime != is.mtime)
		differ("owner", old.uid != is.uid || old.gid != is.gid)
	}
	differ("size", bothFiles && old.size != is.size)
	differ("target", old.target != is.target)
	differ("type", old.typ() != is.typ())
	differ("xattr", !old.item && old.xattrs != is.xattrs)
	return out
}

// versionLine is a line of history --json.
type versionLine struct {
	State       string
	Count       int
	First, Last string
	Content     int
	Added       int `json:"entries_added"`
	Removed     int `json:"entries_removed"`
}

// history asks for the history of some paths that change, and of some that do not.
func (g *searchedGroup) history(t *testing.T) {
	byStates := map[int][]string{}
	paths := map[string]bool{}
	for _, s := range g.seen {
		for below := range s {
			paths[below] = true
		}
	}
	for _, below := range slices.Sorted(maps.Keys(paths)) {
		n := len(g.states(below))
		byStates[n] = append(byStates[n], below)
	}
	asked := 0
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(byStates))) {
		for _, below := range byStates[n][:min(2, len(byStates[n]))] {
			if asked++; asked > 12 {
				return
			}
			g.historyOf(t, below)
		}
	}
}

// states are those of a path, oldest first, each with the snapshots that have it.
func (g *searchedGroup) states(below string) [][]string {
	var out [][]string
	var last *sight
	for i, at := range g.seen.times() {
		s := g.seen[at][below]
		if i > 0 && (s == nil && last == nil || s != nil && last != nil && g.same(below, last, s, out[len(out)-1][0], at)) {
			out[len(out)-1] = append(out[len(out)-1], at)
		} else {
			out = append(out, []string{at})
		}
		last = s
	}
	return out
}

// same reports whether a path is in one state in two snapshots. A directory has the names
// in it as well, and its time.
func (g *searchedGroup) same(below string, old, is *sight, from, to string) bool {
	if len(aspects(old, is)) > 0 || !old.item && old.mtime != is.mtime {
		return false
	}
	return old.typ() != unix.S_IFDIR || slices.Equal(g.names(below, from), g.names(below, to))
}

func (g *searchedGroup) names(dir, at string) []string {
	var out []string
	for below := range g.seen[at] {
		if path.Dir(below) == dir {
			out = append(out, path.Base(below))
		}
	}
	slices.Sort(out)
	return out
}

func (g *searchedGroup) historyOf(t *testing.T, below string) {
	t.Helper()
	lines := jsonLines[versionLine](t, g.h.run("history", g.store, g.path+"/"+below, "--json"))
	slices.Reverse(lines)
	var got, want []string
	contents := map[string]int{}
	for _, l := range lines {
		got = append(got, fmt.Sprintf("%s %d %s %s %d", l.State, l.Count, l.First, l.Last, l.Content))
	}
	for _, times := range g.states(below) {
		s, state, content := g.seen[times[0]][below], "absent", 0
		if s != nil {
			state = "present"
			if s.sum != "" && contents[s.sum] == 0 {
				contents[s.sum] = len(contents) + 1
			}
			content = contents[s.sum]
		}
		want = append(want, fmt.Sprintf("%s %d %s %s %d", state, len(times), times[0], times[len(times)-1], content))
	}
	if !slices.Equal(got, want) {
		t.Errorf("history of %q:\ngot  %q\nwant %q", below, got, want)
	}
}
