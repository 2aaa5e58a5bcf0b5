package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/storetest"
)

// What is listed can be read, whatever archives and manifests hold, and what the
// kernel cannot hand out does not hide the rest.
func TestListedAttributesCanBeRead(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", "2026-01-01T00:00:00Z")
	sn.Unprotected["notes"] = strings.Repeat("ä", 50_000)
	long := storetest.File("long", "")
	long.With("user."+strings.Repeat("n", 300), "v").With("user."+strings.Repeat("n", 250), "fits").With("user.a", "v")
	large := storetest.File("large", "")
	large.With("user.most", strings.Repeat("v", 64<<10)).With("user.more", strings.Repeat("v", 64<<10+1)).With("user.a", "v")
	many := storetest.Dir("many")
	for i := range 400 {
		many.With(fmt.Sprintf("user.%0200d", i), "v")
	}
	link := storetest.Symlink("link", "long")
	link.With("user.link", "v").With("trusted.link", "v")
	sn.Pxar("root.pxar.didx", storetest.Dir("", long, large, many, link))
	sn.Finish()
	m := mountAt(t, s.Dir)
	for path, want := range map[string]int{"": 3, "root.pxar/long": 2, "root.pxar/large": 2, "root.pxar/many": (64 << 10) / 206, "root.pxar/link": 1} {
		all, err := xattrs(m.path(sn.Dir, path))
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if len(all) < want {
			t.Errorf("%s: %d attributes, want %d", path, len(all), want)
		}
	}
	buf := make([]byte, 64<<10)
	if n, err := unix.Getxattr(m.path(sn.Dir), "user.pbs.comment", buf); err != nil || n != 64<<10 {
		t.Errorf("notes of 100,000 bytes: %d, %v, want the first 64 KiB", n, err)
	}
}

// A group that somebody has renamed, as servers allow, is read; it says where it
// comes from.
func TestMovedSnapshots(t *testing.T) {
	needFUSE(t)
	for what, move := range map[string][2]string{
		"group": {"host/alpha", "host/beta"},
		"type":  {"host/alpha", "vm/alpha"},
		"time":  {"host/alpha/2026-01-01T00:00:00Z", "host/alpha/2026-02-02T00:00:00Z"},
	} {
		t.Run(what, func(t *testing.T) {
			s := storetest.New(t)
			sn := s.Snapshot("host/alpha", "2026-01-01T00:00:00Z")
			sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("file", "content")))
			sn.Finish()
			m := mountAt(t, s.Dir)
			check := func(dir, from string) {
				t.Helper()
				if got, err := os.ReadFile(m.path(dir, "root.pxar/file")); err != nil || string(got) != "content" {
					t.Errorf("%s: %q, %v", dir, got, err)
				}
				if all, err := xattrs(m.path(dir)); err != nil || string(all["user.pbs.moved-from"]) != from {
					t.Errorf("%s: attributes %q, %v, want that it comes from %q", dir, all, err, from)
				}
			}
			check(sn.Dir, "")
			to := strings.Replace(sn.Dir, move[0], move[1], 1)
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(s.Dir, move[1])), 0o755))
			must(t, os.Rename(filepath.Join(s.Dir, move[0]), filepath.Join(s.Dir, move[1])))
			check(to, sn.Dir)
		})
	}
}
