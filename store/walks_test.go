package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// farDirs is an archive of directories between which there is more content than a reader
// of the stream would skip.
func farDirs(n int) *storetest.Node {
	root := storetest.Dir("")
	for i := range n {
		content := strings.Repeat(fmt.Sprintf("content %d ", i), 400)
		root.Kids = append(root.Kids, storetest.Dir(dirName(i), storetest.File("content", content)), storetest.File(dirName(i)+" and after", content))
	}
	return root
}

func dirName(i int) string { return fmt.Sprintf("dir-%02d", i) }

// removeAll removes chunks, of which some may be the same.
func (p *place) removeAll(chunks []name.Digest) {
	gone := make(map[name.Digest]bool)
	for _, d := range chunks {
		if !gone[d] {
			p.Remove(storetest.ChunkFile(d))
		}
		gone[d] = true
	}
}

// visit comes to a directory, as a program does that goes from one to the next, and
// returns those of its children that are directories.
func (p *place) visit(r *store.Reader, a *store.Archive, dir pxar.Dir) (dirs []pxar.Dir) {
	p.t.Helper()
	table, err := a.Table(p.t.Context(), r, dir)
	if err != nil {
		p.t.Fatal(err)
	}
	v := a.Visit(table)
	for n := 0; ; n++ {
		i, ok := table.Only(dirName(n))
		if !ok {
			break
		}
		_, e, err := a.Child(p.t.Context(), r, table, i)
		if err != nil {
			p.t.Fatal(err)
		}
		dirs = append(dirs, e.Dir)
		v.Below(p.t.Context(), r, i)
	}
	v.Ahead(p.t.Context(), r)
	store.WaitForLoads(p.ref)
	return dirs
}

func TestWalkHasItsNextDirectoriesLoaded(t *testing.T) {
	for _, c := range []struct {
		name    string
		visited []int // of the directories below the top, after the top
		next    int
		loaded  bool
	}{
		{"not at the top", nil, 0, false},
		{"after two", []int{0, 1}, 2, true},
		{"after some", []int{0, 1, 2}, 3, true},
		{"but some are left out", []int{0, 1, 3}, 4, true},
		{"not after a jump back", []int{5, 0}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			sn := p.Snapshot(alpha, noon)
			chunks := sn.Pxar("root.pxar.didx", farDirs(8))
			sn.Finish()
			r := p.reader()
			s := p.load(r, sn.Dir)
			a, err := s.Archive(t.Context(), r, p.line(s, "root.pxar.didx"))
			if err != nil {
				t.Fatal(err)
			}
			root, err := a.Root(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			dirs := p.visit(r, a, root.Dir)
			for _, i := range c.visited {
				p.visit(r, a, dirs[i])
			}
			p.removeAll(chunks)
			_, err = a.Table(t.Context(), r, dirs[c.next])
			if loaded := err == nil; loaded != c.loaded || err != nil && !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("the table of the next directory is in memory: %v, want %v (%v)", loaded, c.loaded, err)
			}
		})
	}
}
