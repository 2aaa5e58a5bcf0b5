package locate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestAnArgumentMeansANameOrAPath(t *testing.T) {
	s := storetest.New(t)
	other := storetest.New(t)
	empty := t.TempDir()
	link := filepath.Join(empty, "link")
	if err := os.Symlink(s.Dir, link); err != nil {
		t.Fatal(err)
	}
	host := storetest.Host(t, "datastore: tank\n\tpath "+s.Dir+"\n")
	for _, c := range []struct {
		arg  string
		name string // its beginning
		path string
		err  string // in it
	}{
		{"tank", "tank", s.Dir, ""},
		{s.Dir, "tank", s.Dir, ""},
		{s.Dir + "/", "tank", s.Dir, ""},
		{link, "tank", s.Dir, ""},
		{other.Dir, filepath.Base(other.Dir) + "-", other.Dir, ""},
		{"none", "", "", "no datastore none in "},
		{filepath.Join(empty, "none"), "", "", "no such directory"},
		{empty + "/", "", "", "it has no directory .chunks"},
		{"", "", "", "empty"},
	} {
		got, err := Resolve(host, c.arg)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%q: %+v, %v, want an error with %q", c.arg, got, err, c.err)
		case c.err == "" && (err != nil || !strings.HasPrefix(got.Name, c.name) || got.Path != c.path || got.ID.IsZero()):
			t.Errorf("%q: %+v, %v, want %s in %s", c.arg, got, err, c.name, c.path)
		}
	}
	var wrong *usage.Error
	if _, err := Resolve(host, ""); !errors.As(err, &wrong) {
		t.Errorf("an empty name: %v, want a usage error", err)
	}
}

func TestStandbyTakesADirectoryThatIsNotThere(t *testing.T) {
	host := storetest.Host(t, "")
	dir := filepath.Join(t.TempDir(), "later")
	if _, err := Attach(t.Context(), host, Request{Datastore: dir}, procfs.ProcessMark{}); err == nil {
		t.Error("attached to what is not there")
	}
	at, err := Attach(t.Context(), host, Request{Datastore: dir, Standby: true}, procfs.ProcessMark{})
	if err != nil || at.Path != dir || at.TookDevice() {
		t.Fatalf("%+v, %v, want a datastore in %s, later", at, err, dir)
	}
	if err := at.End(false); err != nil {
		t.Error(err)
	}
}

func TestMayHold(t *testing.T) {
	s := storetest.New(t)
	for dir, want := range map[string]bool{s.Dir: true, t.TempDir(): false, filepath.Join(t.TempDir(), "none"): false} {
		if got := MayHold(t.Context(), dir); got != want {
			t.Errorf("%s: %v, want %v", dir, got, want)
		}
	}
}
