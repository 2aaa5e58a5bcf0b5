package mountpoint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestCheckMountpoint(t *testing.T) {
	s := storetest.New(t)
	top := t.TempDir()
	empty, full, file, link, inside := filepath.Join(top, "empty"), filepath.Join(top, "full"), filepath.Join(top, "file"), filepath.Join(top, "link"), filepath.Join(s.Dir, "inside")
	for _, err := range []error{
		os.Mkdir(empty, 0o755), os.MkdirAll(filepath.Join(full, "x"), 0o755), os.WriteFile(file, nil, 0o644), os.Symlink(s.Dir, link), os.Mkdir(inside, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		where    string
		nonempty bool
		want     string // in the error; "" for none
	}{
		{empty, false, ""},
		{empty, true, ""},
		{full, false, "not empty"},
		{full, true, ""},
		{file, false, "not a directory"},
		{filepath.Join(top, "none"), false, "no such directory"},
		{filepath.Join(file, "x"), false, "not a directory"},
		{s.Dir, true, "on itself"},
		{link, true, "on itself"},
		{inside, true, "inside the datastore"},
		{filepath.Join(link, "inside"), true, "inside the datastore"},
		{filepath.Dir(s.Dir), true, "above the datastore"},
		{"/", true, "above the datastore"},
	} {
		err := Check(t.Context(), c.where, s.Dir, c.nonempty)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, nonempty %v: %v, want %q", c.where, c.nonempty, err, c.want)
		}
	}
	// The datastore may be named by a link, too.
	if err := Check(t.Context(), inside, link, true); err == nil || !strings.Contains(err.Error(), "inside the datastore") {
		t.Errorf("inside a datastore named by a link: %v", err)
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{{"/a/b", "/a", true}, {"/a", "/a", false}, {"/ab", "/a", false}, {"/a", "/", true}, {"/", "/", true}, {"/a", "/a/b", false}} {
		if got := below(c.path, c.dir); got != c.want {
			t.Errorf("below(%s, %s) = %v, want %v", c.path, c.dir, got, c.want)
		}
	}
}
