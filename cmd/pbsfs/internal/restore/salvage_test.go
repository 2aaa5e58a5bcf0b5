package restore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// A file with zeros that an interrupted restore has left is named again by the one that goes
// on, and one that does not salvage does not go on with it.
func TestSalvageGoesOn(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	var text strings.Builder
	for i := range 250 {
		fmt.Fprintf(&text, "%04d", i)
	}
	chunks := sn.Pxar("root.pxar.didx", mine(storetest.Dir("", storetest.File("whole", "x"), storetest.File("big", text.String()))))
	sn.Finish()
	s.Remove(storetest.ChunkFile(chunks[3]))
	v := openWith(t, s, store.Options{Salvage: true})
	from, to := v.source(sn.Dir+"/root.pxar"), filepath.Join(t.TempDir(), "to")
	first := v.restore(from, to, Options{Salvage: true})
	content, err := os.ReadFile(filepath.Join(to, "big"))
	if err != nil || first.Zeros != 1 || !errors.Is(first.Err(), store.ErrCorrupt) || bytes.Count(content, []byte{0}) != 200 {
		t.Fatalf("%v, %+v, want one file with 200 zeros", err, first)
	}
	value := make([]byte, 100)
	n, err := unix.Getxattr(filepath.Join(to, "big"), tree.DamagedName, value)
	if errors.Is(err, unix.ENOTSUP) {
		t.Skip("the temporary directory has no extended attributes")
	}
	if want := "bytes " + string(value[:max(n, 0)]); err != nil || first.Problems[0].Error != want {
		t.Errorf("marked %q, %v, reported %+v", value[:max(n, 0)], err, first.Problems)
	}
	marker := `{"pbsfs_restore":1,"datastore":"","sources":[{"path":"` + from.Path + `","name":"","id":""}],"patterns":null}` + "\n"
	if err := os.WriteFile(filepath.Join(to, markerName), []byte(marker), 0o600); err != nil {
		t.Fatal(err)
	}
	again := v.restore(from, to, Options{Salvage: true, Verify: true})
	if !again.Resumed || again.Kept != 2 || again.Zeros != 1 || again.Differs != 0 || again.Problems[0] != first.Problems[0] {
		t.Errorf("going on: %+v, want the problem of the first time", again)
	}
	salvaging, strict := Marker{Version: 1, Salvage: true}, Marker{Version: 1}
	if _, err := Tree(t.Context(), v.r, v.guard, []Source{from}, to, strict, Options{}); err == nil {
		t.Error("went into a directory that is not empty")
	}
	for _, m := range []Marker{salvaging, strict} {
		text := `{"pbsfs_restore":1,"datastore":"","sources":null,"patterns":null}` + "\n"
		if err := os.WriteFile(filepath.Join(to, markerName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Tree(t.Context(), v.r, v.guard, []Source{from}, to, m, Options{}); (err == nil) == m.Salvage {
			t.Errorf("a restore with salvage %v goes on with one without: %v", m.Salvage, err)
		}
	}
}
