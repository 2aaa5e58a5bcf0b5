package find_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/find"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// group is a group of snapshots that is being made.
type group struct {
	t     *testing.T
	s     *storetest.Store
	snaps []name.Snapshot
	limit int64 // how much is read before it is walked; 0: what is usual
}

func newGroup(t *testing.T) *group { return &group{t: t, s: storetest.New(t)} }

// add makes the next snapshot.
func (g *group) add(fill func(*storetest.Snapshot)) *storetest.Snapshot {
	g.t.Helper()
	at := time.Date(2023, 1, 1+len(g.snaps), 12, 0, 0, 0, time.UTC)
	sn := g.s.Snapshot("host/alpha", at.Format("2006-01-02T15:04:05Z"))
	fill(sn)
	sn.Finish()
	g.snaps = append(g.snaps, g.named(at))
	return sn
}

func (g *group) named(at time.Time) name.Snapshot {
	g.t.Helper()
	alpha, err := name.NewGroup(name.Namespace{}, name.Host, "alpha")
	if err != nil {
		g.t.Fatal(err)
	}
	when, err := name.NewTime(at)
	if err != nil {
		g.t.Fatal(err)
	}
	s, err := name.NewSnapshot(alpha, when)
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

// result is what a search says.
type result struct {
	lines    []string
	problems []error
	seen     int64
	most     int64 // of operations that were active at a time
}

// search searches the group, with at most held snapshots locked.
func (g *group) search(f *find.Filter, held int, at ...string) result {
	g.t.Helper()
	ref, err := store.Open(g.t.Context(), store.Options{Name: "tank", Path: g.s.Dir, Host: storetest.Host(g.t, "")})
	if err != nil {
		g.t.Fatal(err)
	}
	holds, err := tree.NewHolds(g.t.Context(), ref, held)
	if err != nil {
		g.t.Fatal(err)
	}
	var out result
	var seen, most atomic.Int64
	var mu sync.Mutex
	s := &find.Search{
		Holds: holds, Tree: tree.New(ref), Filter: f,
		Fn: func(x find.Found) error {
			out.lines = append(out.lines, fmt.Sprintf("%s %d %s %s", x.Below, x.Count, x.First.Time().Time().Format("0102"), x.Last.Time().Time().Format("0102")))
			return nil
		},
		Problem: func(_ string, err error) {
			mu.Lock()
			defer mu.Unlock()
			out.problems = append(out.problems, err)
		},
		Seen: func(n int) {
			seen.Add(int64(n))
			most.Store(max(most.Load(), ref.Operations().Read))
		},
	}
	s.SetLimit(g.limit)
	if err := s.Group(g.t.Context(), g.snaps, at); err != nil {
		g.t.Error(err)
	}
	holds.Close()
	if err := ref.Close(); err != nil {
		g.t.Error(err)
	}
	out.seen, out.most = seen.Load(), most.Load()
	return out
}

// many returns a tree of some directories.
func many(special string) *storetest.Node {
	var dirs []*storetest.Node
	for d := range 10 {
		var files []*storetest.Node
		for f := range 20 {
			files = append(files, storetest.File(fmt.Sprintf("file-%02d", f), "x"))
		}
		dirs = append(dirs, storetest.Dir(fmt.Sprintf("dir-%02d", d), files...))
	}
	dirs[5].Kids[7].Data = special
	return storetest.Dir("", dirs...)
}

// What is the same in many snapshots is looked at once, whatever the archive consists of.
func TestWhatIsTheSameIsWalkedOnce(t *testing.T) {
	const snapshots, entries = 24, 210
	for format, store := range map[string]func(*storetest.Snapshot, *storetest.Node){
		"catalog": func(sn *storetest.Snapshot, root *storetest.Node) {
			sn.Pxar("root.pxar.didx", root)
			sn.Catalog("root.pxar.didx", root)
		},
		"split": func(sn *storetest.Snapshot, root *storetest.Node) { sn.Split("root", root) },
	} {
		g := newGroup(t)
		for i := range snapshots {
			g.add(func(sn *storetest.Snapshot) { store(sn, many(strings.Repeat("y", i%4))) })
		}
		got := g.search(&find.Filter{Names: []find.Name{{Glob: "file-07"}}}, 8)
		want := []string{}
		for d := range 10 {
			if d != 5 {
				want = append(want, fmt.Sprintf("root.pxar/dir-%02d/file-07 24 0101 0124", d))
				continue
			}
			for i := range 4 { // one state for each size, the newest first
				want = append(want, fmt.Sprintf("root.pxar/dir-05/file-07 6 010%d 01%02d", 4-i, 24-i))
			}
		}
		if !slices.Equal(got.lines, want) || len(got.problems) > 0 {
			t.Errorf("%s: got %q, %v\nwant %q", format, got.lines, got.problems, want)
		}
		// Each snapshot has an entry or two of its own, and each state of the tree its
		// top and the directory that has changed. Two workers may read one at a time.
		if limit := int64(entries + snapshots*3 + 2*4*(10+20)); got.seen > limit {
			t.Errorf("%s: %d entries were looked at, want no more than %d of %d", format, got.seen, limit, snapshots*entries)
		}
		if got.most > 2 { // that of the search, and that of a load ahead
			t.Errorf("%s: %d operations at a time, want one for all snapshots", format, got.most)
		}
	}
}

// A hard link has the size and the time of the file that it leads to in each snapshot.
func TestHardLinksAreFollowedInEachSnapshot(t *testing.T) {
	for _, split := range []bool{false, true} {
		g := newGroup(t)
		for _, data := range []string{"x", "x", "longer"} {
			file := storetest.File("a", data)
			root := storetest.Dir("", file, storetest.Dir("dir", storetest.Link("hard", file)))
			g.add(func(sn *storetest.Snapshot) {
				if split {
					sn.Split("root", root)
					return
				}
				sn.Pxar("root.pxar.didx", root)
				sn.Catalog("root.pxar.didx", root)
			})
		}
		got := g.search(&find.Filter{Names: []find.Name{{Glob: "hard"}}}, 8)
		want := []string{"root.pxar/dir/hard 1 0103 0103", "root.pxar/dir/hard 2 0101 0102"}
		if !slices.Equal(got.lines, want) {
			t.Errorf("split %t: got %q, want %q", split, got.lines, want)
		}
	}
}

// What is found does not depend on how much is read before it is walked: directories that
// are too large for that are walked one by one.
func TestLargeDirectoriesAreWalkedOneByOne(t *testing.T) {
	for _, split := range []bool{false, true} {
		g := newGroup(t)
		for i := range 5 {
			root := many(strings.Repeat("y", i%3))
			file := root.Kids[0].Kids[0]
			file.Data = strings.Repeat("z", i%2)
			root.Kids = append(root.Kids, storetest.Dir("link", storetest.Link("hard", file)))
			g.add(func(sn *storetest.Snapshot) {
				if split {
					sn.Split("root", root)
					return
				}
				sn.Pxar("root.pxar.didx", root)
				sn.Catalog("root.pxar.didx", root)
			})
		}
		for _, f := range []find.Filter{{}, {Owned: true}} {
			g.limit = 0
			want := g.search(&f, 8)
			if len(want.lines) < 220 || len(want.problems) > 0 {
				t.Fatalf("found %d lines, %v", len(want.lines), want.problems)
			}
			for _, g.limit = range []int64{1, 600, 3000} {
				if got := g.search(&f, 8); !slices.Equal(got.lines, want.lines) || len(got.problems) > 0 {
					t.Errorf("split %t, limit %d: got %d lines, %v, want %d, the same", split, g.limit, len(got.lines), got.problems, len(want.lines))
				}
				for _, l := range g.search(&f, 8, "root.pxar", "dir-05").lines {
					if !slices.Contains(want.lines, l) || !strings.HasPrefix(l, "root.pxar/dir-05") {
						t.Errorf("limit %d: found %s", g.limit, l)
					}
				}
			}
		}
	}
}

// Damage is told, and what is not damaged is found. A snapshot that is gone is left out.
func TestTheRestIsFound(t *testing.T) {
	g := newGroup(t)
	var lost []name.Digest
	for i := range 3 {
		g.add(func(sn *storetest.Snapshot) {
			digests, _ := sn.Split("root", many(strings.Repeat("y", 1+i)))
			if i == 1 {
				lost = digests
			}
		})
	}
	gone := g.add(func(sn *storetest.Snapshot) { sn.Split("root", many("z")) })
	g.s.Remove(gone.Dir)
	whole := g.search(&find.Filter{Types: []uint32{unix.S_IFREG}}, 8)
	if n := len(whole.lines); n != 202+3 || len(whole.problems) > 0 { // and three manifests
		t.Errorf("before the damage %d lines, %v, want 205", n, whole.problems)
	}
	g.s.Remove(storetest.ChunkFile(lost[len(lost)/2]))
	got := g.search(&find.Filter{Types: []uint32{unix.S_IFREG}}, 8)
	if len(got.problems) == 0 || !errors.Is(got.problems[0], store.ErrCorrupt) {
		t.Errorf("problems: %v, want damage", got.problems)
	}
	inAll := 0
	for _, l := range got.lines {
		if strings.HasSuffix(l, " 3 0101 0103") {
			inAll++
		}
	}
	if inAll == 0 || inAll >= 199 {
		t.Errorf("%d files were found in all snapshots, want some, and not all", inAll)
	}
}

func TestFilters(t *testing.T) {
	g := newGroup(t)
	dir := storetest.Dir("etc", storetest.File("hosts", "1234"), storetest.File("Hosts.bak", "x"), storetest.Symlink("link", "hosts"))
	dir.Kids[0].UID, dir.Kids[0].Sec = 1000, 1000
	g.add(func(sn *storetest.Snapshot) {
		root := storetest.Dir("", dir, storetest.Dir("deep", storetest.Dir("er", storetest.File("hosts", ""))))
		sn.Pxar("root.pxar.didx", root)
		sn.Catalog("root.pxar.didx", root)
		sn.Fixed("disk.img.fidx", 64<<10, make([]byte, 64<<10))
	})
	for what, c := range map[string]struct {
		filter find.Filter
		at     []string
		want   string
	}{
		"name":            {filter: find.Filter{Names: []find.Name{{Glob: "hosts"}}}, want: "root.pxar/deep/er/hosts root.pxar/etc/hosts"},
		"either case":     {filter: find.Filter{Names: []find.Name{{Glob: "HOSTS*", Fold: true}}}, want: "root.pxar/deep/er/hosts root.pxar/etc/Hosts.bak root.pxar/etc/hosts"},
		"one of two":      {filter: find.Filter{Names: []find.Name{{Glob: "link"}, {Glob: "*.img"}}}, want: "disk.img root.pxar/etc/link"},
		"path":            {filter: find.Filter{Paths: []string{"**/er/*"}}, want: "root.pxar/deep/er/hosts"},
		"path, one level": {filter: find.Filter{Paths: []string{"*/hosts"}}, want: "root.pxar/etc/hosts"},
		"type":            {filter: find.Filter{Types: []uint32{unix.S_IFLNK}}, want: "root.pxar/etc/link"},
		"a directory":     {filter: find.Filter{Names: []find.Name{{Glob: "*"}}, Types: []uint32{unix.S_IFDIR}}, at: []string{"root.pxar", "deep"}, want: "root.pxar/deep root.pxar/deep/er"},
		"size":            {filter: find.Filter{Regular: true, Metadata: []func(find.State) bool{func(s find.State) bool { return s.Size == 4 }}}, want: "root.pxar/etc/hosts"},
		"owner":           {filter: find.Filter{Owned: true, Metadata: []func(find.State) bool{func(s find.State) bool { return s.UID == 1000 }}}, want: "root.pxar/etc/hosts"},
		"a file":          {at: []string{"root.pxar", "etc", "hosts"}, want: "root.pxar/etc/hosts"},
		"nothing there":   {at: []string{"root.pxar", "etc", "hosts", "no"}, want: ""},
	} {
		got := g.search(&c.filter, 8, c.at...)
		var paths []string
		for _, l := range got.lines {
			paths = append(paths, strings.TrimSuffix(l, " 1 0101 0101"))
		}
		if s := strings.Join(paths, " "); s != c.want || len(got.problems) > 0 {
			t.Errorf("%s: got %q, %v, want %q", what, s, got.problems, c.want)
		}
	}
}
