package tree_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// manifests are made up as a whole.
func manifests() map[string]struct {
	raw    []byte
	listed int // names in the snapshot, 0 if it cannot be entered
} {
	return map[string]struct {
		raw    []byte
		listed int
	}{
		"that becomes a GiB":                 {storetest.ZstdBomb(gib), 0},
		"of 20 MiB":                          {storetest.Blob(append(storetest.ManyFiles(1), bytes.Repeat([]byte(" "), 20*mib)...), nil), 0},
		"of a million files":                 {storetest.Compressed(storetest.ManyLines(1_000_000)), 0},
		"of 7,000 files":                     {storetest.Compressed(storetest.ManyFiles(7_000)), 7_001},
		"of a million levels":                {storetest.Blob([]byte(`{"files":`+strings.Repeat("[", 1_000_000)), nil), 0},
		"of a million levels, and their end": {storetest.Compressed([]byte(`{"files":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + "}")), 0},
	}
}

// TestHostileFiles has files of snapshots made up: what lies beside them can be read, they give
// errors about damage, and nothing takes long or much memory.
func TestHostileFiles(t *testing.T) {
	for _, h := range storetest.HostileFiles() {
		t.Run(h.What, func(t *testing.T) {
			testHostileFile(t, h, func(v *view, dir string) { survey(t, v, dir, true, 512*mib) })
		})
	}
}

// testHostileFile writes the snapshot, looks at it, and checks what can be read and what cannot.
func testHostileFile(t *testing.T, h storetest.HostileFile, look func(v *view, dir string)) {
	t.Helper()
	s := storetest.InMemory(t)
	sn := s.Snapshot("host/a", noon)
	sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("good", "fine")))
	h.Add(sn)
	sn.Finish()
	v := open(t, s)
	look(v, sn.Dir)
	if got := v.read(sn.Dir + "/root.pxar/good"); got != "fine" {
		t.Errorf("what lies beside says %q", got)
	}
	for _, p := range h.Broken {
		if err := v.use(sn.Dir + "/" + p); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v, want damage", p, err)
		}
	}
	for p, want := range h.Sizes {
		if got := v.walk(sn.Dir + "/" + p).Attr().Size; got != want {
			t.Errorf("%s has %d bytes, want %d", p, got, want)
		}
	}
}

func TestHostileManifests(t *testing.T) {
	for what, m := range manifests() {
		t.Run(what, func(t *testing.T) {
			s := storetest.InMemory(t)
			good := s.Snapshot("host/a", evening)
			good.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("good", "fine")))
			good.Finish()
			dir := "host/a/" + noon
			s.Write(dir+"/"+name.Manifest.String(), m.raw)
			v := open(t, s)
			before := allocated()
			n := v.walk(dir)
			l, err := n.List(t.Context(), v.r)
			switch {
			case m.listed == 0 && !errors.Is(err, store.ErrCorrupt):
				t.Errorf("it can be entered: %v", err)
			case m.listed > 0 && (err != nil || l.Len() != m.listed):
				t.Errorf("%v, want %d names", err, m.listed)
			}
			if got := allocated() - before; got > 512*mib {
				t.Errorf("it took %d MiB of memory", got/mib)
			}
			if got := v.read(good.Dir + "/root.pxar/good"); got != "fine" {
				t.Errorf("what lies beside says %q", got)
			}
		})
	}
}
