package tree_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// TestHostileArchives makes archives up: what is sound in them can be read, what is not gives an
// error about damage, a listing that leaves something out says so, and nothing takes long or much
// memory.
func TestHostileArchives(t *testing.T) {
	for _, h := range storetest.HostileArchives() {
		t.Run(h.What, func(t *testing.T) {
			s := storetest.InMemory(t)
			sn := s.Snapshot("host/a", noon)
			h.Write(sn)
			sn.Finish()
			v := open(t, s)
			survey(t, v, sn.Dir, true, 512<<20)
			checkHostile(v, h, sn.Dir+"/root.pxar")
		})
	}
}

// checkHostile compares what is listed and read with what is wanted.
func checkHostile(v *view, h storetest.Hostile, top string) {
	v.t.Helper()
	names, damage := v.list(top)
	if got := strings.Join(names, " "); got != h.Names {
		v.t.Errorf("lists %.100q, want %q", got, h.Names)
	}
	if (damage == nil) != h.Complete {
		v.t.Errorf("the listing ends with %v, want one that is complete: %v", damage, h.Complete)
	}
	for _, p := range h.Whole {
		if got := v.read(top + "/" + p); got != "fine" {
			v.t.Errorf("%s says %q", p, got)
		}
	}
	for _, p := range h.Broken {
		if err := v.use(top + "/" + p); !errors.Is(err, store.ErrCorrupt) {
			v.t.Errorf("%s: %v, want damage", p, err)
		}
	}
}

// use looks a path up, and lists or reads what is there.
func (v *view) use(path string) error {
	n, err := v.Walk(v.t.Context(), v.r, path, false)
	if err != nil {
		return err
	}
	if n.IsDir() {
		return tree.Visit(v.t.Context(), v.r, n, func(tree.Entry) error { return nil })
	}
	f, err := n.Open(v.t.Context(), v.r)
	if err != nil {
		return err
	}
	_, err = f.ReadAt(v.t.Context(), v.r, make([]byte, 1), 0)
	return err
}
