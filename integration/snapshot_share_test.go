package integration

import (
	"path/filepath"
	"testing"
)

// What the official client stored is found again when we store the same files:
// read through a mount of its snapshots, and written beside them.
func TestChunksOfTheOfficialClientAreUsed(t *testing.T) {
	needFUSE(t)
	for _, c := range []struct {
		store, snapshot string
		format          string
		archives        []string
		most            int // new chunks: the client's buffers have a say in split archives
	}{
		{"ds-basic", "host/alpha/2023-11-19T22:13:20Z", "pxar", []string{"root.pxar", "etc.pxar"}, 0},
		{"ds-split", "host/split/2023-11-14T22:30:00Z", "split", []string{"root.pxar", "sys.pxar"}, 3},
	} {
		t.Run(c.format, func(t *testing.T) {
			h := newHost(t)
			store := copyFixture(t, c.store)
			m := h.mount(store)
			var args []string
			for _, name := range c.archives {
				args = append(args, name+":"+m.path(c.snapshot, name))
			}
			args = append(args, store, "--id", "again", "--format", c.format)
			_, before := snapshotFiles(t, store)
			name := h.create(args...)
			_, after := snapshotFiles(t, store)
			if n := len(after) - len(before); n > c.most {
				t.Errorf("%d new chunks, want at most %d", n, c.most)
			}
			for _, index := range indexesOf(t, filepath.Join(store, name)) {
				t.Logf("%s: %d chunks", filepath.Base(index), len(digestsOf(t, index)))
			}
		})
	}
}

// indexesOf returns the index files of a snapshot.
func indexesOf(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*idx"))
	must(t, err)
	return list
}
