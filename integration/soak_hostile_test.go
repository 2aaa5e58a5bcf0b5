package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store/storetest"
)

// TestManyNamesAboveSnapshots has a datastore with more and more namespaces, groups and
// snapshots, up to 100,000 of each. Each listing has all of them, and the process takes the
// memory that it may.
func TestManyNamesAboveSnapshots(t *testing.T) {
	needRoot(t)
	const most, cacheMiB, maxInodes = 100_000, 64, 20_000
	s := storetest.InMemory(t)
	m := mountAt(t, s.Dir, "--cache-size", fmt.Sprintf("%dMiB", cacheMiB), "--max-inodes", fmt.Sprint(maxInodes))
	made := 0
	// The next round takes twice as long as all before it.
	for began := time.Now(); made < most && (made == 0 || 3*time.Since(began) < soakTime(t, 3)); {
		made = crowded(t, s, made, min(max(1000, 2*made), most))
		for dir, want := range map[string]int{"ns": made, "host": made + 1, "host/many": made + 1} { // and the group of many; and latest
			eventually(t, "all names in "+dir, func() error {
				names, err := namesOf(m.path(dir))
				if err != nil || len(names) != want {
					return unlike("%d names, %v, want %d", len(names), err, want)
				}
				return nil
			})
		}
		for i := 0; i < made; i += made/50 + 1 {
			if _, err := os.Stat(m.path("host/many", momentOf(i), "index.json")); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("%d namespaces, groups and snapshots", made)
	m.wantMemory(cacheMiB, maxInodes)
}

func momentOf(i int) string {
	return time.Unix(1_700_000_000+int64(i), 0).UTC().Format(time.RFC3339)
}

// crowded adds namespaces, groups and snapshots to those that are there. All snapshots have one
// manifest.
func crowded(t *testing.T, s *storetest.Store, from, to int) int {
	t.Helper()
	manifest := filepath.Join(s.Dir, "host/many", momentOf(0), "index.json.blob")
	if from == 0 {
		s.Snapshot("host/many", momentOf(0)).Finish()
	}
	for i := from; i < to; i++ {
		s.Mkdir(fmt.Sprint("ns/n", i))
		s.Mkdir(fmt.Sprint("host/g", i))
		if i > 0 {
			s.Mkdir("host/many/" + momentOf(i))
			must(t, os.Link(manifest, filepath.Join(s.Dir, "host/many", momentOf(i), "index.json.blob")))
		}
	}
	return to
}
